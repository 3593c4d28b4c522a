"""The learning rate range test: raise the rate until the loss diverges (Smith 2017, section 3.3)."""

import math
import os
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from callbacks import lr_curve
from callbacks.lr_curve import MIN_POINTS
from callbacks.lr_inputs import EMPTY, ModelState, check_model, not_finite_batch, number, repeated, whole
from callbacks.lr_probe import Probe
from callbacks.lr_sweep import Sweep

# With fewer steps the rate would more than double at each.
FEWEST_STEPS = 20
PROBE_POINTS = 33


class LRRangeTest(keras.callbacks.Callback):
    """Multiplies the learning rate by a constant factor each step and records each batch's loss.

    The recipe is that of the finder in fastai 0.7, the library of Koné & Boulmane (2018). The fit ends after
    ``steps`` steps, at a loss that is not finite, or when the smoothed loss exceeds ``stop_factor`` times its
    best. Then everything that the sweep changed in the model is restored: weights, batch norm statistics, the states
    of seed generators, ``stop_training``, and the optimizer with its slots, step count and rate, which may be a
    schedule. What is outside the model, such as the order of a stateful shuffle, is not. After a fit that
    an exception ended, ``restore()`` restores the model; ``lr_range_test`` does so itself.

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
        skip_begin: number of first points left out of the plot and of the reading, but not with a probe; None for 10,
            or for a quarter of a sweep of less than 40 steps.
        skip_end: number of last points left out likewise; None for 5, or for an eighth.
        probe: examples whose loss is measured between steps, about 33 times in a sweep: a batch ``(x, y)``, or a
            list or ``tf.data.Dataset`` of them. A loss of small batches is too noisy to be read at its least point;
            with a probe the foot of its last rise is read, from the probe's loss and the batches' together. For the
            loss only. Measuring three batches adds a third to the sweep's time.
        mode: "min" for a metric that is better when lower, "max" for one better when higher, "auto" to ask Keras.
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
        probe=None,
        mode: str = "auto",
    ):
        super().__init__()
        min_lr, max_lr = number(min_lr, "min_lr"), number(max_lr, "max_lr")
        if not 0 < min_lr < max_lr < math.inf:
            raise ValueError(f"The rates go from {min_lr} to {max_lr}: they must be positive and rise.")
        steps = whole(steps, "steps")
        if skip_begin is None and skip_end is None and steps < FEWEST_STEPS:
            raise ValueError(f"{steps} steps are too few to read: take at least {FEWEST_STEPS}.")
        skip_begin = min(10, steps // 4) if skip_begin is None else whole(skip_begin, "skip_begin")
        skip_end = min(5, steps // 8) if skip_end is None else whole(skip_end, "skip_end")
        if min(skip_begin, skip_end) < 0 or steps < skip_begin + skip_end + MIN_POINTS:
            raise ValueError(
                f"{steps} steps without the first {skip_begin} and the last {skip_end} are too few to read: "
                f"at least {MIN_POINTS} must remain."
            )
        smoothing = 1 - 1 / max(5, steps / 20) if smoothing is None else number(smoothing, "smoothing")
        if not 0 <= smoothing < 1:
            raise ValueError(f"The smoothing is {smoothing}: it must be at least 0 and below 1.")
        if not number(stop_factor, "stop_factor") > 1:
            raise ValueError(f"The stop factor is {stop_factor}: it must be above 1.")
        if not isinstance(metric, str):
            raise ValueError(f"The metric is {metric!r}: give its name, as the model logs it, such as 'loss'.")
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"The mode is {mode!r}: choose auto, min or max.")
        if probe is not None and metric != "loss":
            raise ValueError(f"A probe measures the loss, not {metric!r}: remove one of them.")
        self.schedule = np.geomspace(min_lr, max_lr, steps).tolist()
        self.metric = metric
        self.smoothing = smoothing
        self.stop_factor = stop_factor
        self.skip_begin = skip_begin
        self.skip_end = skip_end
        self.mode = mode
        self._probe = None if probe is None else Probe(probe)
        self._probe_every = max(2, round(steps / PROBE_POINTS))
        self._before = None
        self.sweep = self._new_sweep("end")

    def _new_sweep(self, stopped: str) -> Sweep:
        settings = self.schedule, self.metric, self.smoothing, self.skip_begin, self.skip_end
        return Sweep(*settings, has_probe=self._probe is not None, stopped=stopped)

    def on_train_begin(self, logs=None):
        self.restore()  # after a fit that an exception ended
        model = self.model
        check_model(model)
        epochs, length, steps = self.params["epochs"], self.params["steps"], len(self.schedule)
        if length is not None and epochs * length < steps:
            raise ValueError(
                f"The fit has {epochs * length} steps and the range test {steps}: "
                "give it more epochs or repeat the dataset, as lr_range_test does."
            )
        self._before = ModelState(model)
        self._before.make_rate_settable(self.schedule[0])
        self._before.guard_steps(self._check_rate)
        if self._probe is not None:
            self._probe.forget()
        self._rate = None
        self.sweep = self._new_sweep("data")

    def on_train_batch_begin(self, batch, logs=None):
        # Keras logs means over the epoch so far; emptied before each batch, they are the batch's own values.
        self.model.reset_metrics()
        # Where the length of the data is unknown Keras announces a step more than there is.
        self._rate = self.schedule[min(len(self.sweep.losses), len(self.schedule) - 1)]
        self.model.optimizer.learning_rate = self._rate

    def on_train_batch_end(self, batch, logs=None):
        try:
            self._record(logs or {})
        except BaseException:
            self.restore()
            raise

    def _record(self, logs: dict):
        sweep = self.sweep
        loss, value = self._read_logs(logs)
        if not self._is_finite("loss", loss) or not self._is_finite(self.metric, value):
            return
        sweep.losses.append(loss)
        sweep.values.append(value)
        count = len(sweep.losses)
        if self._probe is not None and count % self._probe_every == 0:
            measured = self._probe.measure(self.model)
            if not self._is_finite("probe's loss", measured):
                return
            sweep.probed.append((count - 1, measured))
        if sweep.has_diverged(self.stop_factor):
            self._stop("diverged")
        elif count == len(self.schedule):
            self._stop("end")

    def on_train_end(self, logs=None):
        if self.sweep.stopped == "data" and self.model.stop_training:
            self.sweep.stopped = "callback"
        self.restore()

    def _is_finite(self, name: str, number: float) -> bool:
        """End the sweep at a number that is NaN or infinite."""
        if math.isfinite(number):
            return True
        self.sweep.not_finite = f"the {name} is {number}"
        self._stop("nan")
        return False

    def _read_logs(self, logs: dict) -> tuple[float, float]:
        """Return a batch's loss and metric; without a loss, a metric that is better when lower replaces it."""
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
        value = float(np.asarray(logs[self.metric]).reshape(()))
        # A score has no multiple that would be a divergence.
        proxy = value if self._direction() == "min" else 0.0
        return float(np.asarray(logs.get("loss", proxy)).reshape(())), value

    def _check_rate(self):
        """Refuse a step at another rate than the sweep's, which would be recorded for it."""
        found = float(self.model.optimizer.learning_rate.numpy())
        if self._rate and not math.isclose(found, self._rate, rel_tol=1e-2):  # of a rate in half precision
            raise ValueError(
                f"Another callback set the rate of a step to {found:.3g}, where the range test has {self._rate:.3g}: "
                "remove that callback."
            )

    def _direction(self) -> str | None:
        return lr_curve.direction(self.metric, self.model) if self.mode == "auto" else self.mode

    def _stop(self, reason: str):
        self.sweep.stopped = reason
        self.model.stop_training = True

    def restore(self):
        """Restore the model as it was before the sweep, after a fit that an exception ended."""
        if self._before is not None:
            self._before.restore()
            self._before = None

    def result(self) -> dict:
        """Return what the sweep found, ready for JSON; refuse too few points to read, or data that holds NaN.

        Returns:
            ``metric``; the lists ``rates``, ``values`` (each batch's) and ``smoothed``, one entry a step; ``probe``, if
            there is one, with its ``rates`` and ``values``; ``divergence``, the rate from which the loss starts to
            diverge: where the smoothed loss is least, or the smoothed accuracy greatest, or with a probe the foot of
            the last rise; ``suggestion``, a tenth of it, or a third for a metric that is better when higher (Koné &
            Boulmane 2018, on the learning rate, say a third or a fourth); ``clear``, whether the curve got better,
            with a probe worse after it, by more than its noise can explain; ``stopped``: "diverged", "nan", "end" if no
            divergence was seen by the last rate, so that the rates may be too low, "data" if the data ended
            before, "callback" if another callback ended the fit. A result that is not clear is a guess.
        """
        return self.sweep.result(self._direction() or "max")

    def plot(self, path: str | os.PathLike):
        """Write the curve as a PNG file, as ``png`` draws it."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.part")
        try:
            partial.write_bytes(self.png())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def png(self) -> bytes:
        """Draw the curve: rates on a logarithmic axis, divergence and suggestion marked."""
        return self.sweep.png(self._direction() or "max")


def lr_range_test(model: keras.Model, dataset, **options) -> LRRangeTest:
    """Run the range test on a compiled model, quietly, and leave the model as it was.

        >>> import keras, numpy as np, tensorflow as tf
        >>> from callbacks.lr_range_test import lr_range_test
        >>> x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
        >>> data = tf.data.Dataset.from_tensor_slices((x, x.sum(axis=1))).batch(32)
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(), "mse")
        >>> test = lr_range_test(model, data, max_lr=100)
        >>> result = test.result()
        >>> result["stopped"], result["clear"], 0.05 < result["suggestion"] < 1
        ('diverged', True, True)
        >>> test.plot("lr_range_test.png")

    Args:
        model: a built and compiled Keras model.
        dataset: a batched ``tf.data.Dataset`` or a ``keras.utils.PyDataset``, repeated as often as needed, or a
            generator of batches, which is not.
        **options: those of the callback that is returned.
    """
    test = LRRangeTest(**options)
    check_model(model)
    steps = len(test.schedule)
    data, length = repeated(dataset, steps)
    history = getattr(model, "history", None)
    try:
        with warnings.catch_warnings():
            # The result reports this in ``stopped``.
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            model.fit(data, **length, shuffle=False, verbose=0, callbacks=[test])
    finally:
        test.restore()
        model.history = history
    sweep = test.sweep
    if not sweep.losses and not sweep.not_finite:
        raise ValueError(EMPTY)
    if sweep.not_finite and isinstance(dataset, tf.data.Dataset):
        sweep.bad_batch = not_finite_batch(data, len(sweep.losses) + 1)
    return test
