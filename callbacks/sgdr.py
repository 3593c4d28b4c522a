"""SGDR: cosine annealing of the learning rate with warm restarts (Loshchilov & Hutter 2017)."""

import bisect
import itertools
import logging
import math
import operator

import keras
import numpy as np
from keras import ops

logger = logging.getLogger(__name__)


def cycle_ends(cycle_length: int, cycles: int, cycle_mult: int = 2) -> tuple[int, ...]:
    """Return where each cycle ends, in the unit of ``cycle_length`` (steps or epochs).

    ``cycle_ends(3, 4)`` is (3, 9, 21, 45): cycles of 3, 6, 12 and 24.
    """
    # Python's own integers, which have no largest one.
    length, count, factor = (operator.index(value) for value in (cycle_length, cycles, cycle_mult))
    return tuple(itertools.accumulate(length * factor**index for index in range(count)))


class SGDR(keras.callbacks.Callback):
    """Sets the learning rate before each batch by Loshchilov & Hutter (2017), equation 5.

    In each cycle the rate falls from ``peak`` to ``floor`` along half a cosine; the next begins at ``peak``.
    The rate is a function of the optimizer's own count of updates, so a run whose optimizer is restored goes
    on where it stopped, and a step that a loss scale leaves out does not count. Where every batch must update once the
    count is read at the start of each epoch, else at each batch. With ``steps_per_execution`` above 1,
    where Keras calls back once per execution, the fit looks the rate of each step up in its own graph. The logs gain
    ``learning_rate``, the rate of the last batch.

    On data of unknown length Keras ends an epoch by a step without data, which the optimizer counts; the count is put
    right as the epoch ends, so list this callback before those that save the optimizer.

    Args:
        peak: the rate at which each cycle starts.
        cycle_steps: length of the first cycle, in updates of the optimizer.
        cycles: number of cycles. After the last one the rate stays at ``floor``, and a warning says so.
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
        ValueError: a value out of its range; in a fit, an optimizer whose rate cannot be set, or whose count of
            updates is before the first cycle, or after the last where ``floor`` is 0.
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
        self.cycle_ends = cycle_ends(
            _whole("cycle_steps", cycle_steps, 1), _whole("cycles", cycles, 1), _whole("cycle_mult", cycle_mult, 1)
        )
        self.total_steps = self.cycle_ends[-1]
        self._table = None

    def learning_rate(self, step: int) -> float:
        """Return the rate of an update; they are numbered from 0 at ``start_step``."""
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

    def cycle_end_epochs(self, steps_per_epoch: int) -> tuple[int, ...]:
        """Return after how many epochs each cycle ends: when to keep a snapshot.

        Raises:
            ValueError: a cycle ends within an epoch.
        """
        steps_per_epoch = _whole("steps_per_epoch", steps_per_epoch, 1)
        if any(end % steps_per_epoch for end in self.cycle_ends):
            raise ValueError(
                f"The cycles end after {', '.join(map(str, self.cycle_ends))} steps, some within an epoch of "
                f"{steps_per_epoch}: make cycle_steps a multiple of it."
            )
        return tuple(end // steps_per_epoch for end in self.cycle_ends)

    def on_train_begin(self, logs=None):
        optimizer = self._optimizer = _settable(self.model.optimizer)
        # In batches, of which those that only accumulate gradients update nothing.
        self._batches_per_update = optimizer.gradient_accumulation_steps or 1
        self._begun, self._ended, self._rate, self._warned = 0, True, None, False
        self._is_regular = _counts_once_a_batch(self.model, self.model.optimizer)
        if _Table.withdraw(optimizer):  # left by a fit that was broken off
            self.model.make_train_function(force=True)
        self._table = None
        if self.model.steps_per_execution > 1:
            self._table = _Table(optimizer, self.model.steps_per_execution)
            self.model.make_train_function(force=True)
        self._checked = False

    def on_epoch_begin(self, epoch, logs=None):
        if not self._checked:
            self._check_place()
            self._checked = True

    def on_train_batch_begin(self, batch, logs=None):
        # To read the optimizer's count is to wait for the device.
        self._begun = self._begun + 1 if self._is_regular and batch else self._count()
        self._ended = False
        self.model.optimizer.learning_rate = self._rate_of(self._begun)
        if self._table:
            self._table.fill(self._begun, self._rate_of)

    def on_train_batch_end(self, batch, logs=None):
        self._ended = True
        # The last update of an execution; none, where a loss scale left all of them out.
        last = self._begun if self._is_regular else max(self._begun, self._count() - 1)
        if last - self._begun >= self.model.steps_per_execution:
            last = self._begun  # a train_step of the model's own that updates more than once a batch
        self._rate = self._rate_of(last)
        if self._table:
            self.model.optimizer.learning_rate = self._rate
        if logs is not None:
            logs["learning_rate"] = self._rate
        if not self._warned and self._step_of(last) >= self.total_steps:
            self._warn()

    def on_epoch_end(self, epoch, logs=None):
        if not self._ended:
            # A step that found no more data has no end, yet the optimizer may have counted it.
            if self._count() != self._begun:
                self._optimizer._iterations.assign(self._begun)
            if self._rate is not None:
                self.model.optimizer.learning_rate = self._rate
            self._ended = True
        if logs is not None and self._rate is not None:
            logs["learning_rate"] = self._rate

    def on_train_end(self, logs=None):
        self._table = None
        if _Table.withdraw(self._optimizer):
            self.model.make_train_function(force=True)

    def _count(self) -> int:
        """Return how many batches the optimizer has taken."""
        return int(self._optimizer._iterations.numpy())

    def _step_of(self, count: int) -> int:
        """Return the number of the update that the batch after so many is part of."""
        return count // self._batches_per_update - self.start_step

    def _rate_of(self, count: int) -> float:
        return self.learning_rate(self._step_of(count))

    def _check_place(self):
        """Refuse to begin a fit outside of the cycles, where that cannot be meant."""
        step = self._step_of(self._count())
        done = step + self.start_step
        if step < 0:
            raise ValueError(
                f"SGDR is to begin at update {self.start_step} of the optimizer, which has done {done}: set start_step "
                f"to {done}."
            )
        if step >= self.total_steps and self.floor == 0:
            raise ValueError(
                f"The optimizer has done {done} updates, and the cycles of SGDR end after "
                f"{self.start_step + self.total_steps}, so it would train at a rate of 0: for new cycles set "
                f"start_step to {done}, or compile the model again."
            )

    def _warn(self):
        self._warned = True
        logger.warning(
            "SGDR: the last cycle ended after %d updates of the optimizer, so from there on the rate is the floor, %g: "
            "train for fewer epochs, or set more or longer cycles.",
            self.start_step + self.total_steps,
            self.floor,
        )


class _Table:
    """The rates of one execution's steps, which the optimizer looks up in the fit's graph.

    An optimizer's rate is one variable. Keras takes schedules and functions too, but cannot go back from them to a
    rate that is set. The table holds for the batches of the present execution alone, and only while the variable has
    the rate of the first of them; else the variable holds. So a fit that is broken off leaves an optimizer whose rate
    can be set.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, length: int):
        plain = optimizer._learning_rate
        self.length = length
        self.rates = keras.Variable(np.zeros(length), dtype=plain.dtype, trainable=False)
        self.begin = keras.Variable(-length, dtype="int64", trainable=False)

        def rate():
            rates, set_rate = ops.convert_to_tensor(self.rates), ops.convert_to_tensor(plain)
            place = ops.cast(optimizer._iterations, "int64") - ops.convert_to_tensor(self.begin)
            holds = (place >= 0) & (place < length) & (set_rate == rates[0])
            return ops.where(holds, ops.take(rates, ops.clip(place, 0, length - 1)), set_rate)

        optimizer._get_current_learning_rate = rate

    def fill(self, begin: int, rate_of) -> None:
        """Set the rates of the batches from ``begin`` on."""
        self.begin.assign(begin)
        self.rates.assign([rate_of(begin + index) for index in range(self.length)])

    @staticmethod
    def withdraw(optimizer: keras.optimizers.Optimizer) -> bool:
        """Let the optimizer read its variable alone again; return whether it had a table."""
        if "_get_current_learning_rate" not in vars(optimizer):
            return False
        del optimizer._get_current_learning_rate
        return True


def _counts_once_a_batch(model, optimizer) -> bool:
    """Tell whether the optimizer's count rises by one in each batch of data, so that it need not be read."""
    return (
        model.steps_per_execution == 1
        # Neither a loss scale nor a training step of the user's own leaves an update out or does several.
        and type(optimizer).apply is keras.optimizers.Optimizer.apply
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
    """Return a whole number of Python's, NumPy's or another kind."""
    try:
        whole = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None or whole < least:
        raise ValueError(f"{name} is {value}: it must be a whole number, as an int, of at least {least}.")
    return whole
