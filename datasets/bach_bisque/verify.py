"""Re-reading every prepared record and comparing it with what was prepared."""

from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from PIL import Image

from datasets.bach_bisque.sources import pixel_digest
from datasets.catalogue import UNLABELLED
from datasets.labels import LABELS
from datasets.progress import bar

# Bytes of a TFRecord file's record: its length, a checksum of that, the data, a checksum of the data.
_LENGTH, _CHECKSUM = 8, 4

_LABELS = dict(enumerate(LABELS)) | {-1: UNLABELLED}


def differences(tables: dict[str, list[dict]], files: dict[str, list[Path]]) -> list[str]:
    """Return a sentence for each record or file of a split that is not as the rows of ``Prepared.tables`` say."""
    found = []
    for split, rows in tables.items():
        missing = {row["filename"]: row for row in rows}
        with bar(what=f"Verifying {split}", total=len(rows)) as progress:
            for path in files[split]:
                found += _check_file(path, missing, progress) if path.is_file() else [f"{path} is missing."]
        found += [f"{split} has no readable record of {name}." for name in sorted(missing)]
    return found


def _check_file(path: Path, missing: dict[str, dict], progress) -> list[str]:
    """Name what differs in one file, and take what it holds from the rows that are still missing."""
    found = []
    for number, data in enumerate(_read_records(path)):
        progress.update()
        try:
            held = _contents(data)
        except (DecodeError, LookupError, UnicodeDecodeError):
            found.append(f"{path}: record {number} is damaged.")
            continue
        found += _compare(held, missing.pop(held["filename"], None), path)
    return found or _check_sums(path)


def _read_records(path: Path) -> Iterator[bytes]:
    """Yield each record's data whatever its checksum: TensorFlow's reader would end at the first wrong one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        while length := file.read(_LENGTH):
            file.read(_CHECKSUM)
            yield file.read(min(int.from_bytes(length, "little"), size))
            file.read(_CHECKSUM)


def _check_sums(path: Path) -> list[str]:
    """Say whether TensorFlow, which compares each record's checksums, can read the file to its end."""
    try:
        for _ in tf.data.TFRecordDataset(str(path)):
            pass
    except tf.errors.DataLossError:
        return [f"{path} holds what was prepared, but a wrong checksum, so that TensorFlow will not read it."]
    return []


def _contents(data: bytes) -> dict:
    """Return a record's fields in the form of the table's rows; raise DecodeError and others if it is damaged."""
    fields = tf.train.Example.FromString(data).features.feature
    text = {name: fields[name].bytes_list.value[0].decode() for name in ("filename", "source", "group")}
    label = fields["label"].int64_list.value[0]
    try:
        # As training reads it. Pillow refuses the large colour profiles that earlier versions kept.
        pixels = tf.io.decode_png(fields["image"].bytes_list.value[0], channels=3).numpy()
        digest = pixel_digest(Image.fromarray(pixels))
    except tf.errors.InvalidArgumentError:
        digest = None
    return text | {"label": _LABELS[label], "sha256": digest}


def _compare(held: dict, prepared: dict | None, path: Path) -> list[str]:
    name = held["filename"]
    if prepared is None:
        return [f"{path} holds {name}, which was not prepared, or holds it twice."]
    found = [
        f"{name}: its {field} is {held[field]!r}, and {prepared[field]!r} was prepared."
        for field in ("label", "source", "group")
        if held[field] != prepared[field]
    ]
    if held["sha256"] != prepared["sha256"]:
        found.append(f"{name}: its pixels are not those that were prepared.")
    return found
