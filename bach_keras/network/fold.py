"""The inference form of a network: batch norms folded into the convolutions before them."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from bach_keras.network.convolution import Convolution, grouped_convolution
from bach_keras.network.resnext import BatchNorm


class FoldedConvolution(keras.layers.Layer):
    """A convolution with a bias, of constants: it has no weights, so nothing to train.

    Functions capture the constants, so their graphs stay small; in a SavedModel they are nodes of the one main graph,
    where oneDNN packs a kernel once. One that is read from a variable it must pack at every call.
    """

    def __init__(self, kernel, bias, stride, groups, **kwargs):
        super().__init__(trainable=False, **kwargs)
        self.kernel, self.bias = (tf.constant(part, self.compute_dtype) for part in (kernel, bias))
        self.stride, self.groups = stride, groups

    def call(self, inputs):
        convolved = grouped_convolution(inputs, self.kernel, self.stride, self.groups)
        # TensorFlow fuses BiasAdd into a grouped convolution before it, and that op fails without oneDNN.
        return tf.nn.bias_add(convolved, self.bias) if self.groups == 1 else convolved + self.bias


class FusibleAdd(keras.layers.Layer):
    """A sum of two tensors of one shape, which oneDNN computes within the convolution before it.

    TensorFlow fuses convolution, BiasAdd, sum and ReLU into one op where the sum is an AddN. For an
    AddV2 it must know that nothing is broadcast, which it cannot for batches of any size.
    """

    def call(self, inputs):
        return tf.math.add_n(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape[0]


def fold(model: keras.Model, where: Callable[[keras.layers.Layer], bool] = lambda norm: True) -> keras.Model:
    """Return an equal network whose convolutions include the batch norms that follow them.

    With W the kernel of a convolution, and gamma, beta, mean, variance of the batch norm behind it, the kernel
    W gamma / sqrt(variance + epsilon) and the bias beta - mean gamma / sqrt(variance + epsilon) give in one op what the
    two give in inference mode. They hold the values of now, as constants of the network returned; every other layer
    with weights is the model's own, so the two share it and it can still be trained.

    Args:
        model: a functional model of this package's layers, or a part of one.
        where: takes a batch norm and returns whether to fold it. Only those in inference mode give the same answers
            as before.

    Returns:
        A functional model of the same inputs and outputs, to be called or exported, not saved by Keras.
    """
    norms = {layer for layer in model.layers if isinstance(layer, BatchNorm) and where(layer)}
    folded = {norm.input._keras_history.operation: norm for norm in norms}

    def replaced(layer):
        if layer in folded:
            return _fold_one(layer, folded[layer])
        if isinstance(layer, keras.layers.Add) and any(part._keras_history.operation in norms for part in layer.input):
            return FusibleAdd(name=layer.name, dtype=layer.dtype_policy)
        # A layer without variables is copied, so that its output is this network's and not the model's.
        return layer if layer.variables else layer.__class__.from_config(layer.get_config())

    def called(layer, inputs, **given):
        return inputs if layer in norms else layer(inputs, **given)

    return keras.models.clone_model(model, clone_function=replaced, call_function=called)


def _fold_one(convolution: Convolution, norm: BatchNorm) -> FoldedConvolution:
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
        name=convolution.name,
        dtype=convolution.dtype_policy,
    )
