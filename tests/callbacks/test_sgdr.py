"""SGDR: the formula, the cycles, and the rate that an optimizer really uses."""

import math

import keras
import numpy as np
import pytest

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


def test_restarts_at_the_peak_and_stays_at_the_floor_afterwards():
    schedule = SGDR(peak=0.3, cycle_steps=3, cycles=4, floor=0.01)
    for step in (0, 3, 9, 21):
        assert schedule.learning_rate(step) == 0.3
    for step in (45, 46, 1000):
        assert schedule.learning_rate(step) == 0.01


def test_every_restart_of_many_equal_cycles_is_exact():
    schedule = SGDR(peak=0.1, cycle_steps=7, cycles=1000, cycle_mult=1)
    assert all(schedule.learning_rate(step) == 0.1 for step in range(0, 7000, 7))
    assert all(schedule.learning_rate(step) < 0.01 for step in range(6, 7000, 7))


def test_warm_start_rises_linearly_in_each_cycle():
    schedule = SGDR(peak=1.0, cycle_steps=8, cycles=2, cycle_mult=1, floor=0.2, warm_start_steps=3)
    for start in (0, 8):
        rates = [schedule.learning_rate(start + step) for step in range(8)]
        assert rates[:4] == pytest.approx([0.4, 0.6, 0.8, 1.0])
        assert rates[4:] == pytest.approx([0.2 + 0.8 * (1 + math.cos(math.pi * k / 5)) / 2 for k in range(1, 5)])


def test_cycle_ends_in_epochs():
    assert cycle_ends(3, 4) == (3, 9, 21, 45)
    assert SGDR(0.1, cycle_steps=30, cycles=4).cycle_end_epochs(10) == (3, 9, 21, 45)
    with pytest.raises(ValueError, match="multiple"):
        SGDR(0.1, cycle_steps=25, cycles=2).cycle_end_epochs(10)


def test_sets_the_rate_of_each_batch_and_logs_it():
    schedule = SGDR(peak=0.01, cycle_steps=4, cycles=2)
    rates, history = fit(linear_model(), schedule, epochs=2)
    assert rates == pytest.approx([schedule.learning_rate(step) for step in range(12)], rel=1e-6)
    assert history["learning_rate"] == pytest.approx([rates[5], rates[11]])


def test_a_restored_optimizer_resumes_the_schedule():
    schedule = SGDR(peak=0.01, cycle_steps=4, cycles=2)
    model = linear_model()
    whole, _ = fit(linear_model(), schedule, epochs=2)
    first, _ = fit(model, schedule, epochs=1)
    resumed = linear_model()
    resumed.optimizer.build(resumed.trainable_variables)
    resumed.optimizer.set_weights([variable.numpy() for variable in model.optimizer.variables])
    second, _ = fit(resumed, SGDR(peak=0.01, cycle_steps=4, cycles=2), epochs=1)
    assert first + second == whole


def test_start_step_begins_a_new_schedule_on_a_used_optimizer():
    model = linear_model()
    fit(model, SGDR(peak=0.01, cycle_steps=6, cycles=1), epochs=1)
    rates, _ = fit(model, SGDR(peak=0.02, cycle_steps=6, cycles=1, start_step=6), epochs=1)
    assert rates[0] == pytest.approx(0.02)


def test_rate_is_constant_within_an_execution():
    schedule = SGDR(peak=0.01, cycle_steps=6, cycles=1)
    rates, _ = fit(linear_model(steps_per_execution=3), schedule, epochs=1)
    assert rates == pytest.approx([schedule.learning_rate(0), schedule.learning_rate(3)], rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peak": 0.0}, "peak"),
        ({"peak": math.nan}, "peak"),
        ({"cycle_steps": 0}, "cycle_steps is 0"),
        ({"cycle_steps": 2.5}, "cycle_steps is 2.5"),
        ({"cycles": 0}, "cycles is 0"),
        ({"cycle_mult": 0}, "cycle_mult is 0"),
        ({"floor": 0.1}, "floor"),
        ({"floor": -0.1}, "floor"),
        ({"warm_start_steps": 4}, "warm_start_steps is 4"),
        ({"start_step": -1}, "start_step is -1"),
    ],
)
def test_bad_values_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SGDR(**{"peak": 0.1, "cycle_steps": 4, "cycles": 2, **settings})
