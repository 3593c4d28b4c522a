"""SGDR: cosine annealing of the learning rate with warm restarts (Loshchilov & Hutter 2017)."""

import bisect
import itertools
import logging
import math
import operator

import keras
import numpy as np

LOG = logging.getLogger(__name__)


def cycle_ends(cycle_length: int, cycles: int, cycle_mult: int = 2) -> tuple[int, ...]:
    """Return where each cycle ends, in the unit of ``cycle_length`` (steps or epochs).

    These are cycles of 3, 6, 12 and 24:

        >>> from callbacks.sgdr import cycle_ends
        >>> cycle_ends(3, 4)
        (3, 9, 21, 45)
    """
    # Python's own integers cannot overflow.
    length, count, factor = (operator.index(value) for value in (cycle_length, cycles, cycle_mult))
    return tuple(itertools.accumulate(length * factor**index for index in range(count)))


class SGDR(keras.callbacks.Callback):
    """Sets the learning rate before each batch by Loshchilov & Hutter (2017), equation 5.

    In each cycle the rate falls from ``peak`` to ``floor`` along half a cosine; the next starts at ``peak``.
    The rate is a function of the optimizer's own count of updates, so a run whose optimizer is restored
    continues where it stopped, and a step that a loss scale leaves out does not count. Where every batch must
    update once the count is read at the start of each epoch, else at each batch. The logs gain ``learning_rate``,
    the rate of the last batch.

    A fit is refused where it would start before the first cycle, or after the last with a ``floor`` of 0, and where
    ``steps_per_execution`` is above 1.

    On data of unknown length Keras ends an epoch by a step without data, which the optimizer counts. The count is
    corrected as the epoch ends, so list this callback before those that save the optimizer.

        >>> from callbacks.sgdr import SGDR
        >>> schedule = SGDR(peak=0.1, cycle_steps=4, cycles=2)
        >>> [round(schedule.learning_rate(step), 3) for step in range(schedule.total_steps)]
        [0.1, 0.085, 0.05, 0.015, 0.1, 0.096, 0.085, 0.069, 0.05, 0.031, 0.015, 0.004]

    Args:
        peak: the rate at which each cycle starts.
        cycle_steps: length of the first cycle, in updates of the optimizer.
        cycles: number of cycles. After the last one the rate stays at ``floor``, and a warning says so.
        cycle_mult: each cycle is this many times as long as the one before it.
        floor: the rate that a cycle approaches.
        warm_start: hold the first twentieth of each cycle at a hundredth of ``peak``, but not below ``floor``;
            the cosine then continues as if it had run from the start. The library of Koné & Boulmane (2018),
            fastai 0.7, does so in the first cycle of each fit.
        start_step: the optimizer's count of updates where the first cycle starts; 0 for a new optimizer.
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
        self.peak = _number("peak learning rate", peak)
        self.floor = _number("floor", floor)
        if not 0 < self.peak < math.inf:
            raise ValueError(f"The peak learning rate is {peak}: it must be a positive number.")
        if not 0 <= self.floor < self.peak:
            raise ValueError(f"The floor is {floor}: it must be at least 0 and below the peak, {peak}.")
        self.warm_start = warm_start
        self.start_step = _whole("start_step", start_step, 0)
        # The number of updates at the end of each cycle, counted from start_step.
        self.cycle_ends = cycle_ends(
            _whole("cycle_steps", cycle_steps, 1), _whole("cycles", cycles, 1), _whole("cycle_mult", cycle_mult, 1)
        )
        self.total_steps = self.cycle_ends[-1]

    def learning_rate(self, step: int) -> float:
        """Return the rate of an update, numbered from 0 at ``start_step``."""
        if step < 0:
            raise ValueError(f"Update {step} is before the first cycle: updates are numbered from 0.")
        if step >= self.total_steps:
            return self.floor
        cycle = bisect.bisect_right(self.cycle_ends, step)
        start = self.cycle_ends[cycle - 1] if cycle else 0
        progress = (step - start) / (self.cycle_ends[cycle] - start)
        if self.warm_start and progress < 1 / 20:
            return max(self.floor, self.peak / 100)
        return self.floor + (self.peak - self.floor) * (1 + math.cos(math.pi * progress)) / 2

    def on_train_begin(self, logs=None):
        optimizer = self._optimizer = _settable(self.model.optimizer)
        if self.model.steps_per_execution != 1:
            raise ValueError(
                "SGDR sets the rate of every step: compile the model with steps_per_execution=1, "
                f"not {self.model.steps_per_execution}."
            )
        # The optimizer counts batches, of which those that only accumulate gradients update nothing.
        self._batches_per_update = optimizer.gradient_accumulation_steps or 1
        self._is_regular = _counts_once_a_batch(self.model, self.model.optimizer)
        self._count, self._is_in_batch, self._rate = 0, False, None
        self._checked = self._warned = False

    def on_epoch_begin(self, epoch, logs=None):
        if not self._checked:
            self._check_place()
            self._checked = True

    def on_train_batch_begin(self, batch, logs=None):
        # Reading the optimizer's count waits for the device, so it is read only where it cannot be known.
        self._count = self._count + 1 if self._is_regular and batch else self._read_count()
        self._is_in_batch = True
        self.model.optimizer.learning_rate = self._rate_of(self._count)

    def on_train_batch_end(self, batch, logs=None):
        self._is_in_batch = False
        self._rate = self._rate_of(self._count)
        if logs is not None:
            logs["learning_rate"] = self._rate
        if not self._warned and self._step_of(self._count) >= self.total_steps:
            self._warned = True
            LOG.warning(
                f"SGDR: the last cycle ended after {self.start_step + self.total_steps} updates of the optimizer, so "
                f"the rate is now the floor, {self.floor:g}: train for fewer epochs, or set more or longer cycles."
            )

    def on_epoch_end(self, epoch, logs=None):
        if self._is_in_batch:
            # A step that found no more data has no end, yet the optimizer may have counted it.
            if self._read_count() != self._count:
                self._optimizer._iterations.assign(self._count)
            if self._rate is not None:
                self.model.optimizer.learning_rate = self._rate
            self._is_in_batch = False
        if logs is not None and self._rate is not None:
            logs["learning_rate"] = self._rate

    def _read_count(self) -> int:
        """Return the number of batches that the optimizer has taken."""
        return int(self._optimizer._iterations.numpy())

    def _step_of(self, count: int) -> int:
        """Return the number of the update that a batch belongs to, after ``count`` batches."""
        return count // self._batches_per_update - self.start_step

    def _rate_of(self, count: int) -> float:
        return self.learning_rate(self._step_of(count))

    def _check_place(self):
        """Refuse a fit that starts outside the cycles, where that cannot be intended."""
        step = self._step_of(self._read_count())
        done = step + self.start_step
        if step < 0:
            raise ValueError(
                f"SGDR is to start at update {self.start_step} of the optimizer, which has done {done}: set start_step "
                f"to {done}."
            )
        if step >= self.total_steps and self.floor == 0:
            raise ValueError(
                f"The optimizer has done {done} updates, and the cycles of SGDR end after "
                f"{self.start_step + self.total_steps}, so it would train at a rate of 0: for new cycles set "
                f"start_step to {done}, or compile the model again."
            )


def _counts_once_a_batch(model, optimizer) -> bool:
    """Return whether the optimizer's count rises by one in each batch of data, so that it need not be read."""
    # A loss scale may leave an update out, and a training step of the user's own may do several.
    return (
        type(optimizer).apply is keras.optimizers.Optimizer.apply
        and type(model).train_step is keras.Model.train_step
        and "train_step" not in vars(model)
    )


def _settable(optimizer) -> keras.optimizers.Optimizer:
    """Return the optimizer that updates the weights, which a loss scale optimizer wraps, if its rate can be set."""
    if optimizer is None:
        raise ValueError("SGDR sets the rate of an optimizer, and the model has none: compile it with one.")
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    if not isinstance(optimizer._learning_rate, keras.Variable):
        raise ValueError(
            f"SGDR sets the learning rate, and this {type(optimizer).__name__} has a schedule or a function of its own "
            f"for it ({type(optimizer._learning_rate).__name__}): make the optimizer with a number, such as 0.1."
        )
    return optimizer


def _number(name: str, value) -> float:
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The {name} is {value!r}: it must be a number.") from error


def _whole(name: str, value, least: int) -> int:
    """Return a whole number of Python's, NumPy's or another type."""
    try:
        whole = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None or whole < least:
        raise ValueError(f"{name} is {value}: it must be a whole number, as an int, of at least {least}.")
    return whole
