"""The learning rate range test: raise the rate until the loss diverges (Smith 2017, section 3.3)."""

import itertools
import math
import operator
import os
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from callbacks import lr_curve
from callbacks.lr_curve import MIN_POINTS, smooth

__all__ = ["LRRangeTest", "lr_range_test", "smooth"]

# Fewer steps than this take the rate up by more than a factor of two a step.
FEWEST_STEPS = 20


class LRRangeTest(keras.callbacks.Callback):
    """Multiplies the learning rate by a constant factor each step and records each batch's loss.

    The recipe is that of the finder in fastai 0.7, the library of Koné & Boulmane (2018). The fit ends after
    ``steps`` steps, at a loss that is not finite, or when the smoothed loss exceeds ``stop_factor`` times its
    best. Then all that the sweep changed in the model is put back: weights, batch norm statistics, the states
    of seed generators, ``stop_training``, and the optimizer with its slots, step count and rate, which may be a
    schedule. What lives outside of the model, such as the order of a stateful shuffle, is not. After a fit that
    an exception broke off, ``restore()`` puts the model back; ``lr_range_test`` does so itself.

    The fit must offer ``steps`` steps, from enough epochs or a repeated dataset: see ``lr_range_test``.

    Args:
        min_lr: rate of the first step.
        max_lr: rate of the last step.
        steps: length of the sweep in batches.
        metric: "loss", or a metric that the model logs at each step, such as "accuracy" or "mae".
        smoothing: factor of the exponential moving average, corrected for its start. None remembers about a
            twentieth of the sweep, but at least 5 steps: .98, as fastai, for 1000 steps, and .8 up to 100.
            A memory too long for the sweep lags: with .98, 100 steps find the divergence at twice its rate.
        stop_factor: see above.
        skip_begin: number of first points left out of the plot and of the reading; None for 10, or for a quarter
            of a sweep of less than 40 steps.
        skip_end: number of last points left out likewise; None for 5, or for an eighth.
        mode: "min" for a metric that is better when lower, "max" for one better when higher, "auto" to ask Keras.

    Raises:
        ValueError: a value out of its range; in ``fit``, a model that cannot be swept, too few steps, or a metric
            that the model does not log.
    """

    def __init__(
        self,
        min_lr: float = 1e-5,
        max_lr: float = 10.0,
        steps: int = 100,
        metric: str = "loss",
        smoothing: float | None = None,
        *,
        stop_factor: float = 4.0,
        skip_begin: int | None = None,
        skip_end: int | None = None,
        mode: str = "auto",
    ):
        super().__init__()
        min_lr, max_lr = _number(min_lr, "min_lr"), _number(max_lr, "max_lr")
        if not 0 < min_lr < max_lr < math.inf:
            raise ValueError(f"The rates go from {min_lr} to {max_lr}: they must be positive and rise.")
        steps = _count(steps, "steps")
        if skip_begin is None and skip_end is None and steps < FEWEST_STEPS:
            raise ValueError(f"{steps} steps are too few to read: take at least {FEWEST_STEPS}.")
        skip_begin = min(10, steps // 4) if skip_begin is None else _count(skip_begin, "skip_begin")
        skip_end = min(5, steps // 8) if skip_end is None else _count(skip_end, "skip_end")
        if min(skip_begin, skip_end) < 0 or steps < skip_begin + skip_end + MIN_POINTS:
            raise ValueError(
                f"{steps} steps without the first {skip_begin} and the last {skip_end} are too few to read: "
                f"at least {MIN_POINTS} must remain."
            )
        smoothing = 1 - 1 / max(5, steps / 20) if smoothing is None else _number(smoothing, "smoothing")
        if not 0 <= smoothing < 1:
            raise ValueError(f"The smoothing is {smoothing}: it must be at least 0 and below 1.")
        if not _number(stop_factor, "stop_factor") > 1:
            raise ValueError(f"The stop factor is {stop_factor}: it must be above 1.")
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"The mode is {mode!r}: choose auto, min or max.")
        self.schedule = np.geomspace(min_lr, max_lr, steps).tolist()
        self.metric = metric
        self.smoothing = smoothing
        self.stop_factor = stop_factor
        self.skip_begin = skip_begin
        self.skip_end = skip_end
        self.mode = mode
        self._losses, self._values = [], []
        self._stopped = "end"
        self._not_finite = ""
        self._saved = None
        self._bad_batch = ""
        self._undo = []

    def on_train_begin(self, logs=None):
        self.restore()  # from a fit that was broken off
        model = self.model
        _check_model(model)
        epochs, length, steps = self.params["epochs"], self.params["steps"], len(self.schedule)
        if length is not None and epochs * length < steps:
            raise ValueError(
                f"The fit has {epochs * length} steps and the range test {steps}: "
                "give it more epochs or repeat the dataset, as lr_range_test does."
            )
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        self._saved = [(variable, variable.numpy()) for variable in (*model.variables, *model.optimizer.variables)]
        self._replace_schedule()
        self._guard_steps()
        self._losses, self._values = [], []
        self._stopped = "data"
        self._not_finite = self._bad_batch = ""

    def on_train_batch_begin(self, batch, logs=None):
        # Keras logs means over the epoch so far; emptied before each batch, they are the batch's own values.
        self.model.reset_metrics()
        # Where the length of the data is unknown Keras announces a step more than there is.
        self.model.optimizer.learning_rate = self.schedule[min(len(self._losses), len(self.schedule) - 1)]

    def on_train_batch_end(self, batch, logs=None):
        loss, value = self._read_logs(logs or {})
        if not (math.isfinite(loss) and math.isfinite(value)):
            name = self.metric if math.isfinite(loss) else "loss"
            self._not_finite = f"the {name} is {value if math.isfinite(loss) else loss}"
            self._stop("nan")
            return
        self._losses.append(loss)
        self._values.append(value)
        # The first averages are too rough for one of them to be the best.
        smoothed = smooth(self._losses, self.smoothing)[self.skip_begin :]
        if smoothed and lr_curve.diverged(smoothed, self.stop_factor):
            self._stop("diverged")
        elif len(self._losses) == len(self.schedule):
            self._stop("end")

    def on_train_end(self, logs=None):
        if self._stopped == "data" and self.model.stop_training:
            self._stopped = "callback"
        self.restore()

    def _read_logs(self, logs: dict) -> tuple[float, float]:
        """Return a batch's loss and metric; without a loss, what is better when lower stands in for it.

        Raises:
            ValueError: the metric is not logged, is not one number, or nobody knows which way it gets better.
        """
        try:
            if self.metric not in logs:
                late = " at each step, only at an epoch's end" if self.metric.startswith("val_") else ""
                raise ValueError(
                    f"The model does not log {self.metric!r}{late}: choose one of {', '.join(logs) or 'none'}."
                )
            if np.size(logs[self.metric]) != 1:
                raise ValueError(f"The metric {self.metric!r} is not one number a step: choose another.")
            if self._direction() is None:
                raise ValueError(
                    f"Whether {self.metric!r} is better when higher or lower is not known: give mode='max' or 'min'."
                )
        except ValueError:
            self.restore()
            raise
        value = float(np.asarray(logs[self.metric]).reshape(()))
        # A score has no multiple that would be a divergence.
        proxy = value if self._direction() == "min" else 0.0
        return float(logs.get("loss", proxy)), value

    def _direction(self) -> str | None:
        return lr_curve.direction(self.metric, self.model) if self.mode == "auto" else self.mode

    def _stop(self, reason: str):
        self._stopped = reason
        self.model.stop_training = True

    def _replace_schedule(self):
        """Give the optimizer a rate that can be set, where its own is a schedule or a function."""
        optimizer = self.model.optimizer
        while hasattr(optimizer, "inner_optimizer"):
            optimizer = optimizer.inner_optimizer
        own = getattr(optimizer, "_learning_rate", None)
        if own is None or isinstance(own, keras.Variable):
            return
        model = self.model
        with model.distribute_strategy.scope():
            rate = keras.Variable(self.schedule[0], trainable=False, name="learning_rate")
        optimizer._learning_rate = rate

        def undo():
            optimizer._learning_rate = own
            optimizer._untrack_variable(rate)
            model.train_function = None

        self._undo.append(undo)
        # What was traced before holds the schedule.
        model.make_train_function(force=True)

    def _guard_steps(self):
        """Put the model back where a step is broken off: by an error in the data or the model, or by Ctrl-C."""
        model, step = self.model, self.model.train_function

        def guarded(iterator):
            try:
                return step(iterator)
            except (StopIteration, tf.errors.OutOfRangeError):
                raise  # the end of the data
            except BaseException:
                self.restore()
                raise

        def undo():
            model.train_function = step

        self._undo.append(undo)
        model.train_function = guarded

    def restore(self):
        """Put the model back as before the sweep; to be called after a fit that was broken off."""
        if self._saved is None:
            return
        for variable, value in self._saved:
            variable.assign(value)
        self._saved = None
        while self._undo:
            self._undo.pop()()
        self.model.reset_metrics()
        self.model.stop_training = False

    def result(self) -> dict:
        """Return what the sweep found, ready for JSON.

        Returns:
            ``metric``; the lists ``rates``, ``values`` (each batch's) and ``smoothed``, one entry a step;
            ``divergence``, the rate where the smoothed loss is least, or the smoothed accuracy greatest, and from
            where it starts to diverge; ``suggestion``, a tenth of it, or a third for a metric that is better when
            higher (Koné & Boulmane 2018, on the learning rate, say a third or a fourth); ``clear``, whether the
            curve got better by more than its noise can feign; ``stopped``: "diverged", "nan", "end" if no
            divergence was seen by the last rate, so that the rates may be too low, "data" if the data ended
            before, "callback" if another callback ended the fit. What is not clear is a guess.

        Raises:
            ValueError: too few points to read, as when the sweep has not run or diverges at once, or data that holds
                NaN.
        """
        if self._bad_batch:
            raise ValueError(self._bad_batch)
        count = len(self._losses)
        usable = slice(self.skip_begin, count - self.skip_end)
        if usable.stop - usable.start < MIN_POINTS:
            raise ValueError(self._too_few(count))
        mode = self._direction() or "max"
        best, clear = lr_curve.best_point(self._values, self.smoothing, usable, mode)
        if self._stopped == "nan" and max(self._losses[best:]) <= max(self._losses[: best + 1]):
            clear = False  # NaN came without a rise, so it need not be a divergence
        return {
            "metric": self.metric,
            "rates": self.schedule[:count],
            "values": list(self._values),
            "smoothed": smooth(self._values, self.smoothing),
            "divergence": self.schedule[best],
            "suggestion": self.schedule[best] * (1 / 10 if mode == "min" else 1 / 3),
            "clear": clear,
            "stopped": self._stopped,
        }

    def _too_few(self, count: int) -> str:
        if self._not_finite and not count:
            return (
                f"The range test has 0 points: {self._not_finite} at the first step, before any rate was applied. "
                "Look for NaN and infinite values in the data and in the model's weights."
            )
        rate = self.schedule[min(count, len(self.schedule) - 1)]
        reason = {
            "nan": f"{self._not_finite} at step {count + 1}, at a rate of {rate:.2g}; start at a lower min_lr, and "
            "look for NaN in the data",
            "data": "the data ended; repeat the dataset or give the fit more epochs",
            "callback": "another callback ended the fit; leave that one out",
        }.get(self._stopped, "start at a lower min_lr or take more steps")
        return (
            f"The range test has {count} points, too few to read without the first {self.skip_begin} and "
            f"the last {self.skip_end}: {reason}."
        )

    def plot(self, path: str | os.PathLike):
        """Write the curve as a PNG file, as ``png`` draws it.

        Raises:
            ValueError: as ``result``.
        """
        path = Path(path)
        partial = path.with_name(f".{path.name}.part")
        try:
            partial.write_bytes(self.png())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def png(self) -> bytes:
        """Draw the curve: rates on a logarithmic axis, divergence and suggestion marked.

        Raises:
            ValueError: as ``result``.
        """
        result = self.result()
        return lr_curve.draw(result, slice(self.skip_begin, len(result["rates"]) - self.skip_end))


def lr_range_test(model: keras.Model, dataset, **options) -> LRRangeTest:
    """Run the range test on a compiled model, quietly, and leave the model as it was.

    Args:
        model: a built and compiled Keras model.
        dataset: a batched ``tf.data.Dataset`` or a ``keras.utils.PyDataset``, repeated as often as needed, or a
            generator of batches, which is not.
        **options: those of LRRangeTest.

    Returns:
        The callback; its ``result()`` and ``plot(path)`` tell what was found.

    Raises:
        ValueError: as LRRangeTest, and for data without a batch.
    """
    test = LRRangeTest(**options)
    _check_model(model)
    steps = len(test.schedule)
    data, length = _repeated(dataset, steps)
    history = getattr(model, "history", None)
    try:
        with warnings.catch_warnings():
            # The result says so, in ``stopped``.
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            model.fit(data, **length, shuffle=False, verbose=0, callbacks=[test])
    finally:
        test.restore()
        model.history = history
    if not test._losses and not test._not_finite:
        raise ValueError(_EMPTY)
    if test._not_finite and isinstance(dataset, tf.data.Dataset):
        test._bad_batch = _not_finite_batch(data, len(test._losses) + 1)
    return test


_EMPTY = "The data for the range test is empty: it holds no batch to take a step on."


def _repeated(dataset, steps: int) -> tuple[object, dict]:
    """Return data that offers so many steps, where it can be repeated, and what ``fit`` is to be told of its length."""
    if isinstance(dataset, tf.data.Dataset):
        if int(dataset.cardinality()) == 0:
            raise ValueError(_EMPTY)
        return dataset.repeat(), {"steps_per_epoch": steps}
    if isinstance(dataset, keras.utils.PyDataset):
        length = dataset.num_batches
        if length == 0:
            raise ValueError(_EMPTY)
        return dataset, {"steps_per_epoch": steps} if length is None else {"epochs": -(-steps // length)}
    if hasattr(dataset, "__next__"):
        first = list(itertools.islice(dataset, 1))
        if not first:
            raise ValueError(_EMPTY)
        # Of all iterators Keras takes generators only.
        return (batch for batch in itertools.chain(first, dataset)), {"steps_per_epoch": steps}
    raise ValueError(
        f"The range test cannot take batches from {type(dataset).__name__}: give it a batched tf.data.Dataset, "
        "a keras.utils.PyDataset or a generator."
    )


def _not_finite_batch(batches, count: int) -> str:
    """Return a sentence about the first of some batches that holds NaN or infinity; "" if none does."""
    for number, batch in enumerate(batches.take(count), 1):
        for part in tf.nest.flatten(batch):
            if part.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(getattr(part, "values", part))):
                return (
                    f"The data holds NaN or infinite values, in batch {number}, so the range test cannot be read: "
                    "clean the data."
                )
    return ""


def _check_model(model):
    """Refuse a model that cannot be swept."""
    if not getattr(model, "compiled", False):
        raise ValueError("The range test needs a loss and an optimizer: compile the model first.")
    if getattr(getattr(model, "optimizer", None), "learning_rate", None) is None:
        raise ValueError(
            "The range test sets the rate of model.optimizer, and this model's has none: compile it with a Keras "
            "optimizer."
        )
    if model.steps_per_execution != 1:
        raise ValueError(
            "The range test sets the rate of every step: compile the model with steps_per_execution=1, "
            f"not {model.steps_per_execution}."
        )
    if not model.built:
        raise ValueError("The range test saves and restores the model's variables: build the model first.")
    if not model.trainable_variables:
        raise ValueError("The range test needs a model that trains, and every layer of this one is frozen.")


def _number(value, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}: it must be a number.") from None


def _count(value, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}: it must be a whole number.") from None
