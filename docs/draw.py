"""The paper's figures, drawn from what is built: python -m docs.draw tree|network FILE.

Figure 1 of Koné & Boulmane (2018) is the tree, Figure 2 a block of the network and its head.
"""

import sys
from pathlib import Path

from bach_keras.tree import ROOT, SPECIALISTS
from datasets.whole import whole

_NODE = {"boxstyle": "round,pad=0.45", "facecolor": "#e9dff2", "edgecolor": "#6b4a8f"}
_PLAIN = {"boxstyle": "round,pad=0.45", "facecolor": "#ffffff", "edgecolor": "#888888"}
# A fixed salt and no date, so that the same thing gives the same bytes; text stays text.
_STYLE = {"svg.hashsalt": "tree", "svg.fonttype": "none", "font.size": 11}

# The parts of the network that are drawn, by the prefix of their layers' names.
_PARTS = {
    "layer1.1.": "block layer1.1",
    "layer2.0.": "block layer2.0, which halves the sides",
    "head.": "head",
}


def draw_tree(path: str | Path) -> None:
    """Draw the tree, from the image at the top to the four classes, as .svg or .png."""
    _save(path, (7.2, 4.2), {"xlim": (-0.55, 3.55), "ylim": (-0.3, 3.3)}, _draw_tree)


def _draw_tree(axes) -> None:
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


def draw_network(path: str | Path, model=None) -> None:
    """Draw two blocks and the head of a network, read off its layers, as .svg or .png.

    Args:
        path: the picture.
        model: a ``Classifier``; by default the paper's.
    """
    from bach_keras.network.head import Classifier

    columns = [_layers_of(model or Classifier(288), prefix) for prefix in _PARTS]
    rows = max(depth for column in columns for _, depth, _ in column.values())

    def draw(axes):
        for number, (column, title) in enumerate(zip(columns, _PARTS.values(), strict=True)):
            _draw_column(axes, column, title, 3.4 * number)

    _save(path, (9, 0.5 * (rows + 3)), {"xlim": (-1.0, 8.0), "ylim": (-rows - 0.6, 1.2)}, draw)


def _save(path, size, limits, draw) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"{path} cannot be drawn: give it the ending .svg or .png.")
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot(**limits)
        axes.set_axis_off()
        draw(axes)
        metadata = {"Date": None} if path.suffix == ".svg" else None
        with whole(path) as unfinished:
            figure.savefig(unfinished, format=path.suffix[1:], metadata=metadata)


def _layers_of(model, prefix) -> dict[str, tuple[str, int, list[str]]]:
    """Return layer name -> (text, depth below the part's inputs, names of the layers before it)."""
    found = {}
    for layer in model.layers:
        if not layer.name.startswith(prefix):
            continue
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        before = [tensor._keras_history.operation.name for tensor in inputs]
        depth = 1 + max((found[name][1] for name in before if name in found), default=0)
        found[layer.name] = (_describe(layer), depth, before)
    return found


def _describe(layer) -> str:
    kind, own = type(layer).__name__, layer.get_config()
    if kind == "Convolution":
        groups = f", {own['groups']} groups" if own["groups"] > 1 else ""
        stride = f", stride {own['stride']}" if own["stride"] > 1 else ""
        return f"{own['size']}x{own['size']}, {own['filters']}{groups}{stride}"
    return {
        "BatchNorm": "batch norm",
        "BatchNormalization": "batch norm",
        "ReLU": "ReLU",
        "Add": "+",
        "GlobalMaxPooling2D": "maximum",
        "GlobalAveragePooling2D": "mean",
        "Concatenate": f"joined, {layer.output.shape[-1]}",
        "Dropout": f"dropout {own.get('rate')}",
        "Dense": f"dense {own.get('units')}",
    }[kind]


def _draw_column(axes, layers, title, left) -> None:
    places = {}
    for name, (text, depth, before) in layers.items():
        row = [other for other, (_, level, _) in layers.items() if level == depth]
        # The layers of a shortcut are drawn next to the path through the block, parallel layers on both sides of it.
        aside = 1.3 if "downsample" in name else 0
        level = [other for other in row if "downsample" not in other]
        across = 0 if aside else 1.1 * (level.index(name) - (len(level) - 1) / 2)
        places[name] = (left + aside + across, -depth)
        has_kernel = text[0].isdigit() or text.startswith("dense")
        _box(axes, places[name], text, _NODE if has_kernel else _PLAIN)
        for source in before:
            start = places.get(source, (left, 0))
            is_long = start[1] - places[name][1] > 1
            _arrow(axes, start, places[name], bend=(-0.6 if start[0] == left else -0.2) if is_long else 0)
    _box(axes, (left, 0), "features", _PLAIN)
    axes.text(left, 0.9, title, ha="center", va="center", weight="bold", fontsize=10)


def _box(axes, place, text, style) -> None:
    axes.text(*place, text, ha="center", va="center", bbox=style, zorder=3)


def _arrow(axes, start, end, text="", bend=0.0) -> None:
    style = {"arrowstyle": "-|>", "color": "#555555", "shrinkA": 16, "shrinkB": 18}
    style["connectionstyle"] = f"arc3,rad={bend}"
    axes.annotate("", xy=end, xytext=start, arrowprops=style, zorder=1)
    if text:
        middle = [(a + b) / 2 for a, b in zip(start, end, strict=True)]
        axes.text(*middle, text, ha="center", va="center", style="italic", backgroundcolor="white", zorder=2)


if __name__ == "__main__":
    drawings = {"tree": draw_tree, "network": draw_network}
    if len(sys.argv) != 3 or sys.argv[1] not in drawings:
        sys.exit("Give what to draw and the file, e.g. tree docs/tree.svg or network docs/network.svg.")
    drawings[sys.argv[1]](sys.argv[2])
