"""The range test's probe: what it measures, that it leaves no trace, and how a curve with it is read."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from callbacks.lr_curve import direction, turning_point
from callbacks.lr_probe import Probe
from callbacks.lr_range_test import LRRangeTest, lr_range_test

RATES = np.geomspace(1e-5, 10, 100)


def examples(count: int = 12):
    generator = np.random.default_rng(7)
    labels = generator.integers(0, 2, count)
    return (generator.normal(size=(count, 4)) + labels[:, None]).astype("float32"), labels


def network(**settings) -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Dense(8, kernel_regularizer="l2"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
        keras.layers.GaussianNoise(0.1),
        keras.layers.Dense(2),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, **settings)
    return model


def state(model) -> list[np.ndarray]:
    return [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]


def assert_same(ones, others):
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_probe_gives_the_same_number_until_the_weights_change_and_leaves_no_trace(eagerly):
    model, probe = network(run_eagerly=eagerly), Probe(examples())
    before = state(model)
    first = probe.measure(model)
    assert_same(state(model), before)
    assert model.layers[2].rate == 0.5
    model(examples()[0], training=True)  # moves the statistics and the seeds, not the weights
    assert probe.measure(model) == first
    model.layers[0].kernel.assign_add(tf.ones_like(model.layers[0].kernel))
    assert probe.measure(model) != first


def test_a_probe_measures_the_loss_of_training_without_dropout():
    features, labels = examples()
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dropout(0.9)(keras.layers.Dense(1, kernel_regularizer="l2")(inputs)))
    model.compile("sgd", "mse")
    weights = np.arange(12.0, dtype="float32")
    kernel = model.get_weights()[0]
    errors = ((features @ kernel)[:, 0] - labels) ** 2
    expected = np.mean(weights * errors) + 0.01 * np.sum(kernel**2)
    assert Probe((features, labels[:, None], weights)).measure(model) == pytest.approx(expected, rel=1e-4)
    plain = np.mean(errors) + 0.01 * np.sum(kernel**2)
    parts = tf.data.Dataset.from_tensor_slices((features, labels[:, None])).batch(5)
    assert Probe(parts).measure(model) == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("nothing", [[], [np.zeros((2, 4))], (np.zeros((2, 4)),), tf.data.Dataset.range(0)])
def test_a_probe_without_examples_is_refused(nothing):
    with pytest.raises(ValueError, match=r"give it a batch \(x, y\)"):
        Probe(nothing)


def test_a_batch_of_no_examples_is_refused():
    with pytest.raises(ValueError, match="at least one example"):
        Probe([examples(), examples(0)])


def test_a_probe_is_for_the_loss():
    with pytest.raises(ValueError, match="measures the loss, not 'accuracy'"):
        LRRangeTest(metric="accuracy", probe=examples())


def test_a_sweep_with_a_probe_leaves_no_trace_and_is_read_by_it():
    model = network()
    model.optimizer.build(model.trainable_variables)
    before = state(model)
    data = tf.data.Dataset.from_tensor_slices(examples(40)).batch(4)
    test = lr_range_test(model, data, max_lr=1e3, steps=66, probe=examples())
    result = test.result()
    assert_same(state(model), before)
    assert result["clear"]
    assert result["rates"][1::2][: len(result["probe"]["rates"])] == result["probe"]["rates"]
    assert len(result["probe"]["rates"]) == len(result["probe"]["values"]) == len(result["rates"]) // 2
    assert result["suggestion"] == pytest.approx(result["divergence"] / 10)
    assert json.loads(json.dumps(result)) == result
    assert test.png().startswith(b"\x89PNG")


def curve(noise, seed, fall=0.0, start=1.0, turn=0.02, stop=0.1):
    """Return a noisy loss that falls until a rate, then rises as its square; and a probe's, less noisy."""
    generator = np.random.default_rng(seed)
    rates = RATES[: np.searchsorted(RATES, stop)]
    x = np.log(rates / turn)
    loss = start * np.exp(2 * np.maximum(0, x) - fall * np.clip(x + 2.3, 0, 2.3))
    noisy = [loss * np.exp(generator.normal(0, size, len(loss))) for size in (noise, noise / 3)]
    return (rates, noisy[0]), (rates[2::3], noisy[1][2::3])


@pytest.mark.parametrize("fall", [0.0, 0.4, 0.8])
def test_the_foot_of_the_rise_is_found_in_noise_that_hides_the_least_point(fall):
    found = [turning_point(*curve(0.5, seed, fall)) for seed in range(12)]
    rates = np.array([rate for rate, _ in found])
    assert rates.max() / rates.min() < 2
    assert np.median(rates) == pytest.approx(0.02, rel=0.5)
    assert all(clear for _, clear in found)


def test_noise_alone_has_no_clear_rise():
    assert not any(turning_point(*curve(0.5, seed, turn=1e3, stop=20))[1] for seed in range(12))


def test_a_loss_below_zero_has_a_foot_too():
    (rates, losses), (few, probes) = curve(0.1, 0)
    moved = [turning_point((rates, losses - shift), (few, probes - shift))[0] for shift in (0, 2)]
    assert moved == pytest.approx([0.02, 0.02], rel=0.6)


@pytest.mark.parametrize("values", [0.0, 3.0, -1.0])
def test_a_loss_that_never_changes_has_no_clear_rise(values):
    flat = np.full(100, values)
    assert not turning_point((RATES, flat), (RATES[2::3], flat[2::3]))[1]


@pytest.mark.parametrize(
    ("metric", "way"),
    [
        ("loss", "min"), ("val_loss", "min"), ("a_mae", "min"), ("binary_crossentropy", "min"), ("mse_1", "min"),
        ("accuracy", "max"), ("val_acc", "max"), ("auc_3", "max"), ("f1_score", "max"), ("oddity", None),
    ],
)  # fmt: skip
def test_a_metrics_name_says_which_way_it_gets_better(metric, way):
    assert direction(metric) == way
