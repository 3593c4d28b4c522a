"""Loss and accuracy by epoch, drawn."""

import math

# From this ratio of the largest to the smallest loss on, a linear axis would show the late epochs as a flat line.
_DECADE = 10


def curves_figure(history: list[dict], best_epoch: int | None = None):
    """Return a matplotlib ``Figure`` of the rows of a history.csv, one an epoch; the best epoch is marked where given.

    The axis of the loss is logarithmic where the loss spans a decade or more.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    epochs = [int(row["epoch"]) for row in history]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in history[0]:
                axes.plot(epochs, [float(row[key]) for row in history], marker="o", markersize=4, label=label)
        if best_epoch is not None:
            axes.axvline(best_epoch, color="grey", linestyle="--", linewidth=1, label="best epoch")
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    ratio = _ratio(history)
    if ratio >= _DECADE:
        _make_logarithmic(figure.axes[0], numbers=(1, 2, 5) if ratio < 10 * _DECADE**2 else (1,))
    return figure


def _make_logarithmic(axes, numbers: tuple[int, ...]) -> None:
    """Give the loss a log axis, with marks at these numbers of each decade."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log", nonpositive="clip")  # a loss of 0 lies below the axis, and the curve leads there
    axes.yaxis.set_major_locator(LogLocator(subs=numbers))
    axes.yaxis.set_major_formatter("{x:g}")  # 0.05 and not 5 x 10^-2
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("loss (log axis)")


def _ratio(history: list[dict]) -> float:
    """Return how many times the least loss the largest is; 1 where there is no finite one."""
    values = [float(row[key]) for row in history for key in ("loss", "val_loss") if key in row]
    positive = [value for value in values if 0 < value < math.inf]
    return max(positive) / min(positive) if positive else 1.0
