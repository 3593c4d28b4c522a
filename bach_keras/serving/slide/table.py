"""``tiles.csv``: a line for each tile, its place and probabilities named as other tools of the field name them."""

from pathlib import Path

from bach_keras.serving.slide.tiles import AnsweredSlide, AnsweredTile
from bach_keras.tree import NODES
from datasets.escape import csv_line
from datasets.labels import CLASSES
from datasets.whole import whole

NAME = "tiles.csv"

_PLACE = ("minx", "miny", "width", "height")
_PAIRS = tuple((name, each) for name, node in NODES.items() for each in node.classes)
COLUMNS = (
    *_PLACE, *(f"prob_{name}" for name in CLASSES), "label", "unsure", "set", "tissue",
    *(f"{node}_{each}" for node, each in _PAIRS), "distance", "spread", "quick", "error",
    "um_per_pixel", "um_per_pixel_source",
)  # fmt: skip


def write_table(path: Path, slide: AnsweredSlide) -> None:
    """Write the tiles of a slide; cells are empty of what a model does not say, and of nodes that were not run."""
    scale = {"um_per_pixel": f"{slide.scale.value:g}", "um_per_pixel_source": slide.scale.source}
    with whole(path) as partial, partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(csv_line(COLUMNS) + "\r\n")
        for each in slide.tiles:
            file.write(csv_line(map((_cells(each) | scale).get, COLUMNS)) + "\r\n")


def _cells(answered: AnsweredTile) -> dict:
    tile, row = answered.tile, answered.row
    cells = {name: getattr(tile, name) for name in _PLACE} | {"tissue": _number(tile.tissue)}
    if "error" in row:
        return cells | {"error": row["error"]}
    cells |= {f"prob_{name}": _number(value) for name, value in row["probabilities"].items()}
    pairs = {node: pair for node, pair in row["nodes"].items() if pair}
    cells |= {f"{node}_{name}": _number(value) for node, pair in pairs.items() for name, value in pair.items()}
    cells |= {name: _number(row[name]) for name in ("distance", "spread") if row.get(name) is not None}
    if row.get("unsure") is not None:  # an empty cell otherwise: nothing was calibrated
        cells |= {"unsure": _flag(row["unsure"]), "set": " ".join(row["set"])}
    return cells | {"label": row["label"], "quick": _flag(row.get("quick", False))}


def _number(value: float) -> str:
    return f"{value:.6f}"


def _flag(value: bool) -> str:
    return "true" if value else "false"
