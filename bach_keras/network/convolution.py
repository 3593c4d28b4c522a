"""Convolutions padded as PyTorch pads, grouped or not, in the form that is fast on the machine at hand."""

import functools

import keras
import tensorflow as tf

PACKAGE = "bach_keras"  # Keras's name for what this project registers with it


@functools.cache
def has_native_grouped_convolution(dtype=tf.float32, gradients: bool = True) -> bool:
    """Return whether TensorFlow computes a grouped convolution here in this type, and its gradients if they matter."""
    # GPUs do, and processors through oneDNN do in the types it knows; elsewhere the forward pass works, and the
    # gradient raises or, in some types, is wrong. So a small one is compared with the exact form, once per type. In
    # float16 processors have the forward pass only, which is all that an export needs.
    with tf.init_scope():
        images = tf.cast(tf.random.stateless_normal((2, 8, 8, 8), (0, 0)), dtype)
        kernel = tf.cast(tf.random.stateless_normal((3, 3, 4, 8), (0, 1)), dtype)
        try:
            pairs = _in_both_forms(images, kernel, gradients)
        except (tf.errors.OpError, ValueError):
            return False
        # Each type rounds in its own way, but a wrong gradient is wrong by its full size.
        return all(
            tf.norm(tf.cast(native - exact, tf.float32)) < 0.1 * tf.norm(tf.cast(exact, tf.float32))
            for native, exact in pairs
        )


def _in_both_forms(images, kernel, gradients):
    # One function for all of it, as TensorFlow warns of several traced in a row.
    @tf.function
    def run(images, kernel):
        return [
            list(zip(*(_answers(form, images, kernel, stride, gradients) for form in forms), strict=True))
            for stride in (1, 2)
        ]

    forms = (native_convolution, matmul_convolution)
    return [pair for of_stride in run(images, kernel) for pair in of_stride]


def _answers(form, images, kernel, stride, gradients):
    answer = form(images, kernel, stride, images.shape[-1] // kernel.shape[2])
    # A tape would not record inside init_scope.
    return answer, *(tf.gradients(answer, [images, kernel], grad_ys=answer) if gradients else ())


def grouped_convolution(images, kernel, stride: int, groups: int, gradients: bool = True):
    """Convolve with PyTorch's padding of half a kernel, in the fastest form of the platform.

    [N, H, W, C] and an odd kernel [k, k, C / groups, F] give [N, ceil(H / stride), ceil(W / stride), F]. The form need
    not have gradients if ``gradients`` is False.
    """
    native = groups == 1 or has_native_grouped_convolution(images.dtype, gradients)
    return (native_convolution if native else matmul_convolution)(images, kernel, stride, groups)


def _padding(kernel):
    half = kernel.shape[0] // 2
    return [[0, 0], [half, half], [half, half], [0, 0]]


def native_convolution(images, kernel, stride: int, groups: int):
    """Convolve by TensorFlow's op, which reads the number of groups from the shapes."""
    # On processors explicit padding costs a grouped convolution its gradient, and the stem the faster one of oneDNN.
    if stride == 1 or kernel.shape[0] == 1:
        return tf.nn.conv2d(images, kernel, stride, "SAME")
    return tf.nn.conv2d(tf.pad(images, _padding(kernel)), kernel, stride, "VALID")


def matmul_convolution(images, kernel, stride: int, groups: int):
    """Convolve exactly but slower, by a batched matrix product over the groups for each kernel offset.

    Sums are float32 whatever the type, as the native form's are.
    """
    size, _, depth, filters = kernel.shape
    padded = tf.cast(tf.pad(images, _padding(kernel)), tf.float32)
    batch, height, width = tf.unstack(tf.shape(padded)[:3])
    rows = (height - size) // stride + 1
    columns = (width - size) // stride + 1
    kernel = tf.cast(tf.reshape(kernel, (size, size, depth, groups, filters // groups)), tf.float32)
    answer = 0.0
    for i in range(size):
        for j in range(size):
            window = padded[:, i : i + stride * (rows - 1) + 1 : stride]
            window = window[:, :, j : j + stride * (columns - 1) + 1 : stride]
            window = tf.reshape(window, (batch, rows, columns, groups, depth))
            answer += tf.einsum("nhwgd,dgf->nhwgf", window, kernel[i, j])
    return tf.cast(tf.reshape(answer, (batch, rows, columns, filters)), images.dtype)


# In images of at most so many places oneDNN takes longer to pack a 1x1 kernel than the packed one saves.
FEW_PLACES = 100


def _products_pay(dtype):
    # GPUs have kernels for their own layout, and half precision has its own too.
    return dtype == tf.float32 and not tf.config.get_visible_devices("GPU")


def _pointwise_in_training(images, kernel):
    """Convolve 1x1 with a kernel gradient that is one matrix product; on small images all of it is.

    oneDNN multiplies matrices faster than it computes that gradient.
    """
    _, height, width, _ = images.shape
    if height and width and height * width <= FEW_PLACES:
        product = tf.matmul(_rows(images), _rows(kernel))
        return tf.reshape(product, (-1, height, width, product.shape[-1]))
    return _pointwise_with_product(images, kernel)


@tf.custom_gradient
def _pointwise_with_product(images, kernel):
    def gradients(gradient):
        of_images = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(images), filter=kernel, out_backprop=gradient, strides=[1, 1, 1, 1], padding="VALID"
        )
        return of_images, tf.reshape(tf.matmul(_rows(images), _rows(gradient), transpose_a=True), kernel.shape)

    return tf.nn.conv2d(images, kernel, 1, "VALID"), gradients


def _rows(tensor):
    return tf.reshape(tensor, (-1, tensor.shape[-1]))


@keras.saving.register_keras_serializable(PACKAGE)
class Convolution(keras.layers.Layer):
    """A square convolution without bias, padded as PyTorch pads, grouped or not.

    Keras's own ``Conv2D(groups=32)`` compiles each call with XLA on TensorFlow, which makes a training step forty times
    slower and leaves must-compile functions in the SavedModel; this layer calls TensorFlow's op.
    """

    def __init__(self, filters, size, stride=1, groups=1, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.size = size
        self.stride = stride
        self.groups = groups

    def build(self, input_shape):
        depth = input_shape[-1] // self.groups
        self.kernel = self.add_weight(
            name="kernel", shape=(self.size, self.size, depth, self.filters), initializer="he_normal"
        )

    def call(self, inputs, training=None):
        kernel = tf.convert_to_tensor(self.kernel)
        if training and self.size == self.stride == self.groups == 1 and _products_pay(inputs.dtype):
            return _pointwise_in_training(inputs, kernel)
        return grouped_convolution(inputs, kernel, self.stride, self.groups)

    def compute_output_shape(self, input_shape):
        batch, *sides, _ = input_shape
        return (batch, *(side and -(-side // self.stride) for side in sides), self.filters)

    def get_config(self):
        own = ("filters", "size", "stride", "groups")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}
