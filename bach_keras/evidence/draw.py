"""Figure 1 of Koné & Boulmane (2018), drawn from the tree itself: python -m bach_keras.evidence.draw FILE."""

import sys
from pathlib import Path

from bach_keras.tree import ROOT, SPECIALISTS

_NODE = {"boxstyle": "round,pad=0.45", "facecolor": "#e9dff2", "edgecolor": "#6b4a8f"}
_PLAIN = {"boxstyle": "round,pad=0.45", "facecolor": "#ffffff", "edgecolor": "#888888"}
# A fixed salt and no date, so that the same tree gives the same bytes; text stays text.
_STYLE = {"svg.hashsalt": "tree", "svg.fonttype": "none", "font.size": 11}


def draw_tree(path: str | Path) -> None:
    """Draw the tree, from the image at the top to the four classes, and write it in one step.

    Args:
        path: the picture; its ending says which kind, e.g. ``.svg`` or ``.png``.

    Raises:
        ValueError: a picture of this kind cannot be drawn.
        FileNotFoundError: the folder is not there.
    """
    import matplotlib
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"{path} cannot be drawn: give it the ending .svg or .png.")
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.add_subplot(xlim=(-0.55, 3.55), ylim=(-0.3, 3.3))
        axes.set_axis_off()
        _draw(axes)
        unfinished = path.with_name(f".part.{path.name}")
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(unfinished, format=path.suffix[1:], metadata=metadata)
    unfinished.replace(path)


def _draw(axes) -> None:
    top = (1.5, 3)
    root = (1.5, 2)
    _arrow(axes, top, root)
    _box(axes, top, "H&E image", _PLAIN)
    for answer, (kind, specialist) in enumerate(zip(ROOT.classes, SPECIALISTS, strict=True)):
        place = (2 * answer + 0.5, 1)
        _arrow(axes, root, place, kind)
        for leaf, name in enumerate(specialist.classes):
            below = (2 * answer + leaf, 0)
            _arrow(axes, place, below)
            _box(axes, below, name, _PLAIN)
        _box(axes, place, specialist.title, _NODE)
    _box(axes, root, ROOT.title, _NODE)


def _box(axes, place, text, style) -> None:
    axes.text(*place, text, ha="center", va="center", bbox=style, zorder=3)


def _arrow(axes, start, end, text="") -> None:
    style = {"arrowstyle": "-|>", "color": "#555555", "shrinkA": 16, "shrinkB": 18}
    axes.annotate("", xy=end, xytext=start, arrowprops=style, zorder=1)
    if text:
        middle = [(a + b) / 2 for a, b in zip(start, end, strict=True)]
        axes.text(*middle, text, ha="center", va="center", style="italic", backgroundcolor="white", zorder=2)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Give the one file to draw, e.g. docs/tree.svg.")
    draw_tree(sys.argv[1])
