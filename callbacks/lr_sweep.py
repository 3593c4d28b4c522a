"""What a range test records of a sweep, and how that is read."""

from dataclasses import dataclass, field

from callbacks import lr_curve
from callbacks.lr_curve import MIN_POINTS, smooth


@dataclass
class Sweep:
    """The record of a sweep; settings and results are those of ``LRRangeTest``."""

    rates: list[float]  # of all steps, taken or not
    metric: str
    smoothing: float
    skip_begin: int
    skip_end: int
    has_probe: bool = False
    losses: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)  # the metric of each step
    probed: list[tuple[int, float]] = field(default_factory=list)  # a step's number and the probe's loss after it
    stopped: str = "end"
    not_finite: str = ""  # what was NaN or infinite, in words
    bad_batch: str = ""  # a sentence about a batch of the data that holds NaN or infinity

    def has_diverged(self, factor: float) -> bool:
        """Return whether the loss so far exceeds its best by the factor."""
        if self.has_probe:
            smoothed = [loss for _, loss in self.probed]
        else:
            # The first averages are too rough for one of them to be the best.
            smoothed = smooth(self.losses, self.smoothing)[self.skip_begin :]
        return bool(smoothed) and lr_curve.diverged(smoothed, factor)

    def result(self, mode: str) -> dict:
        """Return ``LRRangeTest.result`` of a metric that is better when lower ("min") or higher ("max")."""
        if self.bad_batch:
            raise ValueError(self.bad_batch)
        count = len(self.losses)
        usable = slice(self.skip_begin, count - self.skip_end)
        if usable.stop - usable.start < MIN_POINTS:
            raise ValueError(self._too_few(count))
        best, clear = lr_curve.best_point(self.values, self.smoothing, usable, mode)
        divergence, probe = self.rates[best], {}
        if self.has_probe:
            divergence, clear, probe = self._read_probe()
        elif self.stopped == "nan" and max(self.losses[best:]) <= max(self.losses[: best + 1]):
            clear = False  # NaN came without a rise, so it need not be a divergence
        return {
            "metric": self.metric,
            "rates": self.rates[:count],
            "values": list(self.values),
            "smoothed": smooth(self.values, self.smoothing),
            **probe,
            "divergence": divergence,
            "suggestion": divergence * (1 / 10 if mode == "min" else 1 / 3),
            "clear": clear,
            "stopped": self.stopped,
        }

    def _read_probe(self) -> tuple[float, bool, dict]:
        """Return where the loss starts to diverge, whether that is clear, and the probe's curve."""
        if len(self.probed) < MIN_POINTS:
            raise ValueError(
                f"The probe was measured {len(self.probed)} times, too few to read: start at a lower min_lr or take "
                "more steps."
            )
        steps, values = zip(*self.probed, strict=True)
        rates = [self.rates[step] for step in steps]
        curve = (self.rates[: len(self.losses)], self.losses)
        divergence, clear = lr_curve.turning_point(curve, (rates, values))
        return divergence, clear, {"probe": {"rates": rates, "values": list(values)}}

    def _too_few(self, count: int) -> str:
        if not count and self.stopped == "end":
            return "The range test has 0 points, as it has not run: give it to fit as a callback or call lr_range_test."
        if self.not_finite and not count:
            return (
                f"The range test has 0 points: {self.not_finite} at the first step, before any rate was applied. "
                "Look for NaN and infinite values in the data and in the model's weights."
            )
        rate = self.rates[min(count, len(self.rates) - 1)]
        reason = {
            "nan": f"{self.not_finite} at step {count + 1}, at a rate of {rate:.2g}; start at a lower min_lr, and "
            "look for NaN in the data",
            "data": "the data ended; repeat the dataset or give the fit more epochs",
            "callback": "another callback ended the fit; remove that one",
        }.get(self.stopped, "start at a lower min_lr or take more steps")
        return (
            f"The range test has {count} points, too few to read without the first {self.skip_begin} and "
            f"the last {self.skip_end}: {reason}."
        )

    def png(self, mode: str) -> bytes:
        """Draw the curve as a PNG file."""
        result = self.result(mode)
        # With a probe no point is left out of the reading.
        end = len(result["rates"]) - self.skip_end
        return lr_curve.draw(result, slice(None) if self.has_probe else slice(self.skip_begin, end))
