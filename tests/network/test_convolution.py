import numpy as np
import pytest
import tensorflow as tf

from bach_keras.network.convolution import (
    FEW_PLACES,
    Convolution,
    grouped_convolution,
    has_native_grouped_convolution,
    matmul_convolution,
    native_convolution,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def convolve_in_numpy(images, kernel, stride, groups):
    """The definition: a loop over places and groups of a zero-padded image."""
    size, _, depth, filters = kernel.shape
    half, own = size // 2, filters // groups
    padded = np.pad(images, [(0, 0), (half, half), (half, half), (0, 0)])
    rows, columns = (-(-side // stride) for side in images.shape[1:3])
    answer = np.zeros((len(images), rows, columns, filters))
    for row in range(rows):
        for column in range(columns):
            y, x = row * stride, column * stride
            window = padded[:, y : y + size, x : x + size]
            for group in range(groups):
                part = window[..., group * depth : (group + 1) * depth]
                own_kernel = kernel[..., group * own : (group + 1) * own]
                answer[:, row, column, group * own : (group + 1) * own] = np.tensordot(part, own_kernel, 3)
    return answer


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_convolution_follows_its_definition(size, groups, stride):
    images, kernel = normal(2, 9, 8, 6), normal(size, size, 6 // groups, 12, seed=1)
    answer = grouped_convolution(tf.constant(images), tf.constant(kernel), stride, groups)
    np.testing.assert_allclose(answer, convolve_in_numpy(images, kernel, stride, groups), atol=1e-4)


@pytest.mark.skipif(not has_native_grouped_convolution(), reason="TensorFlow has no native grouped convolution here")
@pytest.mark.parametrize("stride", [1, 2])
def test_both_forms_give_equal_answers_and_gradients(stride):
    images, kernel = tf.constant(normal(2, 9, 8, 6)), tf.constant(normal(3, 3, 2, 12, seed=1))

    def answer_and_gradients(form):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            answer = form(images, kernel, stride, 3)
            loss = tf.reduce_mean(answer**2)
        return [answer, *tape.gradient(loss, [images, kernel])]

    for native, exact in zip(
        answer_and_gradients(native_convolution), answer_and_gradients(matmul_convolution), strict=True
    ):
        np.testing.assert_allclose(native, exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "stride", "groups", "side"),
    [(1, 1, 1, 9), (1, 1, 1, 13), (1, 2, 1, 9), (1, 1, 3, 9), (3, 1, 3, 9), (3, 2, 3, 9), (7, 2, 1, 9)],
)
def test_gradients_of_a_layer_in_training_are_those_of_its_definition(size, stride, groups, side):
    layer = Convolution(12, size, stride, groups)
    images = tf.constant(normal(3, side, 8, 6))
    layer.build(images.shape)
    layer.kernel.assign(normal(*layer.kernel.shape, seed=1))
    wanted = normal(*layer.compute_output_shape(images.shape), seed=2)

    @tf.function
    def gradients():
        # As Keras traces a training step.
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(layer(images, training=True) * wanted)
        return tape.gradient(loss, [images, layer.kernel.value])

    assert (side * 8 > FEW_PLACES) is (side == 13)

    def loss_in_numpy(images, kernel):
        return np.sum(convolve_in_numpy(images, kernel, stride, groups) * wanted)

    # The loss is linear in each, so its gradient along a direction is its value there.
    given, kernel = images.numpy().astype(np.float64), layer.kernel.numpy().astype(np.float64)
    of_images, of_kernel = (np.asarray(gradient, np.float64) for gradient in gradients())
    for seed in range(3):
        step = np.random.default_rng(seed).normal(size=given.shape)
        np.testing.assert_allclose(np.sum(of_images * step), loss_in_numpy(step, kernel), rtol=1e-4, atol=1e-3)
        step = np.random.default_rng(seed).normal(size=kernel.shape)
        np.testing.assert_allclose(np.sum(of_kernel * step), loss_in_numpy(given, step), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("side", [9, 13])
def test_the_trained_kernel_of_a_pointwise_convolution_takes_a_matrix_product(side):
    layer = Convolution(4, 1)
    layer.build((2, side, 8, 3))

    def kinds(training):
        @tf.function
        def gradient(images):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(images, training=training))
            return tape.gradient(loss, layer.kernel.value)

        graph = gradient.get_concrete_function(tf.TensorSpec((2, side, 8, 3))).graph
        return {operation.type for operation in graph.get_operations()}

    assert ("MatMul" in kinds(training=True)) is not bool(tf.config.get_visible_devices("GPU"))
    # What only answers keeps the one op, which TensorFlow fuses with the batch norm behind it.
    assert "MatMul" not in kinds(training=False)


def test_the_exact_form_works_in_half_precision():
    images, kernel = tf.constant(normal(2, 9, 8, 6)), tf.constant(normal(3, 3, 2, 12, seed=1))
    exact = grouped_convolution(images, kernel, 1, 3)
    halves = matmul_convolution(tf.cast(images, tf.bfloat16), tf.cast(kernel, tf.bfloat16), 1, 3)
    assert halves.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(halves, tf.float32), exact, rtol=0.02, atol=0.1)
