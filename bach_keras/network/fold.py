"""The inference form of a network: batch norms folded into the convolutions before them."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from bach_keras.network.convolution import Convolution, grouped_convolution
from bach_keras.network.resnext import BatchNorm


class FoldedConvolution(keras.layers.Layer):
    """A convolution with a bias, for inference: its weights are not trained.

    They are variables, of which a served model holds one copy for all of its signatures. As constants each signature
    that has answered would hold three copies more.
    """

    def __init__(self, kernel, bias, stride, groups, gradients, **kwargs):
        super().__init__(trainable=False, **kwargs)
        self.kernel, self.bias = (
            # In mixed precision too they are kept in the type that is computed in: nothing updates them.
            keras.Variable(tf.cast(part, self.compute_dtype), dtype=self.compute_dtype, trainable=False, name=name)
            for name, part in (("kernel", kernel), ("bias", bias))
        )
        self.stride, self.groups, self.gradients = stride, groups, gradients

    def call(self, inputs):
        kernel, bias = (tf.convert_to_tensor(part.value) for part in (self.kernel, self.bias))
        convolved = grouped_convolution(inputs, kernel, self.stride, self.groups, self.gradients)
        # TensorFlow fuses BiasAdd into a grouped convolution before it, and that op fails without oneDNN.
        return tf.nn.bias_add(convolved, bias) if self.groups == 1 else convolved + bias


class FusibleAdd(keras.layers.Layer):
    """A sum of two tensors of one shape, which oneDNN computes within the convolution before it.

    TensorFlow fuses convolution, BiasAdd, sum and ReLU into one op where the sum is an AddN. For an
    AddV2 it must know that nothing is broadcast, which it cannot for batches of any size.
    """

    def call(self, inputs):
        return tf.math.add_n(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape[0]


def fold(
    model: keras.Model,
    where: Callable[[keras.layers.Layer], bool] = lambda norm: True,
    precision: str | None = None,
) -> keras.Model:
    """Return an equal network whose convolutions include the batch norms that follow them.

    With W the kernel of a convolution, and gamma, beta, mean, variance of the batch norm behind it, the kernel
    W gamma / sqrt(variance + epsilon) and the bias beta - mean gamma / sqrt(variance + epsilon) give in one op what the
    two give in inference mode. They hold the values of now, in variables of the network returned; every other layer
    with weights is the model's own, so the two share it and it can still be trained.

    Args:
        model: a functional model of this package's layers, or a part of one.
        where: takes a batch norm and returns whether to fold it. Only those in inference mode give the same answers
            as before.
        precision: a type in which the feature maps are computed and the kernels kept, for inference; by default the
            model's own. What stands behind the maps, the head, keeps its type.

    Returns:
        A functional model of the same inputs and outputs, to be called or exported, not saved by Keras.
    """
    folded = {convolution: norm for convolution, norm in norms_behind(model).items() if where(norm)}
    norms = set(folded.values())

    def replaced(layer):
        # Layers cast what they are given to their own type, so all that make maps must have one.
        dtype = precision if precision and len(layer.output.shape) == 4 else layer.dtype_policy
        if layer in folded:
            return _fold_one(layer, folded[layer], dtype, gradients=not precision)
        if isinstance(layer, keras.layers.Add) and any(part._keras_history.operation in norms for part in layer.input):
            return FusibleAdd(name=layer.name, dtype=dtype)
        # A layer without variables is copied, so that its output is this network's and not the model's.
        return layer if layer.variables else layer.__class__.from_config({**layer.get_config(), "dtype": dtype})

    def called(layer, inputs, **given):
        return inputs if layer in norms else layer(inputs, **given)

    given = keras.Input(batch_shape=model.input.shape, dtype=precision or model.input.dtype)
    return keras.models.clone_model(model, given, clone_function=replaced, call_function=called)


def norms_behind(model: keras.Model) -> dict[Convolution, BatchNorm]:
    """Return the convolutions of a network that a batch norm follows -> that batch norm."""
    return {layer.input._keras_history.operation: layer for layer in model.layers if isinstance(layer, BatchNorm)}


def _fold_one(convolution: Convolution, norm: BatchNorm, dtype, gradients: bool) -> FoldedConvolution:
    # In float64, so that the only rounding is that of the result.
    gamma, beta, mean, variance = (
        np.asarray(weight, np.float64) for weight in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return FoldedConvolution(
        np.asarray(convolution.kernel, np.float64) * scale,
        beta - mean * scale,
        convolution.stride,
        convolution.groups,
        gradients,
        name=convolution.name,
        dtype=dtype,
    )
