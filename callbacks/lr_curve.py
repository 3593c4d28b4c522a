"""A range test's curve: where the loss starts to diverge, whether noise hides that, and the picture of it."""

import io
import itertools
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

# With fewer points the curve has no shape to read.
MIN_POINTS = 5
# A curve must get better by so many standard errors to be clear. The best of 100 points of noise alone seems
# better by 2, and in one sweep of a hundred by 5.
CLEAR = 5
# A change below this share of the values is rounding.
ROUNDING = 1e-6

# These words in a metric's name say which way it gets better, for metrics that Keras does not know.
_LOWER = r"(^|_)(loss|error|mae|mse|mape|msle|rmse|nll|perplexity|\w*crossentropy|\w*hinge|kl_divergence|poisson)$"
_HIGHER = r"(^|_)(acc|accuracy|auc|precision|recall|specificity|sensitivity|f1|f1_score|fbeta_score|iou|dice|r2_score)$"


def smooth(values: Iterable[float], smoothing: float) -> list[float]:
    """Return the exponential moving average of a series, corrected for starting at 0."""
    average, smoothed = 0.0, []
    for count, value in enumerate(values, start=1):
        average = smoothing * average + (1 - smoothing) * value
        smoothed.append(average / (1 - smoothing**count))
    return smoothed


def direction(metric: str, model=None) -> str | None:
    """Return "min" for a metric that is better when lower, "max" for one better when higher, None if unknown.

    What Keras's own metrics say of themselves takes precedence over the name.
    """
    name = metric.removeprefix("val_")
    held = [metric for group in getattr(model, "metrics", ()) for metric in getattr(group, "metrics", None) or [group]]
    # With several outputs a metric is logged under its output's name and its own.
    for own in sorted(held, key=lambda own: len(own.name), reverse=True):
        if name == own.name or name.endswith(f"_{own.name}"):
            known = {"up": "max", "down": "min"}.get(getattr(own, "_direction", None))
            if known:
                return known
    name = re.sub(r"_\d+$", "", name.lower())
    return "min" if re.search(_LOWER, name) else "max" if re.search(_HIGHER, name) else None


def diverged(smoothed: Sequence[float], factor: float) -> bool:
    """Return whether the last of some smoothed losses exceeds the best by so much that the sweep can end.

    A best loss at or below zero has no multiple to exceed. There the rise is measured in the loss's distance from
    zero, or in its fall, whichever is larger.
    """
    last, best = smoothed[-1], min(smoothed)
    if best > 0:
        return last > factor * best
    scale = max(-best, smoothed[0] - best)
    return scale > 0 and last > best + (factor - 1) * scale


def best_point(values: Sequence[float], smoothing: float, usable: slice, mode: str) -> tuple[int, bool]:
    """Return the point where a noisy series starts to diverge, and whether it is clear of its noise.

    The least point of a flat, noisy curve is chance. So where the curve is not clear, the point is the last one whose
    smoothed value is within one standard error of the least (the one-standard-error rule of Breiman et al. 1984):
    from there a loss rises. A metric that is better when higher need not fall, and keeps its greatest point.
    """
    sign = -1 if mode == "min" else 1
    curve = sign * np.array(smooth(values, smoothing))
    best = usable.start + int(np.argmax(curve[usable]))
    earlier = sign * np.array(values[: best + 1])
    # A slow trend hardly changes how successive values differ; one or two differences would say nothing.
    noise = np.std(np.diff(values[: max(best + 1, MIN_POINTS)])) / math.sqrt(2)
    error = noise * math.sqrt((1 - smoothing) / (1 + smoothing))
    rounding = ROUNDING * np.max(np.abs(curve[usable]))
    gain = curve[best] - earlier[: len(earlier) // 2 + 1].mean()
    clear = bool(gain > max(CLEAR * error, rounding))
    if not clear and mode == "min":
        best = usable.start + int(np.flatnonzero(curve[usable] >= curve[best] - error)[-1])
    return best, clear


# The shapes that turning_point compares: how steeply the loss falls, over how long, and how steeply it then rises. Both
# axes are logarithmic, so a slope of 1 is a loss that grows with the rate.
_FALLS = ((0.0, 0.0), *itertools.product((0.1, 0.2, 0.4, 0.8), (1.2, 2.3, 4.6, 9.2)))
_RISES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
_TURNS = 200
# A fall must explain the curve better by this share than no fall does, as noise always fits a little better.
_FALL_COSTS = 0.2
# A point of the probe counts as two batches. Errors are squared up to this residual, and linear beyond it.
_WEIGHTS = (1.0, 2.0)
_HUBER = 0.2


def turning_point(batches: tuple[Sequence, Sequence], probes: tuple[Sequence, Sequence]) -> tuple[float, bool]:
    """Return the rate at which a loss stops falling and starts to rise, and whether the rise is clear of its noise.

    The least point of a noisy curve is chance, and the more steps a sweep has, the deeper it falls before it
    diverges. The foot of the last rise depends on neither. It is found by the robust fit (Huber 1964) of three
    straight lines, flat, falling or none, and rising, to the logarithms of both curves, rates and losses, at once. Each
    has a level of its own; the turns are common.
    """
    curves = [(np.log(rates), _log(values)) for rates, values in (batches, probes)]
    first, last = min(x[0] for x, _ in curves), max(x[-1] for x, _ in curves)
    turns = np.linspace(first + (last - first) / 20, last, _TURNS)[:, None]

    def shape(x, turns, fall, rise):
        slope, width = fall
        return rise * np.maximum(0, x - turns) - slope * np.clip(x - turns + width, 0, width)

    least, best = math.inf, None
    for fall, rise in itertools.product(_FALLS, _RISES):
        cost = 0.0
        for (x, y), weight in zip(curves, _WEIGHTS, strict=True):
            rest = y - shape(x, turns, fall, rise)
            size = np.abs(rest - np.median(rest, axis=1, keepdims=True))
            size = np.where(size < _HUBER, size**2 / (2 * _HUBER), size - _HUBER / 2)
            cost = cost + weight * size.sum(axis=1)
        cost = cost * (1 + _FALL_COSTS * (fall[0] > 0))
        if cost.min() < least:
            least, best = cost.min(), (turns[int(cost.argmin()), 0], fall, rise)
    x, y = curves[1]
    rest = y - shape(x, *best)
    noise = 1.48 * np.median(np.abs(rest - np.median(rest)))  # the standard deviation of a normal distribution
    turn, _, rise = best
    rounding = ROUNDING * len(x)
    return float(np.exp(turn)), bool(rise * (x[-1] - turn) > max(CLEAR * noise, rounding) and (x > turn).sum() > 1)


def _log(losses: Sequence) -> np.ndarray:
    """Return logarithms of losses that may be zero or negative."""
    losses = np.asarray(losses, np.float64)
    losses = losses - min(0.0, losses.min())
    typical = np.median(losses[: len(losses) // 2 + 1])
    return np.log(losses + 0.03 * typical + np.finfo(np.float32).tiny)


def draw(result: dict, shown: slice) -> bytes:
    """Draw a range test's result as a PNG file: rates on a logarithmic axis, divergence and suggestion marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    probe = result.get("probe")
    for series, alpha in (("values", 0.3), ("smoothed", 0.5 if probe else 1.0)):
        axes.plot(result["rates"][shown], result[series][shown], "tab:blue", alpha=alpha, label=series)
    if probe:
        axes.plot(probe["rates"], probe["values"], ".-", color="tab:orange", label="probe")
    for mark, color in (("divergence", "tab:red"), ("suggestion", "tab:green")):
        axes.axvline(result[mark], color=color, linestyle="--", label=f"{mark} {result[mark]:.2g}")
    title = "Learning rate range test" + ("" if result["clear"] else ", not clear of its noise")
    axes.set(xscale="log", xlabel="learning rate", ylabel=result["metric"], title=title)
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
