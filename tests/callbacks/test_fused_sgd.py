"""The fused update against one written by hand, and against Keras's own in training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from callbacks.fused_sgd import FusedSGD
from callbacks.layer_groups import with_layer_groups


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_updates_equal_those_written_by_hand(nesterov, dtype):
    generator = np.random.default_rng(4)
    start = generator.normal(size=(5, 3)).astype(dtype)
    gradients = generator.normal(size=(6, 5, 3)).astype(dtype)
    variable = keras.Variable(start, dtype=dtype)
    optimizer = FusedSGD(0.1, momentum=0.9, nesterov=nesterov)
    weights, velocity = start.astype("float64"), 0
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [variable])
        velocity = 0.9 * velocity - 0.1 * gradient
        weights += 0.9 * velocity - 0.1 * gradient if nesterov else velocity
    np.testing.assert_allclose(variable.numpy(), weights, rtol=1e-6, atol=1e-6)


def trained(kind, strategy=None, **settings):
    generator = np.random.default_rng(5)
    inputs, targets = generator.normal(size=(24, 3)).astype("float32"), generator.normal(size=(24, 1)).astype("float32")
    keras.utils.set_random_seed(1)
    with strategy.scope() if strategy else tf.name_scope("alone"):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5, name="slow"), keras.layers.Dense(1)])
        optimizer = with_layer_groups(kind(0.01, momentum=0.9, **settings), [("slow", 0.25), (".*", 1.0)])
        model.compile(optimizer, "mse")
    model.fit(inputs, targets, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return model.get_weights()


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1}, {"clipnorm": 0.5}, {"gradient_accumulation_steps": 3}])
def test_it_trains_as_keras_does_with_layer_groups(settings):
    for ours, keras_own in zip(trained(FusedSGD, **settings), trained(keras.optimizers.SGD, **settings), strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-5, atol=1e-7)


def test_it_trains_under_a_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    for ours, alone in zip(trained(FusedSGD, strategy), trained(FusedSGD), strict=True):
        np.testing.assert_allclose(ours, alone, rtol=1e-5, atol=1e-7)


def test_no_momentum_is_refused():
    with pytest.raises(ValueError, match="momentum above 0"):
        FusedSGD(0.1)


def test_the_sparse_gradient_of_an_embedding_is_applied():
    found = []
    for kind in (FusedSGD, keras.optimizers.SGD):
        keras.utils.set_random_seed(2)
        model = keras.Sequential(
            [keras.Input((1,), dtype="int32"), keras.layers.Embedding(5, 2), keras.layers.Dense(1)]
        )
        model.compile(kind(0.1, momentum=0.9), "mse")
        model.fit(np.array([[1], [3]] * 4), np.ones((8, 1, 1)), batch_size=2, shuffle=False, verbose=0)
        found.append(model.get_weights())
    for ours, keras_own in zip(*found, strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-5, atol=1e-7)
