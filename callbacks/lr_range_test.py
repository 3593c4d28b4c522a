"""The learning rate range test: raise the rate until the loss diverges (Smith 2017, section 3.3)."""

import io
import math
import os
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

# With fewer points the curve has no shape to read.
MIN_POINTS = 5
# By how many standard errors a curve must get better to be read. The best of 100 points of mere noise seems
# better by 2, and in one sweep of a hundred by 5.
CLEAR = 5


class LRRangeTest(keras.callbacks.Callback):
    """Multiplies the learning rate by a constant factor each step and records each batch's loss.

    The recipe is that of the finder in fastai 0.7, the library of Koné & Boulmane (2018). The fit ends after
    ``steps`` steps, at a loss that is not finite, or when the smoothed loss exceeds ``stop_factor`` times its
    best. Then all that the sweep changed in the model is put back: weights, batch norm statistics, the states
    of seed generators, ``stop_training``, and the optimizer with its slots, step count and rate. What lives
    outside of the model, such as the order of a stateful shuffle, is not.

    The fit must offer ``steps`` steps, from enough epochs or a repeated dataset: see ``lr_range_test``.

    Args:
        min_lr: rate of the first step.
        max_lr: rate of the last step.
        steps: length of the sweep in batches.
        metric: "loss", or a metric that the model logs and that is better when higher, such as "accuracy".
        smoothing: factor of the exponential moving average, corrected for its start. None remembers about a
            twentieth of the sweep, but at least 5 steps: .98, as fastai, for 1000 steps, and .8 up to 100.
            A memory too long for the sweep lags: with .98, 100 steps find the divergence at twice its rate.
        stop_factor: see above.
        skip_begin: number of first points left out of the plot and of the reading.
        skip_end: number of last points left out likewise.

    Raises:
        ValueError: a value out of its range; in ``fit``, a model that is not built, ``steps_per_execution``
            other than 1, too few steps, or a metric that the model does not log.
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
        skip_begin: int = 10,
        skip_end: int = 5,
    ):
        super().__init__()
        if not 0 < min_lr < max_lr < math.inf:
            raise ValueError(f"The rates go from {min_lr} to {max_lr}: they must be positive and rise.")
        if min(skip_begin, skip_end) < 0 or steps < skip_begin + skip_end + MIN_POINTS:
            raise ValueError(
                f"{steps} steps without the first {skip_begin} and the last {skip_end} are too few to read: "
                f"at least {MIN_POINTS} must remain."
            )
        if smoothing is None:
            smoothing = 1 - 1 / max(5, steps / 20)
        if not 0 <= smoothing < 1:
            raise ValueError(f"The smoothing is {smoothing}: it must be at least 0 and below 1.")
        if not stop_factor > 1:
            raise ValueError(f"The stop factor is {stop_factor}: it must be above 1.")
        self.schedule = np.geomspace(min_lr, max_lr, steps).tolist()
        self.metric = metric
        self.smoothing = smoothing
        self.stop_factor = stop_factor
        self.skip_begin = skip_begin
        self.skip_end = skip_end
        self._losses, self._values = [], []
        self._stopped = "end"
        self._saved = None

    def on_train_begin(self, logs=None):
        model, optimizer = self.model, self.model.optimizer
        if model.steps_per_execution != 1:
            raise ValueError(
                "The range test sets the rate of every step: compile the model with steps_per_execution=1, "
                f"not {model.steps_per_execution}."
            )
        if not model.built:
            raise ValueError("The range test saves and restores the model's variables: build the model first.")
        epochs, length, steps = self.params["epochs"], self.params["steps"], len(self.schedule)
        if length is not None and epochs * length < steps:
            raise ValueError(
                f"The fit has {epochs * length} steps and the range test {steps}: "
                "give it more epochs or repeat the dataset, as lr_range_test does."
            )
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        self._saved = [(variable, variable.numpy()) for variable in (*model.variables, *optimizer.variables)]
        self._losses, self._values = [], []
        self._stopped = "end"

    def on_train_batch_begin(self, batch, logs=None):
        # Keras logs means over the epoch so far; emptied before each batch, they are the batch's own values.
        self.model.reset_metrics()
        self.model.optimizer.learning_rate = self.schedule[len(self._losses)]

    def on_train_batch_end(self, batch, logs=None):
        if self.metric not in logs:
            self.restore()
            raise ValueError(f"The model does not log {self.metric!r}: choose one of {', '.join(logs)}.")
        loss, value = float(logs["loss"]), float(logs[self.metric])
        if not (math.isfinite(loss) and math.isfinite(value)):
            self._stop("nan")
            return
        self._losses.append(loss)
        self._values.append(value)
        # The first averages are too rough for one of them to be the best.
        smoothed = smooth(self._losses, self.smoothing)[self.skip_begin :]
        if smoothed and smoothed[-1] > self.stop_factor * min(smoothed) > 0:
            self._stop("diverged")
        elif len(self._losses) == len(self.schedule):
            self._stop("end")

    def on_train_end(self, logs=None):
        self.restore()

    def _stop(self, reason: str):
        self._stopped = reason
        self.model.stop_training = True

    def restore(self):
        """Put the model back as before the sweep; to be called after a fit that was broken off."""
        if self._saved is None:
            return
        for variable, value in self._saved:
            variable.assign(value)
        self._saved = None
        self.model.reset_metrics()
        self.model.stop_training = False

    def result(self) -> dict:
        """Return what the sweep found, ready for JSON.

        Returns:
            ``metric``; the lists ``rates``, ``values`` (each batch's) and ``smoothed``, one entry a step;
            ``divergence``, the rate where the smoothed loss is least, or the smoothed accuracy greatest, and from
            where it starts to diverge; ``suggestion``, a tenth of it, or of an accuracy's a third (Koné &
            Boulmane 2018, on the learning rate, say a third or a fourth); ``clear``, whether the curve got better
            by more than its noise can feign; ``stopped``: "diverged", "nan", or "end" if no divergence was seen,
            so that the rates may be too low.

            What is not clear is a guess. Which point of a flat, noisy curve is least is chance, so the last
            counts whose smoothed loss is within one standard error of the least (the one-standard-error rule of
            Breiman et al. 1984): from there the loss rises. An accuracy need not fall, and keeps its greatest.

        Raises:
            ValueError: too few points to read, as when the sweep has not run or diverges at once.
        """
        count = len(self._losses)
        usable = slice(self.skip_begin, count - self.skip_end)
        if usable.stop - usable.start < MIN_POINTS:
            raise ValueError(
                f"The range test has {count} points, too few to read without the first {self.skip_begin} and "
                f"the last {self.skip_end}: start at a lower min_lr or take more steps."
            )
        smoothed = smooth(self._values, self.smoothing)
        sign, share = (-1, 1 / 10) if self.metric == "loss" else (1, 1 / 3)
        curve = sign * np.array(smoothed)
        best = usable.start + int(np.argmax(curve[usable]))
        earlier = sign * np.array(self._values[: best + 1])
        # From how successive values differ, which a slow trend does not change.
        noise = np.std(np.diff(earlier)) / math.sqrt(2)
        error = noise * math.sqrt((1 - self.smoothing) / (1 + self.smoothing))
        clear = bool(curve[best] - earlier[: len(earlier) // 2 + 1].mean() > CLEAR * error)
        if not clear and self.metric == "loss":
            best = usable.start + int(np.flatnonzero(curve[usable] >= curve[best] - error)[-1])
        return {
            "metric": self.metric,
            "rates": self.schedule[:count],
            "values": list(self._values),
            "smoothed": smoothed,
            "divergence": self.schedule[best],
            "suggestion": self.schedule[best] * share,
            "clear": clear,
            "stopped": self._stopped,
        }

    def plot(self, path: str | os.PathLike):
        """Write the curve as a PNG file, as ``png`` draws it.

        Raises:
            ValueError: as ``result``.
        """
        path = Path(path)
        partial = path.with_name(f".{path.name}.part")
        partial.write_bytes(self.png())
        partial.replace(path)

    def png(self) -> bytes:
        """Draw the curve: rates on a logarithmic axis, divergence and suggestion marked.

        Raises:
            ValueError: as ``result``.
        """
        from matplotlib.figure import Figure

        result = self.result()
        shown = slice(self.skip_begin, len(result["rates"]) - self.skip_end)
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for series, alpha in (("values", 0.3), ("smoothed", 1.0)):
            axes.plot(result["rates"][shown], result[series][shown], "tab:blue", alpha=alpha, label=series)
        for mark, color in (("divergence", "tab:red"), ("suggestion", "tab:green")):
            axes.axvline(result[mark], color=color, linestyle="--", label=f"{mark} {result[mark]:.2g}")
        title = "Learning rate range test" + ("" if result["clear"] else ", not clear of its noise")
        axes.set(xscale="log", xlabel="learning rate", ylabel=self.metric, title=title)
        axes.legend()
        file = io.BytesIO()
        figure.savefig(file, format="png")
        return file.getvalue()


def smooth(values: Iterable[float], smoothing: float) -> list[float]:
    """Return the exponential moving average of a series, corrected for starting at 0."""
    average, smoothed = 0.0, []
    for count, value in enumerate(values, start=1):
        average = smoothing * average + (1 - smoothing) * value
        smoothed.append(average / (1 - smoothing**count))
    return smoothed


def lr_range_test(model: keras.Model, dataset, **options) -> LRRangeTest:
    """Run the range test on a compiled model, quietly, and leave the model as it was.

    Args:
        model: a built and compiled Keras model.
        dataset: a batched ``tf.data.Dataset``, repeated as often as needed.
        **options: those of LRRangeTest.

    Returns:
        The callback; its ``result()`` and ``plot(path)`` tell what was found.

    Raises:
        ValueError: as LRRangeTest.
    """
    test = LRRangeTest(**options)
    history = getattr(model, "history", None)
    try:
        model.fit(dataset.repeat(), steps_per_epoch=len(test.schedule), shuffle=False, verbose=0, callbacks=[test])
    finally:
        test.restore()
        model.history = history
    return test
