"""SGDR: the formula, the cycles, and the rate that an optimizer really uses."""

import logging
import math
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from callbacks.sgdr import SGDR, cycle_ends


def linear_model(**settings) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(1.0), "mse", **settings)
    return model


class Rates(keras.callbacks.Callback):
    """Records the rate of each batch."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


def fit(model, schedule, epochs, steps=6, **options) -> tuple[list[float], dict]:
    data = np.ones((steps, 3), "float32"), np.zeros((steps, 1), "float32")
    rates = Rates()
    history = model.fit(
        *data, batch_size=1, epochs=epochs, shuffle=False, verbose=0, callbacks=[schedule, rates], **options
    )
    return rates.rates, history.history


def test_each_cycle_is_half_a_cosine():
    schedule = SGDR(peak=0.3, cycle_steps=4, cycles=3, cycle_mult=2, floor=0.1)
    expected = [
        0.1 + 0.2 * (1 + math.cos(math.pi * position / length)) / 2
        for length in (4, 8, 16)
        for position in range(length)
    ]
    assert [schedule.learning_rate(step) for step in range(28)] == pytest.approx(expected, rel=1e-12)
    assert schedule.cycle_ends == (4, 12, 28)
    assert schedule.total_steps == 28


def test_each_cycle_restarts_at_the_peak_and_the_floor_comes_last():
    schedule = SGDR(peak=0.3, cycle_steps=3, cycles=4, floor=0.01)
    for step in (0, 3, 9, 21):
        assert schedule.learning_rate(step) == 0.3
    for step in (45, 46, 1000):
        assert schedule.learning_rate(step) == 0.01


def test_every_restart_of_many_equal_cycles_is_exact():
    schedule = SGDR(peak=0.1, cycle_steps=7, cycles=1000, cycle_mult=1)
    assert all(schedule.learning_rate(step) == 0.1 for step in range(0, 7000, 7))
    assert all(schedule.learning_rate(step) < 0.01 for step in range(6, 7000, 7))


def fastai_rates(peak: float, batches: int) -> list[float]:
    """The rates of fastai 0.7's cosine schedule in the first cycle of a fit, batch by batch."""
    return [
        peak / 100 if batch < batches / 20 else peak / 2 * (math.cos(math.pi * batch / batches) + 1)
        for batch in range(batches)
    ]


@pytest.mark.parametrize("length", [7, 40, 50])
def test_warm_start_is_fastais_in_each_cycle(length):
    schedule = SGDR(peak=0.3, cycle_steps=length, cycles=2, warm_start=True)
    expected = fastai_rates(0.3, length) + fastai_rates(0.3, 2 * length)
    assert [schedule.learning_rate(step) for step in range(3 * length)] == pytest.approx(expected, rel=1e-12)


def test_warm_start_does_not_go_below_the_floor():
    assert SGDR(peak=1.0, cycle_steps=20, cycles=1, floor=0.2, warm_start=True).learning_rate(0) == 0.2


def test_cycles_end_in_the_unit_of_their_length():
    assert cycle_ends(3, 4) == (3, 9, 21, 45)


def test_the_rate_of_each_batch_is_set_and_logged():
    schedule = SGDR(peak=0.01, cycle_steps=4, cycles=2)
    rates, history = fit(linear_model(), schedule, epochs=2)
    assert rates == pytest.approx([schedule.learning_rate(step) for step in range(12)], rel=1e-6)
    assert history["learning_rate"] == pytest.approx([rates[5], rates[11]])


def test_a_restored_optimizer_resumes_the_schedule():
    schedule = SGDR(peak=0.01, cycle_steps=4, cycles=2)
    model = linear_model()
    uninterrupted, _ = fit(linear_model(), schedule, epochs=2)
    first, _ = fit(model, schedule, epochs=1)
    resumed = linear_model()
    resumed.optimizer.build(resumed.trainable_variables)
    resumed.optimizer.set_weights([variable.numpy() for variable in model.optimizer.variables])
    second, _ = fit(resumed, SGDR(peak=0.01, cycle_steps=4, cycles=2), epochs=1)
    assert first + second == uninterrupted


def test_start_step_starts_a_new_schedule_on_a_used_optimizer():
    model = linear_model()
    fit(model, SGDR(peak=0.01, cycle_steps=6, cycles=1), epochs=1)
    rates, _ = fit(model, SGDR(peak=0.02, cycle_steps=6, cycles=1, start_step=6), epochs=1)
    assert rates[0] == pytest.approx(0.02)


def rates_applied(schedule, optimizer=keras.optimizers.SGD):
    """Return the rate of each of 12 batches, read from how far it moved a weight that only it moves."""
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(optimizer(1.0), loss=lambda target, answer: answer)
    inputs = np.eye(12, dtype="float32")
    for epoch in range(2):
        batch = inputs[6 * epoch : 6 * epoch + 6]
        model.fit(batch, np.zeros((6, 1)), batch_size=1, shuffle=False, verbose=0, callbacks=[schedule])
    return -model.get_weights()[0][:, 0], model


def test_each_step_is_taken_at_its_own_rate():
    schedule = SGDR(peak=0.01, cycle_steps=4, cycles=2, warm_start=True)
    moved, model = rates_applied(schedule)
    assert moved == pytest.approx([schedule.learning_rate(step) for step in range(12)], rel=1e-6)
    assert model.history.history["learning_rate"] == pytest.approx([schedule.learning_rate(11)])
    # Afterwards the rate can be set as before.
    model.optimizer.learning_rate = 0.5
    model.fit(np.eye(12, dtype="float32")[:1], np.zeros((1, 1)), verbose=0)
    assert -model.get_weights()[0][0, 0] == pytest.approx(moved[0] + 0.5)


def loss_scaled(rate):
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(rate), initial_scale=4.0)


def test_a_loss_scale_optimizer_gets_the_same_rates():
    schedule = SGDR(peak=0.01, cycle_steps=4, cycles=2)
    moved, _ = rates_applied(schedule, optimizer=loss_scaled)
    assert moved == pytest.approx([schedule.learning_rate(step) for step in range(12)], rel=1e-6)


def test_updates_are_counted_where_gradients_accumulate():
    schedule = SGDR(peak=0.01, cycle_steps=2, cycles=2)
    moved, _ = rates_applied(schedule, optimizer=lambda rate: keras.optimizers.SGD(rate, gradient_accumulation_steps=2))
    assert 2 * moved == pytest.approx([schedule.learning_rate(step // 2) for step in range(12)], rel=1e-6)


def test_the_progress_bar_shows_the_rate(capsys):
    model = linear_model()
    model.fit(np.ones((2, 3)), np.zeros((2, 1)), batch_size=1, callbacks=[SGDR(0.01, 2, 1)])
    assert "learning_rate: 0.0050" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peak": 0.0}, "peak"),
        ({"peak": math.nan}, "peak"),
        ({"cycle_steps": 0}, "cycle_steps is 0"),
        ({"cycle_steps": 2.5}, "cycle_steps is 2.5"),
        ({"cycle_steps": 3.0}, "cycle_steps is 3.0: it must be a whole number, as an int"),
        ({"cycle_steps": True}, "cycle_steps is True"),
        ({"cycles": np.True_}, "cycles is True"),
        ({"cycle_steps": "3"}, "cycle_steps is 3"),
        ({"cycle_steps": np.int64(0)}, "cycle_steps is 0"),
        ({"peak": "0.1"}, "peak learning rate is '0.1'"),
        ({"peak": None}, "peak learning rate is None"),
        ({"peak": True}, "peak learning rate is True"),
        ({"floor": "0"}, "floor is '0'"),
        ({"floor": math.nan}, "floor is nan"),
        ({"cycles": 0}, "cycles is 0"),
        ({"cycle_mult": 0}, "cycle_mult is 0"),
        ({"floor": 0.1}, "floor"),
        ({"floor": -0.1}, "floor"),
        ({"start_step": -1}, "start_step is -1"),
    ],
)
def test_bad_values_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SGDR(**{"peak": 0.1, "cycle_steps": 4, "cycles": 2, **settings})


def weight_a_step(steps: int, optimizer=None, **settings) -> keras.Model:
    """Return a model each of whose weights one step alone moves, by the rate of that step."""
    model = keras.Sequential([keras.Input((steps,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(optimizer or keras.optimizers.SGD(1.0), loss=lambda target, answer: answer, **settings)
    return model


def moved(model) -> np.ndarray:
    return -model.get_weights()[0][:, 0]


def batches(first: int, count: int, steps: int):
    for place in range(first, first + count):
        yield np.eye(steps, dtype="float32")[place : place + 1], np.zeros((1, 1), "float32")


def of_unknown_length(count: int, steps: int) -> tf.data.Dataset:
    specs = tf.TensorSpec((1, steps)), tf.TensorSpec((1, 1))
    return tf.data.Dataset.from_generator(lambda: batches(0, count, steps), output_signature=specs)


class Ends(keras.callbacks.Callback):
    """Records the optimizer's count of updates at the end of each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.counts = [*getattr(self, "counts", []), int(self.model.optimizer.iterations.numpy())]


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("settings", [{}, {"run_eagerly": True}], ids=str)
def test_data_of_unknown_length_takes_no_step_too_many(settings):
    schedule, ends = SGDR(peak=0.01, cycle_steps=6, cycles=3, cycle_mult=1), Ends()
    model = weight_a_step(6, **settings)
    history = model.fit(of_unknown_length(6, 6), epochs=3, shuffle=False, verbose=0, callbacks=[schedule, ends]).history
    # Each cycle is an epoch, so each weight got the same rate three times.
    assert moved(model) == pytest.approx([3 * schedule.learning_rate(step) for step in range(6)], rel=1e-5)
    assert history["learning_rate"] == pytest.approx([schedule.learning_rate(5)] * 3)
    assert float(model.optimizer.learning_rate) == pytest.approx(schedule.learning_rate(5))
    assert ends.counts == [6, 12, 18]


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_generators_and_data_that_runs_out_take_no_step_too_many():
    schedule, model = SGDR(peak=0.01, cycle_steps=6, cycles=2), weight_a_step(18)
    model.fit(batches(0, 6, 18), shuffle=False, verbose=0, callbacks=[schedule])
    assert int(model.optimizer.iterations.numpy()) == 6
    model.fit(batches(6, 6, 18), steps_per_epoch=9, shuffle=False, verbose=0, callbacks=[schedule])
    assert int(model.optimizer.iterations.numpy()) == 12
    assert moved(model)[:12] == pytest.approx([schedule.learning_rate(step) for step in range(12)], rel=1e-6)


class Interrupted(keras.callbacks.Callback):
    """Interrupts a fit at one of a callback's moments."""

    def __init__(self, hook: str):
        super().__init__()
        setattr(self, hook, self.stop)

    def stop(self, *args, **named):
        raise KeyboardInterrupt


@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end", "on_test_begin"])
def test_after_a_fit_that_was_interrupted_the_rate_can_be_set(hook):
    model = weight_a_step(12)
    data = np.eye(12, dtype="float32"), np.zeros((12, 1))
    with pytest.raises(KeyboardInterrupt):
        model.fit(
            data[0][:6], data[1][:6], validation_data=data, batch_size=1, shuffle=False, verbose=0,
            callbacks=[SGDR(peak=0.01, cycle_steps=6, cycles=1), Interrupted(hook)],
        )  # fmt: skip
    model.optimizer.learning_rate = 0.5
    assert float(model.optimizer.learning_rate) == 0.5
    model.fit(data[0][6:], data[1][6:], batch_size=1, shuffle=False, verbose=0)
    assert moved(model)[6:] == pytest.approx([0.5] * 6)
    # A new schedule is as right as ever, and leaves as little behind.
    start = int(model.optimizer.iterations.numpy())
    again = SGDR(peak=0.25, cycle_steps=6, cycles=1, start_step=start)
    model.fit(data[0][6:], data[1][6:], batch_size=1, shuffle=False, verbose=0, callbacks=[again])
    assert moved(model)[6:] - 0.5 == pytest.approx([again.learning_rate(step) for step in range(6)], rel=1e-5)
    model.optimizer.learning_rate = 2.0
    model.fit(data[0][6:], data[1][6:], batch_size=1, shuffle=False, verbose=0)
    assert moved(model)[11] == pytest.approx(2.5 + again.learning_rate(5), rel=1e-5)


def test_a_fit_that_starts_after_the_last_cycle_is_refused_where_its_rate_would_be_0():
    model = linear_model()
    schedule = SGDR(peak=0.01, cycle_steps=6, cycles=1)
    fit(model, schedule, epochs=1)
    before = model.get_weights()[0]
    with pytest.raises(ValueError, match=r"has done 6 updates.*end after 6.*rate of 0.*start_step to 6"):
        fit(model, schedule, epochs=1)
    np.testing.assert_array_equal(model.get_weights()[0], before)
    fit(model, SGDR(peak=0.01, cycle_steps=6, cycles=1, start_step=6), epochs=1)
    # Nothing is left to train: nothing is wrong.
    model.fit(np.ones((1, 3)), np.zeros((1, 1)), initial_epoch=2, epochs=2, verbose=0, callbacks=[schedule])


@pytest.mark.parametrize("floor", [0.0, 0.001])
def test_a_fit_beyond_the_last_cycle_is_a_warning_once(caplog, floor):
    model = linear_model()
    schedule = SGDR(peak=0.01, cycle_steps=6, cycles=1, floor=floor)
    fit(model, schedule, epochs=1)
    assert not caplog.records
    model = linear_model()
    rates, _ = fit(model, schedule, epochs=3)
    assert rates[6:] == pytest.approx([floor] * 12)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"ended after 6 updates of the optimizer, so the rate is now the floor, {floor:g}" in record.message
    if floor:
        rates, _ = fit(model, schedule, epochs=1)
        assert rates == pytest.approx([floor] * 6)
        assert len(caplog.records) == 2


def test_a_start_that_the_optimizer_has_not_reached_is_refused():
    with pytest.raises(ValueError, match=r"start at update 6 of the optimizer, which has done 0: set start_step to 0"):
        fit(linear_model(), SGDR(0.01, 6, 1, start_step=6), epochs=1)


def test_several_steps_per_execution_are_refused():
    with pytest.raises(ValueError, match="compile the model with steps_per_execution=1, not 2"):
        fit(linear_model(steps_per_execution=2), SGDR(0.01, 6, 1), epochs=1)


@pytest.mark.parametrize(
    "rate", [keras.optimizers.schedules.CosineDecay(0.1, 10), lambda: 0.1], ids=["schedule", "function"]
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_optimizer_with_a_schedule_of_its_own_is_refused(rate, wrapped):
    optimizer = keras.optimizers.SGD(rate)
    model = weight_a_step(6, keras.optimizers.LossScaleOptimizer(optimizer) if wrapped else optimizer)
    with pytest.raises(ValueError, match=r"this SGD has a schedule or a function.*make the optimizer with a number"):
        model.fit(np.eye(6), np.zeros((6, 1)), verbose=0, callbacks=[SGDR(0.1, 6, 1)])


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8])
def test_numpys_integers_and_floats_are_accepted(kind):
    schedule = SGDR(np.float32(0.5), kind(3), kind(4), kind(2), start_step=kind(0))
    assert schedule.cycle_ends == (3, 9, 21, 45)
    assert cycle_ends(kind(100), kind(40))[-1] == 100 * (2**40 - 1)


def test_a_long_schedule_costs_no_more_than_a_short_one():
    schedule = SGDR(0.1, 1000, 40)
    model = weight_a_step(6)
    start = time.perf_counter()
    model.fit(np.eye(6), np.zeros((6, 1)), batch_size=1, shuffle=False, verbose=0, callbacks=[schedule])
    assert time.perf_counter() - start < 10
    assert moved(model) == pytest.approx([schedule.learning_rate(step) for step in range(6)], rel=1e-6)


def overflowing(steps: int, overflows: set[int]) -> tuple[keras.Model, np.ndarray]:
    """Return a model with a loss scale, and inputs whose gradients overflow at some batches: such a weight stays."""
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), initial_scale=4.0)
    model = weight_a_step(steps, optimizer)
    inputs = np.eye(steps, dtype="float32")
    for place in overflows:
        inputs[place, place] = np.inf
    return model, inputs


def test_the_logged_rate_is_the_one_applied_where_a_loss_scale_left_steps_out():
    model, inputs = overflowing(12, {0, 4, 5})
    schedule = SGDR(peak=0.01, cycle_steps=12, cycles=1)
    logged = {}

    class Logged(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            logged[batch] = logs["learning_rate"]

    targets = np.zeros((12, 1))
    history = model.fit(inputs, targets, batch_size=1, shuffle=False, verbose=0, callbacks=[schedule, Logged()]).history
    applied = [schedule.learning_rate(step) for step in range(9)]
    kept = [place for place in range(12) if place not in (0, 4, 5)]
    assert moved(model)[kept] == pytest.approx(applied, rel=1e-6)
    assert history["learning_rate"] == pytest.approx([applied[-1]])
    assert logged[11] == pytest.approx(applied[-1])
    for batch, rate in logged.items():
        if batch in kept:
            assert rate == pytest.approx(moved(model)[batch], rel=1e-6)


def test_a_train_step_that_updates_twice_a_batch_is_counted():
    class Twice(keras.Sequential):
        def train_step(self, data):
            super().train_step(data)
            return super().train_step(data)

    model = Twice([keras.Input((6,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda target, answer: answer)
    schedule = SGDR(peak=0.01, cycle_steps=12, cycles=1)
    model.fit(np.eye(6), np.zeros((6, 1)), batch_size=1, shuffle=False, verbose=0, callbacks=[schedule])
    # A batch has one rate, that of its first update.
    assert moved(model) == pytest.approx([2 * schedule.learning_rate(step) for step in range(0, 12, 2)], rel=1e-6)


def test_one_schedule_serves_several_models_and_a_model_compiled_again():
    schedule = SGDR(peak=0.01, cycle_steps=6, cycles=1)
    wanted = [schedule.learning_rate(step) for step in range(6)]
    model = weight_a_step(6)
    for count, fitted in enumerate((model, weight_a_step(6), model)):
        if count == 2:
            fitted.compile(keras.optimizers.SGD(1.0), loss=lambda target, answer: answer)
        before = moved(fitted)
        fitted.fit(np.eye(6), np.zeros((6, 1)), batch_size=1, shuffle=False, verbose=0, callbacks=[schedule])
        assert moved(fitted) - before == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("optimizer", "reads"), [(keras.optimizers.SGD, 2), (loss_scaled, 12)])
def test_the_optimizers_count_is_read_once_an_epoch_where_every_batch_updates_once(optimizer, reads, monkeypatch):
    schedule, counted = SGDR(peak=0.01, cycle_steps=12, cycles=1), []
    count = schedule._read_count
    monkeypatch.setattr(schedule, "_read_count", lambda: counted.append(1) or count())
    model = weight_a_step(6, optimizer(1.0))
    data = np.eye(6, dtype="float32"), np.zeros((6, 1))
    model.fit(*data, batch_size=1, epochs=2, shuffle=False, verbose=0, callbacks=[schedule])
    wanted = [schedule.learning_rate(step) + schedule.learning_rate(step + 6) for step in range(6)]
    assert moved(model) == pytest.approx(wanted, rel=1e-6)
    assert len(counted) == reads + 1  # one before the first epoch


def test_an_optimizer_that_leaves_updates_out_of_its_own_accord_is_counted():
    class EverySecond(keras.optimizers.SGD):
        def apply(self, gradients, variables=None):
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls % 2:
                super().apply(gradients, variables)

    model = weight_a_step(6, EverySecond(1.0), run_eagerly=True)
    schedule = SGDR(peak=0.01, cycle_steps=6, cycles=1)
    model.fit(np.eye(6), np.zeros((6, 1)), batch_size=1, shuffle=False, verbose=0, callbacks=[schedule])
    assert moved(model)[::2] == pytest.approx([schedule.learning_rate(step) for step in range(3)], rel=1e-6)
