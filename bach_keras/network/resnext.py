"""ResNeXt-50 (32x4d) for Keras on TensorFlow, equal to torchvision's layer by layer.

Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017, Table 1. Every layer carries the
name of its torchvision module, so weights move by name alone, and every padding is PyTorch's, from which TensorFlow's
"same" differs at stride 2.
"""

from dataclasses import asdict, dataclass

import keras
import tensorflow as tf

from bach_keras.network.convolution import PACKAGE, Convolution
from bach_keras.normalisation import DEVIATION, IMAGENET, MEAN, NORMALISATIONS, UNIT


@keras.saving.register_keras_serializable(PACKAGE)
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation of images on TensorFlow's fused op, with PyTorch's momentum and epsilon.

    Keras normalises in several ops on TensorFlow, which makes the training step half as long again. As in PyTorch the
    running variance takes the unbiased batch variance. A layer that is not trainable stays in inference mode. On
    several devices the statistics are those of the complete batch.
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs, training=None, mask=None):
        # The op takes half-precision images, but its statistics are always float32.
        gamma, beta, mean, variance = (
            tf.convert_to_tensor(weight.value)
            for weight in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        if not (training and self.trainable):
            return tf.raw_ops.FusedBatchNormV3(
                x=inputs, scale=gamma, offset=beta, mean=mean, variance=variance,
                epsilon=self.epsilon, is_training=False,
            ).y  # fmt: skip
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            normalised, batch_mean, batch_variance = self._normalise_together(context, inputs, gamma, beta)
        else:
            normalised, batch_mean, batch_variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs, scale=gamma, offset=beta, mean=[], variance=[],
                epsilon=self.epsilon, is_training=True,
            )  # fmt: skip
        self.moving_mean.assign(mean + (1 - self.momentum) * (batch_mean - mean))
        self.moving_variance.assign(variance + (1 - self.momentum) * (batch_variance - variance))
        return normalised

    def _normalise_together(self, context, inputs, gamma, beta):
        """Return the normalised images, and mean and unbiased variance of all devices' images, equally many on each."""
        images = tf.cast(inputs, tf.float32)
        mean, variance = tf.nn.moments(images, (0, 1, 2))
        mean, square = tf.unstack(context.all_reduce("MEAN", tf.stack([mean, variance + mean**2])))
        variance = tf.maximum(square - mean**2, 0)
        normalised = tf.nn.batch_normalization(images, mean, variance, beta, gamma, self.epsilon)
        places = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]) * context.num_replicas_in_sync, tf.float32)
        return tf.cast(normalised, inputs.dtype), mean, variance * places / (places - 1)


@keras.saving.register_keras_serializable(PACKAGE)
class MaxPool(keras.layers.Layer):
    """The stem's 3x3 maximum at stride 2, padded by one as PyTorch pads."""

    def call(self, inputs):
        # The inputs come from a ReLU, so a zero of the padding never exceeds a true value.
        return tf.nn.max_pool2d(tf.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")

    def compute_output_shape(self, input_shape):
        batch, *sides, depth = input_shape
        return (batch, *(side and -(-side // 2) for side in sides), depth)


@keras.saving.register_keras_serializable(PACKAGE)
class Rescale(keras.layers.Layer):
    """Turns normalised images back to pixels / 255, for weights that were trained on those.

    It stands before the padding of the first convolution, which must be 0 in what the weights were trained on. Folded
    into that convolution's weights it would be wrong along the border of every image.
    """

    def call(self, inputs):
        return inputs * tf.constant(DEVIATION, inputs.dtype) + tf.constant(MEAN, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


@dataclass(frozen=True)
class Architecture:
    """The shape of a ResNeXt; by default ResNeXt-50 (32x4d), with weights such as torchvision's."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)  # bottleneck blocks in each of the four stages
    cardinality: int = 32  # groups of the 3x3 convolutions
    base_width: int = 4  # channels of a group in the first stage; doubles with each stage
    stem: int = 64  # channels after the first convolution; a stage ends with 4, 8, 16, 32 times as many
    normalisation: str = IMAGENET  # of the images that its weights were trained on, one of NORMALISATIONS

    def __post_init__(self):
        if self.normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation must be one of {', '.join(NORMALISATIONS)}, not {self.normalisation!r}")


@keras.saving.register_keras_serializable(PACKAGE)
class ResNeXt(keras.Model):
    """A ResNeXt as a functional Keras model.

    Args:
        input_shape: (height, width, 3); height and width may be None.
        include_top: end with the mean over places and the ``fc`` layer. The answer is then logits float [N, classes],
            else features float [N, ceil(height / 32), ceil(width / 32), 32 * stem].

    Inputs are float [N, height, width, 3], normalised as ``bach_keras.preprocess`` does, whatever the normalisation of
    the architecture.
    """

    def __init__(
        self, input_shape, include_top=False, classes=1000, architecture=Architecture(), name="resnext50", **kwargs
    ):
        inputs = keras.Input(tuple(input_shape))
        # In float32 also under mixed precision: it is little work, and its rounding would come on top.
        x = Rescale(name="rescale", dtype="float32")(inputs) if architecture.normalisation == UNIT else inputs
        x = Convolution(architecture.stem, 7, stride=2, name="conv1")(x)
        x = BatchNorm(name="bn1")(x)
        x = keras.layers.ReLU(name="relu")(x)
        x = MaxPool(name="maxpool")(x)
        for stage, count in enumerate(architecture.blocks):
            for block in range(count):
                x = _bottleneck(
                    x,
                    width=architecture.cardinality * architecture.base_width * 2**stage,
                    filters=4 * architecture.stem * 2**stage,
                    stride=2 if stage and not block else 1,
                    groups=architecture.cardinality,
                    name=f"layer{stage + 1}.{block}",
                )
        if include_top:
            x = keras.layers.GlobalAveragePooling2D(name="avgpool")(x)
            x = keras.layers.Dense(classes, dtype="float32", name="fc")(x)
        super().__init__(inputs, x, name=name, **kwargs)
        self._config = {
            "input_shape": tuple(input_shape), "include_top": include_top, "classes": classes, "name": name,
            **asdict(architecture),
        }  # fmt: skip

    @property
    def stage_outputs(self):
        """The names of the layers that end the stem and the four stages."""
        ends = [f"layer{stage + 1}.{count - 1}.relu" for stage, count in enumerate(self._config["blocks"])]
        return ["maxpool", *ends]

    @property
    def layer_groups(self) -> dict[str, str]:
        """Group name -> pattern over variable paths, as fastai 0.7 splits resnext50; the recipe fixes the trunk."""
        return {"trunk": r"(^|/)(conv1|bn1|layer[12]\.[^/]*)/", "middle": r"(^|/)layer[34]\.[^/]*/"}

    @property
    def trunk_output(self) -> str:
        """The name of the layer that ends the trunk."""
        return self.stage_outputs[2]

    def get_config(self):
        return dict(self._config)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # A network that was saved before there was a choice of normalisation has the default.
        own = {name: config.get(name, default) for name, default in asdict(Architecture()).items()}
        others = {name: value for name, value in config.items() if name not in own}
        return cls(**others, architecture=Architecture(**own))


def _bottleneck(x, width, filters, stride, groups, name):
    """One block of Xie et al., Figure 3(c): 1x1, grouped 3x3, 1x1, and a shortcut."""
    shortcut = x
    if stride != 1 or x.shape[-1] != filters:
        shortcut = Convolution(filters, 1, stride, name=f"{name}.downsample.0")(x)
        shortcut = BatchNorm(name=f"{name}.downsample.1")(shortcut)
    x = Convolution(width, 1, name=f"{name}.conv1")(x)
    x = BatchNorm(name=f"{name}.bn1")(x)
    x = keras.layers.ReLU(name=f"{name}.relu1")(x)
    x = Convolution(width, 3, stride, groups, name=f"{name}.conv2")(x)
    x = BatchNorm(name=f"{name}.bn2")(x)
    x = keras.layers.ReLU(name=f"{name}.relu2")(x)
    x = Convolution(filters, 1, name=f"{name}.conv3")(x)
    x = BatchNorm(name=f"{name}.bn3")(x)
    x = keras.layers.Add(name=f"{name}.add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}.relu")(x)


def normalisation_of(network: keras.Model) -> str:
    """Return which normalisation the weights of a network, or of a part of one with its input, are for."""
    return UNIT if any(isinstance(layer, Rescale) for layer in network.layers) else IMAGENET


def resnext50(input_shape, include_top=False, classes=1000) -> ResNeXt:
    """Return ResNeXt-50 (32x4d) with random He-normal weights; the arguments are those of ``ResNeXt``."""
    return ResNeXt(input_shape, include_top, classes)
