"""The paper's head on a ResNeXt, and the two-class network of one node."""

import functools

import keras
import tensorflow as tf

from bach_keras.network.convolution import PACKAGE
from bach_keras.network.resnext import Architecture, ResNeXt

# Koné & Boulmane (2018), section 3.2, with the widths of fastai 0.7, which they used.
HIDDEN_WIDTH = 512
DROPOUT = (0.25, 0.5)


@keras.saving.register_keras_serializable(PACKAGE)
class Classifier(keras.Model):
    """A ResNeXt with the paper's head, as one flat functional model.

    Inputs are float [N, image_size, image_size, 3], normalised as ``bach_keras.preprocess`` does; the answer is logits
    float32 [N, classes]. ``backbone`` holds fields of ``resnext.Architecture`` that differ from ResNeXt-50 (32x4d),
    ``seed`` is that of the dropout masks.
    """

    def __init__(self, image_size, classes=2, backbone=None, seed=0, name="classifier", **kwargs):
        config = dict(backbone or {})
        body = ResNeXt((image_size, image_size, 3), architecture=Architecture(**config))
        super().__init__(body.input, _head(body.output, classes, seed), name=name, **kwargs)
        # Keras would track the body itself as a second model, though its layers are this model's own already.
        self._body_facts = (body.layer_groups, body.trunk_output)
        self._config = {
            "image_size": image_size, "classes": classes, "backbone": config, "seed": seed, "name": name
        }  # fmt: skip

    @property
    def layer_groups(self) -> dict[str, str]:
        """Group name -> pattern over variable paths: trunk, middle, head."""
        return {**self._body_facts[0], "head": r"(^|/)head\.[^/]*/"}

    @property
    def trunk_output(self) -> str:
        """The name of the layer that ends the trunk."""
        return self._body_facts[1]

    # A property would be saved, as Keras saves whatever models an object's attributes give.
    def features(self) -> keras.Model:
        """Return the network up to the head, on the same weights."""
        return keras.Model(self.input, self.get_layer("head.max").input, name="features")

    def get_config(self):
        return dict(self._config)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


def weight_count(classes=2, **backbone) -> int:
    """Return the number of weights of a ``Classifier`` with this backbone, without building it."""
    shape = Architecture(**backbone)
    cardinality, total, depth = shape.cardinality, (3 * 49 + 4) * shape.stem, shape.stem
    for stage, count in enumerate(shape.blocks):
        width, filters = cardinality * shape.base_width * 2**stage, 4 * shape.stem * 2**stage
        for block in range(count):
            total += depth * width + 9 * width * width // cardinality + width * filters + 4 * (2 * width + filters)
            total += 0 if block else (depth + 4) * filters
            depth = filters
    head = 4 * 2 * depth + (2 * depth + 1) * HIDDEN_WIDTH + 4 * HIDDEN_WIDTH + (HIDDEN_WIDTH + 1) * classes
    return total + head


class Dropout(keras.layers.Dropout):
    """Dropout whose mask on several devices is that of the complete batch; each device takes its own rows of it."""

    def call(self, inputs, training=False):
        context = tf.distribute.get_replica_context()
        if not training or context is None or context.num_replicas_in_sync == 1:
            return super().call(inputs, training=training)
        rows = tf.shape(inputs)[0]
        batch = tf.ones((rows * context.num_replicas_in_sync, *inputs.shape[1:]), inputs.dtype)
        first = context.replica_id_in_sync_group * rows
        return inputs * super().call(batch, training=True)[first : first + rows]


def _head(features, classes, seed):
    layers = keras.layers
    # On several devices its statistics are those of the complete batch, as the backbone's are.
    together = tf.distribute.get_strategy().num_replicas_in_sync > 1
    norm = functools.partial(layers.BatchNormalization, momentum=0.9, epsilon=1e-5, synchronized=together)
    x = layers.Concatenate(name="head.pool")([
        layers.GlobalMaxPooling2D(name="head.max")(features),
        layers.GlobalAveragePooling2D(name="head.mean")(features),
    ])  # fmt: skip
    x = norm(name="head.bn1")(x)
    x = Dropout(DROPOUT[0], seed=seed, name="head.dropout1")(x)
    x = layers.Dense(HIDDEN_WIDTH, kernel_initializer="he_normal", name="head.dense1")(x)
    x = layers.ReLU(name="head.relu")(x)
    x = norm(name="head.bn2")(x)
    x = Dropout(DROPOUT[1], seed=seed + 1, name="head.dropout2")(x)
    return layers.Dense(classes, kernel_initializer="he_normal", dtype="float32", name="head.dense2")(x)
