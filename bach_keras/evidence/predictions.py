"""predictions.csv: what a system answered for each image, in a form that shows when a row was changed afterwards.

A row is a dict: ``filename``, ``group``, ``digest`` (SHA-256 of the image's size and pixels), ``truth``, ``label``, the
four probabilities by class and the pair of each node by its name. The rows of a single node have its pair alone, and
``label`` is one of its two classes. These may be None: ``unsure`` (bool), ``set`` (class names, at the level of 90 %)
and ``set.0.8`` (at that of 80 %), ``spread`` (float), ``uncalibrated`` (node -> pair), ``normalised`` (whether the
stain could be normalised), ``measured`` (what ``ranges.values_of`` returns). ``chosen`` says whether the image also
chose something of the system, such as an epoch.
"""

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from bach_keras.evidence.ranges import SIDES
from bach_keras.fields import SHA256, plain
from bach_keras.tree import NODES, ROOT, SPECIALISTS, Node
from datasets.errors import UserError
from datasets.escape import for_csv
from datasets.labels import CLASSES, LABELS
from datasets.open_file import open_file
from datasets.whole import whole

FILE = "predictions.csv"
MAX_BYTES = 2**28

# Level of coverage -> column of the prediction set.
SETS = {"0.8": "set.0.8", "0.9": "set"}

_PAIRS = {name: [f"{name}.{answer}" for answer in node.classes] for name, node in NODES.items()}
_UNCALIBRATED = {name: [f"{name}.uncalibrated.{answer}" for answer in node.classes] for name, node in NODES.items()}
_MEASURED = {name: f"measured.{name}" for name in SIDES}
COLUMNS = (
    "filename", "group", "digest", "truth", "label", *CLASSES, *chain(*_PAIRS.values()), "unsure", "set", "spread",
    "set.0.8", *chain(*_UNCALIBRATED.values()), "chosen", "normalised", *_MEASURED.values(),
    "split_digest", "model_digest", "check",
)  # fmt: skip

# What rounding in float32 may do to a pair's sum, and to a product of two of its numbers.
SUM_TOLERANCE, PRODUCT_TOLERANCE = 1e-5, 1e-6

_FAR = 1e9  # what no distance reaches
_FLAGS = {"": None, "true": True, "false": False}
_NO_CLASS = "none"  # a set without a class; an empty cell says that there is no set


@dataclass(frozen=True)
class Predictions:
    """The rows of a predictions file, and what they have in common."""

    rows: list[dict]
    node: str | None  # the one node that answered; None where the tree did
    split_digest: str  # SHA-256 of which images these are
    model_digest: str  # SHA-256 of what answered, "" where it does not say


class _WrongError(Exception):
    """What is wrong with a row."""


def split_digest(rows: list[dict]) -> str:
    """Return the SHA-256 over the images' names, truths and pixels, in the order of the rows."""
    lines = (json.dumps([row["filename"], row["truth"], row["digest"]]) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def as_csv(rows: list[dict], model_digest: str = "") -> bytes:
    """Return rows as the content of a predictions file; floats are written so that they read back equal."""
    return written([COLUMNS, *cells_of(rows, model_digest)])


def cells_of(rows: list[dict], model_digest: str = "") -> list[list[str]]:
    """Return the cells of each row, in the order of ``COLUMNS``."""
    # The digest is of the names as the file has them.
    of_split = split_digest([{**row, "filename": for_csv(row["filename"])} for row in rows])
    lines = [[for_csv(cell) for cell in (*_cells(row), of_split, model_digest)] for row in rows]
    return [[*cells, _check(cells)] for cells in lines]


def written(lines) -> bytes:
    """Return lines of cells as the content of a CSV file."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows(lines)
    return buffer.getvalue().encode(errors="surrogateescape")


def node_rows(node: Node, data, names, pairs) -> list[dict]:
    """Return the rows of images that chose the epoch of a run, sorted by file name.

    Args:
        node: that was trained.
        data: a ``SplitData`` that holds the images.
        names, pairs: of each image, its file name and the node's probabilities.
    """
    digests, rows = data.prepared.digests, []
    for name, pair in sorted(zip(names, np.clip(pairs, 0, 1).tolist(), strict=True)):
        named = {"filename": name, "group": data.groups.get(name, ""), "digest": digests[name]}
        answer = node.classes[int(np.argmax(pair))]
        rows.append({**named, "truth": data.labels[name], "label": answer, node.name: pair, "chosen": True})
    return rows


def write_predictions(path: Path, rows: list[dict], model_digest: str = "") -> None:
    content = as_csv(rows, model_digest)
    with whole(path) as partial:
        partial.write_bytes(content)


def read_predictions(path: Path) -> Predictions:
    """Read and check a predictions file; a row that was changed is named by its line and its image."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no file {path}: name a predictions.csv that evaluate or train wrote.")
    return parse(read_content(path), path)


def read_content(path: Path) -> bytes:
    """Return what is in a file of answers; refuses one that is too large to be one."""
    with open_file(path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES} bytes: it is not a file that this project wrote.")
    return content


def parse(content: bytes, path) -> Predictions:
    """Return what a predictions file holds, checked; ``path`` is what messages call it."""
    return parse_lines(list(lines_of(content, path)), path)


def parse_lines(table: list[tuple[int, list[str]]], path) -> Predictions:
    """Return what the lines of a predictions file hold, checked: of each its number and its cells; first the heads."""
    if not table or table[0][1] != list(COLUMNS):
        raise UserError(
            f"{path} does not have the columns of a predictions file: it is from an earlier version, or another file. "
            "Evaluate again."
        )
    if len(table) == 1:
        raise UserError(f"{path} has no row: make it again.")
    rows, seen, first = [], {}, None
    for line, cells in table[1:]:
        name = cells[0] if cells else ""
        try:
            _check_row(cells)
            values = dict(zip(COLUMNS, cells, strict=True))
            first = first or values
            _check_alike(values, first)
            if name in seen:
                raise _WrongError(f"the image is in line {seen[name]} already")
            rows.append(_row(values, _node(first)))
        except _WrongError as wrong:
            raise UserError(f"{path}, line {line} ({plain(name, 60)}): {wrong}.") from None
        seen[name] = line
    if split_digest(rows) != first["split_digest"]:
        raise UserError(f"{path}: a row was added, removed or moved after the file was written. Make it again.")
    return Predictions(rows, _node(first), first["split_digest"], first["model_digest"])


def lines_of(content: bytes, path):
    """Yield the number of the line at which each row begins, and its cells."""
    reader = csv.reader(io.StringIO(content.decode(errors="surrogateescape"), newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, line {line}: it is not a row of CSV ({error}). Make it again.") from error


def _cells(row: dict) -> list[str]:
    """Return the cells of a row before the digests; what a row does not have is an empty cell."""
    uncalibrated, measured = row.get("uncalibrated") or {}, row.get("measured") or {}
    return [
        *(row[name] for name in ("filename", "group", "digest", "truth", "label")),
        *(_number(row.get(name)) for name in CLASSES),
        *(_number(part) for name in NODES for part in row.get(name, (None, None))),
        _flag(row.get("unsure")),
        _set(row.get("set")),
        _number(row.get("spread")),
        _set(row.get("set.0.8")),
        *(_number(part) for name in NODES for part in uncalibrated.get(name, (None, None))),
        _flag(row.get("chosen", False)),
        _flag(row.get("normalised")),
        *(_number(measured.get(name)) for name in _MEASURED),
    ]


def _number(value) -> str:
    return "" if value is None else repr(float(value))


def _flag(value) -> str:
    return "" if value is None else str(bool(value)).lower()


def _set(names) -> str:
    return "" if names is None else " ".join(names) or _NO_CLASS


def _check(cells: list[str]) -> str:
    # The sign between cells is in none of them: ``for_csv`` escapes it.
    return hashlib.sha256("\x1f".join(cells).encode(errors="surrogateescape")).hexdigest()


def _check_row(cells: list[str]) -> None:
    if len(cells) != len(COLUMNS):
        raise _WrongError(f"it has {len(cells)} cells, and not {len(COLUMNS)}")
    if _check(cells[:-1]) != cells[-1]:
        raise _WrongError("the row was changed after it was written, since its check does not fit its other cells")


def _check_alike(values: dict, first: dict) -> None:
    for name in ("split_digest", "model_digest"):
        if values[name] != first[name]:
            raise _WrongError(f"its {name} is not that of the first row")
        if not SHA256.fits(values[name]) and (name, values[name]) != ("model_digest", ""):
            raise _WrongError(f"its {name} is not a SHA-256")
    if _node(values) != _node(first):
        raise _WrongError("it is not an answer of the same nodes as the first row")


def _node(values: dict) -> str | None:
    """Return the one node whose pair a row has, or None where it has more than that."""
    there = [name for name, columns in _PAIRS.items() if any(values[column] for column in columns)]
    return there[0] if len(there) == 1 and not any(values[name] for name in CLASSES) else None


def _row(values: dict, node: str | None) -> dict:
    """Return the row that some cells stand for, once they are what a system can answer."""
    if not SHA256.fits(values["digest"]):
        raise _WrongError("its digest is not a SHA-256")
    truths = NODES[node].targets if node else LABELS
    if values["truth"] not in truths:
        raise _WrongError(f"its truth must be one of {', '.join(truths)}")
    row = {name: values[name] for name in ("filename", "group", "digest", "truth", "label")}
    names = [node] if node else list(NODES)
    row |= {name: _read_pair(values, _PAIRS[name]) for name in names}
    if node:
        answers, classes = row[node], NODES[node].classes
    else:
        row |= {name: _share(values, name) for name in CLASSES}
        answers, classes = [row[name] for name in CLASSES], CLASSES
        _check_products(row)
    if values["label"] != classes[int(np.argmax(answers))]:
        raise _WrongError("its label is not the likeliest class")
    # A node that does not answer has no cell to be read.
    there = [name for name in names if any(values[column] for column in _UNCALIBRATED[name])]
    row["uncalibrated"] = {name: _read_pair(values, _UNCALIBRATED[name]) for name in there} or None
    if there and there != names:
        raise _WrongError("it has numbers before calibration for some nodes only")
    row |= _read_more(values)
    for column in SETS.values():
        if row[column] is not None and row["label"] not in row[column]:
            raise _WrongError(f"its {column} does not hold its label")
    return row


def _read_more(values: dict) -> dict:
    row = {}
    for name in ("unsure", "chosen", "normalised"):
        if values[name] not in _FLAGS:
            raise _WrongError(f"its {name} must be true, false or empty")
        row[name] = _FLAGS[values[name]]
    row |= {column: _read_set(values, column) for column in SETS.values()}
    row["spread"] = _share(values, "spread") if values["spread"] else None
    measured = {name: _share(values, column, _FAR) for name, column in _MEASURED.items() if values[column]}
    if measured and not {"blur", "tissue", "stain"} <= set(measured):
        raise _WrongError("it has some of an image's measures only")
    row["measured"] = measured or None
    return row


def _read_set(values: dict, column: str) -> list[str] | None:
    if not values[column]:
        return None
    names = [] if values[column] == _NO_CLASS else values[column].split(" ")
    if names != [name for name in CLASSES if name in names]:
        raise _WrongError(f"its {column} must hold classes in the order {', '.join(CLASSES)}, or {_NO_CLASS}")
    return names


def _read_pair(values: dict, columns: list[str]) -> list[float]:
    pair = [_share(values, column) for column in columns]
    if abs(sum(pair) - 1) > SUM_TOLERANCE:
        raise _WrongError(f"{' and '.join(columns)} do not sum to 1")
    return pair


def _share(values: dict, column: str, most: float = 1) -> float:
    text = values[column]
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    # NaN is not in the range either, and other spellings of a number are not what was written.
    if not 0 <= number <= most or repr(number) != text:
        raise _WrongError(f"its {column} must be a number from 0 to {most:g}")
    return number


def _check_products(row: dict) -> None:
    for index, specialist in enumerate(SPECIALISTS):
        for name, within in zip(specialist.classes, row[specialist.name], strict=True):
            if abs(row[ROOT.name][index] * within - row[name]) > PRODUCT_TOLERANCE:
                raise _WrongError(f"its {name} is not the product of the nodes on the way there")
