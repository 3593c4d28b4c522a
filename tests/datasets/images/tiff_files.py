"""TIFF files written tag by tag, so that each may say what no library would write."""

import io
import itertools
import struct

import numpy as np
import pytest
import tifffile

from datasets.images.admission import NotTakenError
from datasets.images.read import decode_rgb

SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16
_LETTERS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 7: "s", 16: "Q"}

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 256, 257, 258, 259, 262, 270
OFFSETS, ORIENTATION, SAMPLES, ROWS, COUNTS, PLANAR, PREDICTOR, PALETTE = 273, 274, 277, 278, 279, 284, 317, 320
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, EXTRA, FORMAT = 322, 323, 324, 325, 338, 339

IMAGE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5

# Byte order, and whether it is a BigTIFF.
ORDERS = list(itertools.product("<>", (False, True)))


def tiff(tags: dict | None = None, segments=None, order="<", is_big=False, following=0, pixels=IMAGE) -> bytes:
    """Write a TIFF of one directory.

    Args:
        tags: values that replace, add to, or (None) leave out those of an uncompressed RGB picture of one strip; a
            number, several, bytes, or (type, values).
        segments: the stored strips.
        order: "<" or ">".
        is_big: whether it is a BigTIFF.
        following: where the next directory is said to be.
        pixels: uint8 [H, W, samples] of the uncompressed picture.
    """
    segments = [pixels.tobytes()] if segments is None else segments
    head = 16 if is_big else 8
    places = [head + sum(map(len, segments[:index])) for index in range(len(segments))]
    height, width, samples = pixels.shape
    values = {
        WIDTH: width, HEIGHT: height, BITS: [8] * samples, COMPRESSION: 1, PHOTOMETRIC: 2 if samples > 2 else 1,
        OFFSETS: places, SAMPLES: samples, ROWS: height, COUNTS: [len(segment) for segment in segments],
    } | (tags or {})  # fmt: skip
    values = {tag: value for tag, value in sorted(values.items()) if value is not None}
    start = head + sum(map(len, segments))
    counter, offset, inside = ("Q", "Q", 8) if is_big else ("H", "I", 4)
    entry = 4 + 2 * inside
    behind = start + struct.calcsize("=" + counter) + len(values) * entry + inside
    directory, data = struct.pack(order + counter, len(values)), b""
    for tag, value in values.items():
        kind, count, packed = _packed(value, order)
        if len(packed) > inside:
            where = struct.pack(order + offset, behind + len(data))
            data += packed
        else:
            where = packed.ljust(inside, b"\0")
        directory += struct.pack(order + "HH" + offset, tag, kind, count) + where
    directory += struct.pack(order + offset, following)
    first = struct.pack(order + "HHHQ", 43, 8, 0, start) if is_big else struct.pack(order + "HI", 42, start)
    return (b"II" if order == "<" else b"MM") + first + b"".join(segments) + directory + data


def _packed(value, order: str) -> tuple[int, int, bytes]:
    if isinstance(value, bytes):
        return 2, len(value), value
    if isinstance(value, int):
        value = [value]
    kind, values = value if isinstance(value, tuple) else (LONG, value)
    if isinstance(values, bytes):
        return kind, len(values), values
    packed = b"".join(struct.pack(order + _LETTERS[kind], *np.atleast_1d(value)) for value in values)
    return kind, len(values), packed


def refusal(data: bytes) -> str:
    with pytest.raises(NotTakenError) as error:
        decode_rgb(data)
    return str(error.value)


def written(image, **how) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **how)
    return buffer.getvalue()
