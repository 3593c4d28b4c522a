"""The range test: what it reads from a sweep, and that it leaves the model as it was."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from callbacks.layer_groups import with_layer_groups
from callbacks.lr_curve import smooth
from callbacks.lr_range_test import LRRangeTest, lr_range_test
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
def test_the_rate_where_the_loss_starts_to_diverge_is_found(steps):
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


def record(test: LRRangeTest, values) -> None:
    """Give a range test the losses of a sweep that it did not run."""
    test.sweep.losses = test.sweep.values = list(values)


def read(values, metric: str) -> dict:
    """Return what a sweep reads from these values, one a step from 1e-3 to 1."""
    test = LRRangeTest(1e-3, 1.0, len(values), metric)
    record(test, values)
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


def test_the_sweep_stops_at_a_loss_that_is_not_finite():
    model = quadratic_model()
    test = lr_range_test(model, quadratic_data(), min_lr=1e-3, max_lr=1e30, stop_factor=1e38)
    result = test.result()
    assert result["stopped"] == "nan"
    assert np.isfinite(result["values"]).all()
    assert model.get_weights()[0] == 0


def test_a_sweep_leaves_no_trace():
    model = network()
    model.fit(classes(), shuffle=False, epochs=1, verbose=0)
    history, before = model.history, state(model)
    test = lr_range_test(model, classes(), steps=40)
    assert len(test.result()["rates"]) > 20
    assert_same(state(model), before)
    assert model.history is history
    assert not model.stop_training


@pytest.mark.parametrize("optimizer_is_built", [True, False])
def test_training_after_a_sweep_equals_training_without_one(optimizer_is_built):
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


def test_a_sweep_that_is_interrupted_is_undone(monkeypatch):
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


def test_several_steps_per_execution_and_models_that_are_not_built_are_refused():
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
        ({"steps": 40.0}, "whole number"),
        ({"steps": None}, "whole number"),
        ({"skip_end": "5"}, "whole number"),
        ({"min_lr": None}, "must be a number"),
        ({"max_lr": float("nan")}, "positive and rise"),
        ({"max_lr": float("inf")}, "positive and rise"),
        ({"steps": 40, "skip_begin": 30, "skip_end": 6}, "too few to read"),
        ({"mode": "lower"}, "choose auto, min or max"),
        ({"metric": None}, "The metric is None: give its name"),
        ({"skip_begin": -1}, "too few to read"),
        ({"smoothing": 1.0}, "smoothing is 1.0"),
        ({"stop_factor": 1.0}, "stop factor is 1.0"),
    ],
)
def test_bad_values_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LRRangeTest(**settings)


def regression(metrics=("mae",), optimizer="sgd", loss="mse") -> keras.Model:
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    model.compile(optimizer, loss, metrics=list(metrics))
    return model


def sums(batch: int = 8) -> tf.data.Dataset:
    features = np.random.default_rng(5).normal(size=(64, 3)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((features, features.sum(1, keepdims=True))).batch(batch)


@pytest.mark.parametrize("skips", [(0, 0), (0, 5), (1, 0)])
def test_no_point_need_be_left_out(skips):
    begin, end = skips
    result = lr_range_test(regression(), sums(), skip_begin=begin, skip_end=end).result()
    assert 0.03 < result["divergence"] < 2


@pytest.mark.parametrize("values", [[5.0, 4, 6, 7, 8, 9], [1.0, 2, 3, 4, 5, 6], [6.0, 5, 4, 3, 2, 1], [2.0] * 6])
def test_a_least_point_at_either_end_is_read(values):
    test = LRRangeTest(1e-3, 1.0, 6, smoothing=0.0, skip_begin=0, skip_end=0)
    record(test, values)
    assert np.isfinite(test.result()["divergence"])


def test_a_noisy_curve_whose_first_point_is_least_is_read_where_it_rises():
    test = LRRangeTest(1e-3, 1.0, 12, smoothing=0.0, skip_begin=0, skip_end=0)
    record(test, [1.0, 1.2, 1.1, 1.3, 1.05, 1.25, 1.08, 1.04, 3.0, 6.0, 9.0, 12.0])
    result = test.result()
    assert not result["clear"]
    assert result["divergence"] == test.schedule[7]


def test_a_loss_that_never_changes_is_not_clear():
    assert not read([2.0] * 100, "loss")["clear"]
    assert not read([0.1 + 0.2, 0.3] * 50, "loss")["clear"]


@pytest.mark.parametrize("metric", ["mae", "mean_squared_error", "root_mean_squared_error", "out_loss", "hinge"])
def test_a_metric_that_is_better_when_lower_is_read_as_a_loss(metric):
    values = np.concatenate([np.linspace(1, 0.2, 70), np.linspace(0.2, 3, 30)])
    as_loss, as_metric = read(values, "loss"), read(values, metric)
    assert as_metric["divergence"] == as_loss["divergence"] == pytest.approx(as_loss["rates"][69], rel=0.2)
    assert as_metric["suggestion"] == pytest.approx(as_metric["divergence"] / 10)


def test_the_direction_of_a_metric_is_what_keras_says_of_it():
    model = regression([keras.metrics.MeanAbsoluteError(name="off"), keras.metrics.CosineSimilarity(name="near")])
    found = {metric: lr_range_test(model, sums(), metric=metric).result() for metric in ("off", "near")}
    assert found["off"]["suggestion"] == pytest.approx(found["off"]["divergence"] / 10)
    assert found["off"]["divergence"] > 0.03
    assert found["near"]["suggestion"] == pytest.approx(found["near"]["divergence"] / 3)


def test_an_outputs_metric_is_known_under_its_outputs_name():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, {name: keras.layers.Dense(1, name=name)(inputs) for name in "ab"})
    model.compile("sgd", "mse", metrics={"a": [keras.metrics.MeanAbsoluteError(name="off")], "b": []})
    data = sums().map(lambda x, y: (x, {"a": y, "b": -y}, {"a": tf.ones_like(y), "b": tf.zeros_like(y)}))
    result = lr_range_test(model, data, metric="a_off").result()
    assert result["suggestion"] == pytest.approx(result["divergence"] / 10)


def oddity(truth, answer):
    return tf.reduce_mean(tf.abs(truth - answer), axis=-1)


def test_a_metric_of_unknown_direction_asks_for_its_mode():
    model = regression([oddity])
    before = state(model)
    with pytest.raises(ValueError, match="mode='max' or 'min'"):
        lr_range_test(model, sums(), metric="oddity")
    assert_same(state(model), before)
    result = lr_range_test(model, sums(), metric="oddity", mode="min").result()
    assert result["suggestion"] == pytest.approx(result["divergence"] / 10)


class OwnStep(keras.Model):
    """A model whose step logs no loss."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, inputs):
        return self.dense(inputs)

    def train_step(self, data):
        inputs, truth = data
        with tf.GradientTape() as tape:
            error = tf.reduce_mean((self(inputs) - truth) ** 2)
        self.optimizer.apply(tape.gradient(error, self.trainable_variables), self.trainable_variables)
        return {"error": error, "score": -error, "each": tf.stack([error, error])}


def own_step() -> keras.Model:
    keras.utils.set_random_seed(3)
    model = OwnStep()
    model(np.zeros((1, 3), "float32"))
    model.compile(keras.optimizers.SGD(0.1))
    return model


def test_a_model_that_logs_no_loss_is_swept_on_its_metric():
    result = lr_range_test(own_step(), sums(), metric="error").result()
    assert (result["stopped"], result["clear"]) == ("diverged", True)
    assert 0.03 < result["divergence"] < 5
    assert lr_range_test(own_step(), sums(), max_lr=0.1, metric="score", mode="max").result()["stopped"] == "end"


@pytest.mark.parametrize(
    ("metric", "message"),
    [("loss", "does not log 'loss': choose one of"), ("each", "not one number"), ("val_error", "epoch's end")],
)
def test_what_is_not_logged_as_a_number_each_step_is_refused(metric, message):
    model = own_step()
    before = state(model)
    with pytest.raises(ValueError, match=message):
        lr_range_test(model, sums(), metric=metric)
    assert_same(state(model), before)


@pytest.mark.parametrize("shift", [-100.0, -1.0, 0.0])
def test_a_loss_below_zero_can_diverge(shift):
    model = regression(loss=lambda truth, answer: keras.losses.mean_squared_error(truth, answer) + shift)
    result = lr_range_test(model, sums(), skip_end=0).result()
    assert result["stopped"] == "diverged"
    assert 0.03 < result["divergence"] < 2


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_data_that_ends_before_the_sweep_is_called_so():
    model = regression()
    test = LRRangeTest(max_lr=1e-2)
    unknown = sums().filter(lambda x, y: True)  # of a length that Keras cannot know
    model.fit(unknown, shuffle=False, epochs=6, verbose=0, callbacks=[test])
    assert test.result()["stopped"] == "data"
    batches = list(sums())
    test = lr_range_test(model, (batches[step % 8] for step in range(48)), max_lr=1e-2)
    assert (test.result()["stopped"], len(test.result()["rates"])) == ("data", 48)
    with pytest.raises(ValueError, match=r"12 points, .*the data ended"):
        lr_range_test(model, (batches[step % 8] for step in range(12)), max_lr=1e-2).result()


def test_a_fit_that_another_callback_ends_is_called_so():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = self.model.stop_training or batch == 30

    test = LRRangeTest(max_lr=1e-2)
    regression().fit(sums().repeat(), steps_per_epoch=100, shuffle=False, verbose=0, callbacks=[test, Stop()])
    assert (test.result()["stopped"], len(test.result()["rates"])) == ("callback", 31)


@pytest.mark.parametrize("empty", [lambda: sums().take(0), lambda: sums().filter(lambda x, y: False), lambda: iter([])])
def test_data_without_a_batch_is_called_empty(empty):
    model = regression()
    before = state(model)
    with pytest.raises(ValueError, match="is empty"):
        lr_range_test(model, empty()).result()
    assert_same(state(model), before)


@pytest.mark.parametrize("row", [0, 3, 40])
def test_nan_in_the_data_is_not_a_divergence(row):
    model = regression()
    before = state(model)
    features = np.ones((64, 3), "float32")
    features[row] = np.nan
    data = tf.data.Dataset.from_tensor_slices((features, np.ones((64, 1), "float32"))).batch(1)
    with pytest.raises(ValueError, match=f"NaN or infinite values, in batch {row + 1}"):
        lr_range_test(model, data, max_lr=1e-2).result()
    assert_same(state(model), before)


def test_a_loss_that_turns_nan_without_a_rise_is_not_clear():
    test = LRRangeTest(1e-3, 1.0)
    record(test, np.linspace(1, 0.4, 60))
    test.sweep.stopped = "nan"
    assert not test.result()["clear"]
    record(test, [*np.linspace(1, 0.4, 60), 0.6, 1.2, 5.0, 40.0, 300.0])
    assert test.result()["clear"]


@pytest.mark.parametrize("scaled", [False, True])
def test_a_schedule_is_restored_and_followed_after_the_sweep(scaled):
    def compiled():
        optimizer = keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.05, 2, 0.5))
        return regression(optimizer=keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer)

    plain, swept = compiled(), compiled()
    for model in (plain, swept):
        model.fit(sums(), shuffle=False, verbose=0)
    result = lr_range_test(swept, sums()).result()
    assert result["stopped"] == "diverged"
    assert 0.03 < result["divergence"] < 2
    for model in (plain, swept):
        model.fit(sums(), shuffle=False, verbose=0)
    assert_same(state(swept), state(plain))


def test_gradient_accumulation_and_a_loss_scale_leave_no_trace():
    for optimizer in (
        keras.optimizers.SGD(0.1, gradient_accumulation_steps=4),
        keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1)),
        keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=2),
    ):
        model = regression(optimizer=optimizer)
        model.fit(sums(), shuffle=False, verbose=0)
        before = state(model)
        assert lr_range_test(model, sums()).result()["stopped"] == "diverged"
        assert_same(state(model), before)


def test_an_error_in_a_step_restores_the_model():
    def broken():
        yield from list(sums())
        raise OSError("the disk is gone")

    for sweep in (
        lambda model: lr_range_test(model, broken(), min_lr=1e-3),
        lambda model: model.fit(
            broken(), steps_per_epoch=100, shuffle=False, verbose=0, callbacks=[LRRangeTest(min_lr=1e-3)]
        ),
    ):
        model = regression()
        model.optimizer.build(model.trainable_variables)
        before, step = state(model), model.make_train_function() or model.train_function
        with pytest.raises(Exception, match="the disk is gone"):
            sweep(model)
        assert_same(state(model), before)
        assert model.train_function is step


def test_one_callback_can_sweep_again():
    model, test = regression(), LRRangeTest(max_lr=1e-2, steps=40)
    first = lr_range_test(regression(), sums(), max_lr=1e-2, steps=40).result()
    for _ in range(2):
        model.fit(sums().repeat(), steps_per_epoch=40, shuffle=False, verbose=0, callbacks=[test])
        assert test.result() == first


def test_a_sweep_of_few_steps_leaves_fewer_points_out():
    for steps in (20, 30, 39, 40, 100):
        test = LRRangeTest(steps=steps)
        assert (test.skip_begin, test.skip_end) == (min(10, steps // 4), min(5, steps // 8))
    assert lr_range_test(regression(), sums(), steps=20).result()["stopped"] == "diverged"


def test_numpys_numbers_are_accepted():
    options = {"steps": np.int64(40), "skip_begin": np.int32(2), "min_lr": np.float32(1e-4), "max_lr": np.float64(1)}
    result = lr_range_test(regression(), sums(), **options).result()
    assert json.loads(json.dumps(result)) == result


def test_a_keras_dataset_is_accepted():
    batches = list(sums().as_numpy_iterator())

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, index):
            return batches[index]

    found = [lr_range_test(regression(), data, steps=40).result() for data in (Batches(), sums())]
    assert found[0] == found[1]


def test_a_model_that_cannot_be_swept_is_refused_in_one_sentence():
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="compile the model first"):
        lr_range_test(plain, sums())
    frozen = regression()
    frozen.trainable = False
    frozen.compile("sgd", "mse")
    with pytest.raises(ValueError, match="every layer of this one is frozen"):
        lr_range_test(frozen, sums())
    for data in ((np.zeros((8, 3)), np.zeros((8, 1))), np.zeros((8, 3)), None):
        with pytest.raises(ValueError, match=r"batched tf\.data\.Dataset"):
            lr_range_test(regression(), data)


def test_the_plot_is_a_png(tmp_path):
    test = lr_range_test(quadratic_model(), quadratic_data(), steps=60)
    test.plot(tmp_path / "sweep.png")
    with Image.open(tmp_path / "sweep.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(maxcolors=image.width * image.height)) > 3
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.png"]


class SetsTheRate(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = 0.5


def test_another_callback_that_sets_the_rate_of_a_step_is_refused_and_the_model_restored():
    model = regression()
    before = model.get_weights()[0]
    with pytest.raises(ValueError, match=r"set the rate of a step to 0.5, where the range test has 1e-05: remove that"):
        model.fit(sums(), epochs=100, shuffle=False, verbose=0, callbacks=[LRRangeTest(), SetsTheRate()])
    np.testing.assert_array_equal(model.get_weights()[0], before)
    # Listed before, it has no effect.
    test = LRRangeTest()
    model.fit(sums(), epochs=100, shuffle=False, verbose=0, callbacks=[SetsTheRate(), test])
    assert test.result()["clear"]


def test_a_sweep_that_has_not_run_says_so():
    with pytest.raises(ValueError, match="0 points, as it has not run"):
        LRRangeTest().result()
