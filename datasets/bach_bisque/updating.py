"""What a set of an earlier version holds, in the form of this version: its images need not be read from their files."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from PIL import Image

from datasets.ahead import ahead, image_threads
from datasets.bach_bisque.prepared import Prepared, record_of
from datasets.bach_bisque.sources import pixel_digest
from datasets.catalogue import ENCODED_ALIKE, Record, with_known_group
from datasets.errors import UserError
from datasets.images import png


def updated_rows(rows: list[dict]) -> list[dict]:
    """Return the rows of a table with what is known today, in their own order, which is that of a fresh build."""
    return [dataclasses.asdict(with_known_group(record_of(row))) | {"sha256": row["sha256"]} for row in rows]


def updated_images(older: Prepared, split: str) -> Iterator[tuple[Record, str, bytes]]:
    """Yield each record of a split with its image's digest and PNG, in the order of the files.

    Refuses a set that is not as it was prepared: what is damaged would be copied, and its file's checksums renewed.
    """
    rows = {row["filename"]: row for row in updated_rows(older.tables[split])}
    keeps_bytes = older.folder.name in ENCODED_ALIKE

    def update(data: bytes) -> tuple[dict, bytes]:
        name, encoded = _contents(data)
        if name not in rows:
            raise UserError(f"it holds {name}, which was not prepared")
        pixels = tf.io.decode_png(encoded, channels=3).numpy()
        if pixel_digest(Image.fromarray(pixels)) != rows[name]["sha256"]:
            raise UserError(f"its image {name} is not the one that was prepared")
        return rows[name], encoded if keeps_bytes else png.encode(pixels)

    left = set(rows)
    try:
        for row, encoded in ahead(update, _records(older.files()[split]), image_threads()):
            if row["filename"] not in left:
                raise UserError(f"it holds {row['filename']} twice")
            left.remove(row["filename"])
            yield record_of(row), row["sha256"], encoded
        if left:
            raise UserError(f"{len(left)} of its images are missing")
    except (tf.errors.OpError, DecodeError, LookupError, UnicodeDecodeError, UserError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(
            f"{older.folder} is damaged ({reason}), so it cannot be brought up to date: prepare it again with "
            f"`data prepare --config {older.config} --overwrite`."
        ) from None  # a cause of TensorFlow's would be taken for a fault of the disk that is written to


def _records(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        for data in tf.data.TFRecordDataset(str(path)):  # compares checksums
            yield data.numpy()


def _contents(data: bytes) -> tuple[str, bytes]:
    fields = tf.train.Example.FromString(data).features.feature
    return fields["filename"].bytes_list.value[0].decode(), fields["image"].bytes_list.value[0]
