"""The Parquet columns of an answered image: what `predict --format json` says of it, one value to a column.

``part-*.parquet`` in the folder of ``bulk`` have one row for each image of the input, errors too, in the input's order.
A file counts only if its SHA-256 stands in ``manifest.json`` beside it (``shards``: name, sha256, rows, errors).

| column | type | |
|---|---|---|
| path | string | as the input named it; bytes that are not UTF-8 as backslash escapes |
| digest | string | SHA-256 of the file's bytes; null where they could not be read |
| bytes, modified_ns | int64 | of the file when it was read; null where that is unknown |
| width, height | int32 | in pixels; null in a row with an error, as is all that follows but ``model`` and ``error`` |
| label | string | |
| probabilities.CLASS | float | one for each class of the model |
| nodes.NODE.CLASS | float | null for a node that was not run, or is not there |
| unsure, set | bool, list of string | null where nothing was calibrated |
| spread | float | null where one view is seen |
| distance | float | to the nearest training image; null of a model that does not know its own |
| um_per_pixel, um_per_pixel_source | double, string | null where unknown |
| icc, icc_applied | string, bool | null where the file has no colour profile |
| warnings | list of {name, value, low, high, source} | empty where all is well; null of a model without ranges |
| measured.blur, measured.tissue, measured.stain | double | compared with the card's bounds; null likewise |
| model | string | digest of the export that answered |
| error | string | null where there is an answer |
"""

from collections.abc import Sequence

import pyarrow as pa

from bach_keras.serving.answers import Outputs
from bach_keras.tree import NODES

MEASURED = ("blur", "tissue", "stain")

_WARNING = pa.struct(
    [
        ("name", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("source", pa.string()),  # of a scale; null otherwise
    ]
)


def schema(form: Outputs) -> pa.Schema:
    """Return the columns of the answers of a model, in their order."""
    fields = [
        ("path", pa.string()),
        ("digest", pa.string()),
        ("bytes", pa.int64()),
        ("modified_ns", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("label", pa.string()),
        *((f"probabilities.{name}", pa.float32()) for name in form.classes),
        *((f"nodes.{node.name}.{name}", pa.float32()) for node in NODES.values() for name in node.classes),
        ("unsure", pa.bool_()),
        ("set", pa.list_(pa.string())),
        ("spread", pa.float32()),
        ("distance", pa.float32()),
        ("um_per_pixel", pa.float64()),
        ("um_per_pixel_source", pa.string()),
        ("icc", pa.string()),
        ("icc_applied", pa.bool_()),
        ("warnings", pa.list_(_WARNING)),
        *((f"measured.{name}", pa.float64()) for name in MEASURED),
        ("model", pa.string()),
        ("error", pa.string()),
    ]
    return pa.schema(fields)


def as_table(rows: Sequence[dict], form: Outputs, model: str) -> pa.Table:
    """Return rows as columns.

    Args:
        rows: each is a row of ``predict``, with ``digest``, ``bytes`` and ``modified_ns``, and unless it is an error
            with ``width``, ``height`` and ``measured`` (None of a model without ranges).
        model: the digest of the export that answered.
    """
    cells = [_cells(row) | {"model": model} for row in rows]
    return pa.Table.from_pylist(cells, schema=schema(form))


def _cells(row: dict) -> dict:
    same = ("digest", "bytes", "modified_ns", "width", "height", "label", "unsure", "set", "spread", "distance")
    cells = {name: row.get(name) for name in same} | {"path": text_of(row["path"])}
    if "error" in row:
        return cells | {"error": _written(row["error"])}
    size, profile = row["um_per_pixel"] or {}, row["icc"] or {}
    nodes = {node: pair for node, pair in row["nodes"].items() if pair}
    warnings = row["warnings"]
    return {
        **cells,
        **{f"probabilities.{name}": share for name, share in row["probabilities"].items()},
        **{f"nodes.{node}.{name}": share for node, pair in nodes.items() for name, share in pair.items()},
        "um_per_pixel": size.get("value"),
        "um_per_pixel_source": size.get("source"),
        "icc": _written(profile.get("profile")),
        "icc_applied": profile.get("applied"),
        "warnings": None if warnings is None else [_warning(each) for each in warnings],
        **{f"measured.{name}": value for name, value in (row["measured"] or {}).items() if name in MEASURED},
    }


def _warning(each: dict) -> dict:
    low, high = each["range"]
    return {"name": each["name"], "value": each["value"], "low": low, "high": high, "source": each.get("source")}


def text_of(text: str) -> str:
    """Return text in UTF-8, which Parquet's strings are; of a file's name, bytes that are not are escaped."""
    return text.encode(errors="backslashreplace").decode()


def _written(text: str | None) -> str | None:
    return None if text is None else text_of(text)
