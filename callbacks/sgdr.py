"""SGDR: cosine annealing of the learning rate with warm restarts (Loshchilov & Hutter 2017)."""

import bisect
import itertools
import math

import keras


def cycle_ends(cycle_length: int, cycles: int, cycle_mult: int = 2) -> tuple[int, ...]:
    """Return where each cycle ends, in the unit of ``cycle_length`` (steps or epochs).

    ``cycle_ends(3, 4)`` is (3, 9, 21, 45): cycles of 3, 6, 12 and 24.
    """
    return tuple(itertools.accumulate(cycle_length * cycle_mult**index for index in range(cycles)))


class SGDR(keras.callbacks.Callback):
    """Sets the learning rate before each batch by Loshchilov & Hutter (2017), equation 5.

    In each cycle the rate falls from ``peak`` to ``floor`` along half a cosine; the next begins at ``peak``.
    The rate is a function of the optimizer's own count of updates, so a run whose optimizer is restored goes
    on where it stopped. With ``steps_per_execution`` above 1 Keras calls back once per execution, and the
    rate is constant within one. Each epoch's logs gain ``learning_rate``, the rate of its last batch.

    Args:
        peak: the rate at which each cycle starts.
        cycle_steps: length of the first cycle, in updates of the optimizer.
        cycles: number of cycles. After the last one the rate stays at ``floor``.
        cycle_mult: each cycle is this many times as long as the one before it.
        floor: the rate that a cycle approaches.
        warm_start_steps: updates at each cycle's start in which the rate first rises linearly to ``peak``.
        start_step: the optimizer's count of updates where the first cycle begins; 0 for a new optimizer.

    Attributes:
        cycle_ends: for each cycle, the number of updates at its end, counted from ``start_step``.
        total_steps: the updates of all cycles.

    Raises:
        ValueError: a value out of its range.
    """

    def __init__(
        self,
        peak: float,
        cycle_steps: int,
        cycles: int,
        cycle_mult: int = 2,
        floor: float = 0.0,
        *,
        warm_start_steps: int = 0,
        start_step: int = 0,
    ):
        super().__init__()
        if not 0 < peak < math.inf:
            raise ValueError(f"The peak learning rate is {peak}: it must be a positive number.")
        if not 0 <= floor < peak:
            raise ValueError(f"The floor is {floor}: it must be at least 0 and below the peak, {peak}.")
        for name, value, least in (
            ("cycle_steps", cycle_steps, 1),
            ("cycles", cycles, 1),
            ("cycle_mult", cycle_mult, 1),
            ("warm_start_steps", warm_start_steps, 0),
            ("start_step", start_step, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value}: it must be a whole number of at least {least}.")
        if warm_start_steps >= cycle_steps:
            raise ValueError(f"warm_start_steps is {warm_start_steps}: it must be below cycle_steps, {cycle_steps}.")
        self.peak = peak
        self.floor = floor
        self.warm_start_steps = warm_start_steps
        self.start_step = start_step
        self.cycle_ends = cycle_ends(cycle_steps, cycles, cycle_mult)
        self.total_steps = self.cycle_ends[-1]

    def learning_rate(self, step: int) -> float:
        """Return the rate of an update; they are numbered from 0 at ``start_step``."""
        if step >= self.total_steps:
            return self.floor
        cycle = bisect.bisect_right(self.cycle_ends, step)
        peak_step = (self.cycle_ends[cycle - 1] if cycle else 0) + self.warm_start_steps
        if step < peak_step:
            height = 1 - (peak_step - step) / (self.warm_start_steps + 1)
        else:
            progress = (step - peak_step) / (self.cycle_ends[cycle] - peak_step)
            height = (1 + math.cos(math.pi * progress)) / 2
        return self.floor + (self.peak - self.floor) * height

    def cycle_end_epochs(self, steps_per_epoch: int) -> tuple[int, ...]:
        """Return after how many epochs each cycle ends: when to keep a snapshot.

        Raises:
            ValueError: a cycle ends within an epoch.
        """
        if any(end % steps_per_epoch for end in self.cycle_ends):
            raise ValueError(
                f"The cycles end after {', '.join(map(str, self.cycle_ends))} steps, some within an epoch of "
                f"{steps_per_epoch}: make cycle_steps a multiple of it."
            )
        return tuple(end // steps_per_epoch for end in self.cycle_ends)

    def on_train_batch_begin(self, batch, logs=None):
        optimizer = self.model.optimizer
        # Through NumPy, since a variable that a strategy mirrors has no int().
        optimizer.learning_rate = self.learning_rate(int(optimizer.iterations.numpy()) - self.start_step)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate.numpy())
