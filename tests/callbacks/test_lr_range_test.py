"""The range test: what it reads from a sweep, and that it leaves no trace in the model."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from callbacks.layer_groups import with_layer_groups
from callbacks.lr_range_test import LRRangeTest, lr_range_test, smooth
from callbacks.sgdr import SGDR

SHORT = {"steps": 20, "skip_begin": 2, "skip_end": 1}


def quadratic_model(start: float = 0.0, **settings) -> keras.Model:
    """One weight w with the loss (w - y)^2: its gradient descent is noisy from rate .5 and diverges at 1."""
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer=keras.initializers.Constant(start))
    model = keras.Sequential([keras.Input((1,)), dense])
    model.compile(keras.optimizers.SGD(0.5), "mse", **settings)
    return model


def quadratic_data(*batches: list[float]) -> tf.data.Dataset:
    """Batches of targets; by default two that pull w to either side of 5."""
    targets = np.array(batches or [[4.5], [5.5]], "float32")[..., None]
    return tf.data.Dataset.from_tensor_slices((np.ones_like(targets), targets))


def network(seed: int = 1) -> keras.Model:
    """A small classifier with all that a sweep changes: weights, batch norm, dropout's seeds, slots."""
    keras.utils.set_random_seed(seed)
    layers = [
        keras.layers.Dense(8, name="trunk"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(2, activation="softmax", name="head"),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    optimizer = with_layer_groups(keras.optimizers.Adam(0.01), [("trunk", 0.25), (".*", 1.0)])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def classes() -> tf.data.Dataset:
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 2, 40)
    features = generator.normal(size=(40, 4)) + labels[:, None]
    return tf.data.Dataset.from_tensor_slices((features.astype("float32"), labels)).batch(8)


def state(model) -> list[np.ndarray]:
    return [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]


def assert_same(ones, others):
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("steps", [40, 60, 100, 300])
def test_finds_where_the_loss_starts_to_diverge(steps):
    result = lr_range_test(quadratic_model(), quadratic_data(), steps=steps, skip_end=0).result()
    assert result["stopped"] == "diverged"
    assert 0.2 < result["divergence"] < 1.3
    assert result["suggestion"] == pytest.approx(result["divergence"] / 10)
    assert 0.9 < result["rates"][-1] < 3
    assert len(result["rates"]) == len(result["values"]) == len(result["smoothed"]) < steps
    assert json.loads(json.dumps(result)) == result


def test_the_rate_grows_by_a_constant_factor_from_first_to_last():
    model = quadratic_model()
    result = lr_range_test(model, quadratic_data(), min_lr=1e-6, max_lr=1e-4, steps=41).result()
    assert result["stopped"] == "end"
    np.testing.assert_allclose(result["rates"], [1e-6 * 100 ** (step / 40) for step in range(41)])


def test_the_scheduled_rate_is_the_one_applied():
    model = quadratic_model()
    weight, expected = 0.0, []
    for rate in np.geomspace(1e-3, 0.1, 20):
        expected.append((weight - 5) ** 2)
        weight -= rate * 2 * (weight - 5)
    result = lr_range_test(model, quadratic_data([5]), min_lr=1e-3, max_lr=0.1, **SHORT).result()
    np.testing.assert_allclose(result["values"], expected, rtol=1e-5)


def test_values_are_those_of_each_batch_and_the_dataset_repeats():
    data = quadratic_data([1, 1], [3, 3], [2, 2])
    result = lr_range_test(quadratic_model(), data, min_lr=1e-12, max_lr=1e-11, **SHORT).result()
    np.testing.assert_allclose(result["values"], [(1, 9, 4)[step % 3] for step in range(20)], rtol=1e-5)


def test_smoothing_is_corrected_for_its_start():
    assert smooth([3.0, 3.0, 3.0], 0.98) == pytest.approx([3.0, 3.0, 3.0])
    assert smooth([1.0, 2.0, 4.0], 0.5) == pytest.approx([1.0, 5 / 3, (0.125 + 0.5 + 2) / 0.875])


def test_smoothing_follows_the_length_of_the_sweep():
    assert LRRangeTest(steps=1000).smoothing == pytest.approx(0.98)
    assert LRRangeTest(steps=50).smoothing == pytest.approx(0.8)
    assert LRRangeTest(steps=50, smoothing=0.98).smoothing == 0.98


def test_noise_does_not_hide_the_divergence():
    generator = np.random.default_rng(0)
    data = quadratic_data(*(5 + generator.normal(size=(40, 2))))
    found = [lr_range_test(quadratic_model(), data.skip(skip), steps=60).result() for skip in range(3)]
    assert all(0.1 < result["divergence"] < 3 for result in found)


def test_accuracy_suggests_a_third_of_its_best_rate():
    result = lr_range_test(network(), classes(), metric="accuracy", steps=60).result()
    usable = slice(10, len(result["rates"]) - 5)
    assert result["divergence"] == result["rates"][usable][int(np.argmax(result["smoothed"][usable]))]
    assert result["suggestion"] == pytest.approx(result["divergence"] / 3)
    assert all(value * 8 == pytest.approx(round(value * 8)) for value in result["values"])


def read(values, metric: str) -> dict:
    """Return what a sweep reads from these values, one a step from 1e-3 to 1."""
    test = LRRangeTest(1e-3, 1.0, len(values), metric)
    test._losses, test._values = list(values), list(values)
    return test.result()


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_only_a_curve_that_gets_better_by_more_than_its_noise_is_clear(metric):
    sign = -1 if metric == "loss" else 1
    generator = np.random.default_rng(4)
    flat = [0.5 + generator.normal(0, 0.1, 100) for _ in range(50)]
    assert sum(read(values, metric)["clear"] for values in flat) <= 1
    better = sign * 0.6 * np.minimum(np.arange(100) / 70, 1)
    assert all(read(values + better, metric)["clear"] for values in flat)
    assert not any(read(values - better, metric)["clear"] for values in flat)


def test_a_flat_noisy_loss_diverges_where_it_rises():
    generator = np.random.default_rng(4)
    rates = np.geomspace(1e-3, 1.0, 100)
    rise = 0.15 * np.maximum(np.arange(100) - 69, 0)
    found = [read(1 + rise + generator.normal(0, 0.2, 100), "loss") for _ in range(20)]
    assert not any(result["clear"] for result in found)
    assert np.median([result["divergence"] for result in found]) == pytest.approx(rates[69], rel=0.25)
    least = [result["rates"][10 + int(np.argmin(result["smoothed"][10:-5]))] for result in found]
    assert np.median(least) < rates[60]


def test_a_clear_loss_diverges_where_it_is_least():
    values = 1 - 0.6 * np.minimum(np.arange(100) / 70, 1) + np.random.default_rng(4).normal(0, 0.05, 100)
    result = read(values, "loss")
    assert result["clear"]
    assert result["divergence"] == result["rates"][10 + int(np.argmin(result["smoothed"][10:-5]))]


def test_stops_at_a_loss_that_is_not_finite():
    model = quadratic_model()
    test = lr_range_test(model, quadratic_data(), min_lr=1e-3, max_lr=1e30, stop_factor=1e38)
    result = test.result()
    assert result["stopped"] == "nan"
    assert np.isfinite(result["values"]).all()
    assert model.get_weights()[0] == 0


def test_leaves_no_trace():
    model = network()
    model.fit(classes(), shuffle=False, epochs=1, verbose=0)
    history, before = model.history, state(model)
    test = lr_range_test(model, classes(), steps=40)
    assert len(test.result()["rates"]) > 20
    assert_same(state(model), before)
    assert model.history is history
    assert not model.stop_training


@pytest.mark.parametrize("optimizer_is_built", [True, False])
def test_training_after_it_equals_training_without_it(optimizer_is_built):
    runs = []
    for swept in (False, True):
        model = network()
        if optimizer_is_built:
            model.optimizer.build(model.trainable_variables)
        if swept:
            lr_range_test(model, classes(), steps=40)
        schedule = SGDR(0.05, cycle_steps=5, cycles=2)
        history = model.fit(classes(), shuffle=False, epochs=3, verbose=0, callbacks=[schedule]).history
        runs.append([*state(model), *history.values()])
    assert_same(*runs)


def test_a_broken_off_sweep_is_undone(monkeypatch):
    model = network()
    model.optimizer.build(model.trainable_variables)
    before = state(model)

    def interrupt(self, batch, logs=None):
        if batch == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(LRRangeTest, "on_train_batch_end", interrupt)
    monkeypatch.setattr(LRRangeTest, "on_train_batch_begin", lambda self, batch, logs=None: None)
    with pytest.raises(KeyboardInterrupt):
        lr_range_test(model, classes(), steps=40)
    assert_same(state(model), before)


def test_as_a_callback_it_takes_enough_epochs():
    test = LRRangeTest(min_lr=1e-6, max_lr=1e-4, **SHORT)
    model = network()
    model.fit(classes(), shuffle=False, epochs=4, verbose=0, callbacks=[test])
    assert len(test.result()["rates"]) == 20
    with pytest.raises(ValueError, match="15 steps and the range test 20"):
        model.fit(classes(), shuffle=False, epochs=3, verbose=0, callbacks=[test])


def test_extra_steps_are_not_taken():
    test = LRRangeTest(min_lr=1e-6, max_lr=1e-4, **SHORT)
    model = network()
    model.fit(classes(), shuffle=False, epochs=100, verbose=0, callbacks=[test])
    assert len(test.result()["rates"]) == 20
    assert len(model.history.epoch) == 4


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="0 points"):
        LRRangeTest().result()
    test = lr_range_test(quadratic_model(4.0), quadratic_data(), min_lr=3.0, max_lr=5.0, steps=50)
    with pytest.raises(ValueError, match="too few to read"):
        test.result()


def test_an_unknown_metric_is_refused_and_the_model_restored():
    model = quadratic_model()
    with pytest.raises(ValueError, match="does not log 'accuracy': choose one of loss"):
        lr_range_test(model, quadratic_data(), metric="accuracy", min_lr=0.1, steps=40)
    assert model.get_weights()[0] == 0


def test_what_it_cannot_sweep_is_refused():
    with pytest.raises(ValueError, match="steps_per_execution=1"):
        lr_range_test(quadratic_model(steps_per_execution=2), quadratic_data())
    unbuilt = keras.Sequential([keras.layers.Dense(1)])
    unbuilt.compile("sgd", "mse")
    with pytest.raises(ValueError, match="build the model"):
        lr_range_test(unbuilt, quadratic_data())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_lr": 0.0}, "positive and rise"),
        ({"min_lr": 1.0, "max_lr": 0.1}, "positive and rise"),
        ({"steps": 19}, "too few to read"),
        ({"skip_begin": -1}, "too few to read"),
        ({"smoothing": 1.0}, "smoothing is 1.0"),
        ({"stop_factor": 1.0}, "stop factor is 1.0"),
    ],
)
def test_bad_values_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LRRangeTest(**settings)


def test_plot_is_a_png(tmp_path):
    test = lr_range_test(quadratic_model(), quadratic_data(), steps=60)
    test.plot(tmp_path / "sweep.png")
    with Image.open(tmp_path / "sweep.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(maxcolors=image.width * image.height)) > 3
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.png"]
