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


def rates_applied(schedule, epochs: int = 2, settings: dict | None = None, optimizer=keras.optimizers.SGD):
    """Return the rate of each of 12 batches, read from how far it moved a weight that only it moves."""
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(optimizer(1.0), loss=lambda target, answer: answer, **(settings or {}))
    inputs = np.eye(12, dtype="float32")
    for epoch in range(epochs):
        batch = inputs[6 * epoch : 6 * epoch + 6]
        model.fit(batch, np.zeros((6, 1)), batch_size=1, shuffle=False, verbose=0, callbacks=[schedule])
    return -model.get_weights()[0][:, 0], model


@pytest.mark.parametrize("steps_per_execution", [1, 2, 4, 6])
def test_each_step_of_an_execution_has_its_own_rate(steps_per_execution):
    schedule = SGDR(peak=0.01, cycle_steps=4, cycles=2, warm_start=True)
    moved, model = rates_applied(schedule, settings={"steps_per_execution": steps_per_execution})
    assert moved == pytest.approx([schedule.learning_rate(step) for step in range(12)], rel=1e-6)
    assert model.history.history["learning_rate"] == pytest.approx([schedule.learning_rate(11)])
    # Afterwards the rate can be set as before.
    model.optimizer.learning_rate = 0.5
    model.fit(np.eye(12, dtype="float32")[:1], np.zeros((1, 1)), verbose=0)
    assert -model.get_weights()[0][0, 0] == pytest.approx(moved[0] + 0.5)


def loss_scaled(rate):
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(rate), initial_scale=4.0)


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_a_loss_scale_optimizer_gets_the_same_rates(steps_per_execution):
    schedule = SGDR(peak=0.01, cycle_steps=4, cycles=2)
    moved, _ = rates_applied(schedule, settings={"steps_per_execution": steps_per_execution}, optimizer=loss_scaled)
    assert moved == pytest.approx([schedule.learning_rate(step) for step in range(12)], rel=1e-6)


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_updates_are_counted_where_gradients_accumulate(steps_per_execution):
    schedule = SGDR(peak=0.01, cycle_steps=2, cycles=2)
    moved, _ = rates_applied(
        schedule,
        settings={"steps_per_execution": steps_per_execution},
        optimizer=lambda rate: keras.optimizers.SGD(rate, gradient_accumulation_steps=2),
    )
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
