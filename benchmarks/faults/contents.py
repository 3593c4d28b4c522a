"""What the files of a command hold, but for what differs from one time to the next, so that results can be compared."""

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.faults import place

# Fields of JSON files that say when, how long, or where on this disk, by the file's name and the field's place in it.
# A star stands for any name, and for any place in a list.
_OF_THE_MOMENT = {
    "metrics.json": ("seconds",),
    "summary.json": ("run",),
    "own.json": ("files.*.mtime_ns",),
}
_COLUMNS = {"created", "modified_ns"}
# Exports by the digests of their files, and what each answers.
_ANSWERS: dict[frozenset, bytes] = {}
# How a file begins whose content could not be read.
UNREADABLE = "unreadable: "


def contents(folder: Path, made: tuple[str, ...]) -> dict[str, str]:
    """Return a digest of each file that a command made; of what says when or where, all but that."""
    found = {}
    for name in made:
        made_at = folder / name
        paths = sorted(made_at.rglob("*")) if made_at.is_dir() else [made_at]
        found |= {str(path.relative_to(folder)): _digest(path) for path in paths if path.is_file()}
    return found


def _digest(path: Path) -> str:
    readers = {
        ".json": _json,
        ".keras": _zip,
        ".npz": _zip,
        ".h5": _numbers,
        ".parquet": _table,
        ".tflite": _lite,
        ".pb": _graph,
    }
    read = readers.get(path.suffix, _text if path.suffix in (".html", ".md", ".csv") else Path.read_bytes)
    try:
        return hashlib.sha256(read(path)).hexdigest()
    except Exception as error:  # of a damaged file, whose reader may raise nearly anything
        return f"{UNREADABLE}{error}"


def _json(path: Path) -> bytes:
    fields = [field.split(".") for field in _OF_THE_MOMENT.get(path.name, ())]
    return json.dumps(_lasting(json.loads(path.read_text()), fields), sort_keys=True).encode()


def _lasting(value, fields: list[list[str]]):
    """Leave out fields, of which each is the list of names that lead to it."""
    if isinstance(value, list):
        return [_lasting(each, _within(fields, "*")) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: _lasting(each, within) for name, each in value.items() if [] not in (within := _within(fields, name))}


def _within(fields: list[list[str]], name: str) -> list[list[str]]:
    return [field[1:] for field in fields if field[:1] in (["*"], [name])]


def _text(path: Path) -> bytes:
    return re.sub(rb"\d+(\.\d+)? (s|seconds|minutes)\b", b"", path.read_bytes())


def _zip(path: Path) -> bytes:
    """Return the members of an archive but their times, and of HDF5 in it the numbers."""
    parts = []
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            data = archive.read(name)
            if name.endswith(".h5"):
                data = _numbers(io.BytesIO(data))
            elif name == "metadata.json":
                data = b""  # Keras writes the date
            parts.append(name.encode() + hashlib.sha256(data).digest())
    return b"".join(parts)


def _numbers(file) -> bytes:
    import h5py

    parts = []

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            parts.append(name.encode() + str(item.dtype).encode() + item[()].tobytes())

    with h5py.File(file) as opened:
        opened.visititems(add)
    return b"".join(sorted(parts))


def _table(path: Path) -> bytes:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    kept = [name for name in table.column_names if name not in _COLUMNS]
    return repr(table.select(kept).to_pylist()).encode()


def _lite(path: Path) -> bytes:
    """Return what a TFLite file answers: the converter orders what is in it as it likes."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    for each in interpreter.get_input_details():
        interpreter.set_tensor(each["index"], (np.indices(each["shape"]).sum(0) % 256).astype(each["dtype"]))
    interpreter.invoke()
    outputs = sorted(interpreter.get_output_details(), key=lambda each: each["name"])
    return b"".join(interpreter.get_tensor(each["index"]).tobytes() for each in outputs)


def _graph(path: Path) -> bytes:
    """Return what an export answers to an image: TensorFlow orders what is in a graph as it likes."""
    if path.name == "fingerprint.pb":  # of that order
        from tensorflow.core.protobuf.fingerprint_pb2 import FingerprintDef

        if not FingerprintDef.FromString(path.read_bytes()).saved_model_checksum:
            raise ValueError("it has no checksum")
        return b""
    # Loading an export takes seconds, and most tries find one that is there already, byte for byte.
    key = frozenset(place.digests(path.parent).items())
    if key not in _ANSWERS:
        _ANSWERS[key] = _answered(path.parent)
    return _ANSWERS[key]


def _answered(folder: Path) -> bytes:
    import tensorflow as tf

    signatures = tf.saved_model.load(str(folder)).signatures
    forms = {
        name: str(each.structured_input_signature) + str(each.structured_outputs) for name, each in signatures.items()
    }
    answers = signatures["serving_default"](image_bytes=tf.constant([_picture()]))
    parts = [f"{name} {np.round(value, 3) if value.dtype.kind == 'f' else value}"
             for name, value in sorted((name, each.numpy()) for name, each in answers.items())]  # fmt: skip
    return "\n".join([*(f"{name} {form}" for name, form in sorted(forms.items())), *parts]).encode()


def _picture() -> bytes:
    """Draw an image of which every part is different."""
    file = io.BytesIO()
    places = np.indices((96, 96))
    Image.fromarray(np.stack([*places * 2, places.sum(0)], axis=-1).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
