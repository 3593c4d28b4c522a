"""SGDR: cosine annealing of the learning rate with warm restarts (Loshchilov & Hutter 2017)."""

import bisect
import itertools
import math

import keras
from keras import ops


def cycle_ends(cycle_length: int, cycles: int, cycle_mult: int = 2) -> tuple[int, ...]:
    """Return where each cycle ends, in the unit of ``cycle_length`` (steps or epochs).

    ``cycle_ends(3, 4)`` is (3, 9, 21, 45): cycles of 3, 6, 12 and 24.
    """
    return tuple(itertools.accumulate(cycle_length * cycle_mult**index for index in range(cycles)))


class SGDR(keras.callbacks.Callback):
    """Sets the learning rate before each batch by Loshchilov & Hutter (2017), equation 5.

    In each cycle the rate falls from ``peak`` to ``floor`` along half a cosine; the next begins at ``peak``.
    The rate is a function of the optimizer's own count of updates, so a run whose optimizer is restored goes
    on where it stopped. The count is read as each epoch begins and kept along from there, so that no step waits
    for the device. With ``steps_per_execution`` above 1, where Keras calls back once per execution, the fit
    looks the rate of each step up in its own graph. The logs gain ``learning_rate``, the rate of the last batch.

    Args:
        peak: the rate at which each cycle starts.
        cycle_steps: length of the first cycle, in updates of the optimizer.
        cycles: number of cycles. After the last one the rate stays at ``floor``.
        cycle_mult: each cycle is this many times as long as the one before it.
        floor: the rate that a cycle approaches.
        warm_start: hold the first twentieth of each cycle at a hundredth of ``peak``, but not below ``floor``;
            the cosine goes on underneath. The library of Koné & Boulmane (2018), fastai 0.7, does so in the
            first cycle of each fit.
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
        warm_start: bool = False,
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
            ("start_step", start_step, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value}: it must be a whole number of at least {least}.")
        # Batch ends, which only read numbers of ours, need not wait for the device.
        self.async_safe = True
        self.peak = peak
        self.floor = floor
        self.warm_start = warm_start
        self.start_step = start_step
        self.cycle_ends = cycle_ends(cycle_steps, cycles, cycle_mult)
        self.total_steps = self.cycle_ends[-1]

    def learning_rate(self, step: int) -> float:
        """Return the rate of an update; they are numbered from 0 at ``start_step``."""
        if step >= self.total_steps:
            return self.floor
        cycle = bisect.bisect_right(self.cycle_ends, step)
        start = self.cycle_ends[cycle - 1] if cycle else 0
        progress = (step - start) / (self.cycle_ends[cycle] - start)
        if self.warm_start and progress < 1 / 20:
            return max(self.floor, self.peak / 100)
        return self.floor + (self.peak - self.floor) * (1 + math.cos(math.pi * progress)) / 2

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

    def on_train_begin(self, logs=None):
        if self.model.steps_per_execution > 1:
            self._rate_by_graph()

    def on_epoch_begin(self, epoch, logs=None):
        optimizer = _innermost(self.model.optimizer)
        # In batches, of which those that only accumulate gradients update nothing.
        self._first = int(optimizer._iterations.numpy())
        self._batches_per_update = optimizer.gradient_accumulation_steps or 1

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = self._rate_of(batch)

    def on_train_batch_end(self, batch, logs=None):
        if logs is not None:
            logs["learning_rate"] = self._rate_of(batch)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            done = int(_innermost(self.model.optimizer)._iterations.numpy()) - self._first
            logs["learning_rate"] = self._rate_of(done - 1)

    def on_train_end(self, logs=None):
        if self.model.steps_per_execution > 1:
            del _innermost(self.model.optimizer)._get_current_learning_rate
            self.model.make_train_function(force=True)

    def _rate_of(self, batch: int) -> float:
        """Return the rate of a batch of the present epoch."""
        return self.learning_rate((self._first + batch) // self._batches_per_update - self.start_step)

    def _rate_by_graph(self):
        """Let the optimizer read the rate of its count of updates from a table, until the fit ends."""
        optimizer = _innermost(self.model.optimizer)
        table = [self.learning_rate(step) for step in range(self.total_steps + 1)]

        def rate():
            step = ops.cast(optimizer.iterations, "int32") - self.start_step
            return ops.take(ops.convert_to_tensor(table, "float32"), ops.clip(step, 0, self.total_steps))

        # Keras takes schedules and functions too, but cannot go back from them to a rate that is set.
        optimizer._get_current_learning_rate = rate
        self.model.make_train_function(force=True)


def _innermost(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return the optimizer that updates the weights: a loss scale optimizer wraps it."""
    return getattr(optimizer, "inner_optimizer", optimizer)
