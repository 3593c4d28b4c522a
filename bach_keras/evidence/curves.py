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
    if _spans_decades(history):
        # A loss of 0 lies below the axis, and the curve leads there.
        figure.axes[0].set_yscale("log", nonpositive="clip")
        figure.axes[0].set_ylabel("loss (log axis)")
    return figure


def _spans_decades(history: list[dict]) -> bool:
    values = [float(row[key]) for row in history for key in ("loss", "val_loss") if key in row]
    positive = [value for value in values if 0 < value < math.inf]
    return bool(positive) and max(positive) >= _DECADE * min(positive)
