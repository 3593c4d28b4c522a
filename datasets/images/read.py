"""The pixels of an image file, as RGB, or only how many there are."""

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from datasets.errors import UserError
from datasets.images import bmp, formats, jpeg, png, tiff
from datasets.images.admission import MAX_BYTES, NotTakenError
from datasets.open_file import open_file

_DECODERS = {formats.PNG: png.decode, formats.JPEG: jpeg.decode, formats.BMP: bmp.decode}
_SIZES = {formats.PNG: png.read_size, formats.JPEG: jpeg.read_size, formats.BMP: bmp.read_size}
_SIZES[formats.TIFF] = tiff.read_size
_KINDS = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}


def read_rgb(path: Path) -> np.ndarray:
    """Read one image as uint8 RGB [H, W, 3]; grey and palette images are converted, transparent ones laid on white."""
    return _read(Path(path), _decode)


def read_size(path: Path) -> tuple[int, int]:
    """Read an image's width and height without its pixels; refuse it where its header shows that it cannot be read."""
    return _read(Path(path), _measure)


def decode_rgb(data: bytes) -> np.ndarray:
    """Decode the bytes of an image file as ``read_rgb`` does; it refuses by a ``NotTakenError``."""
    return _decode(io.BytesIO(data), len(data))


def _read(path: Path, look: Callable):
    try:
        return _look(path, look)
    except NotTakenError as error:
        raise UserError(f"{path} {error}.") from None


def _look(path: Path, look: Callable):
    """Return what a function makes of a file and its size in bytes."""
    try:
        if not path.is_file():
            # Nothing else is opened: a pipe would wait for somebody to write into it.
            raise NotTakenError(_other_kind(path))
        if path.suffix.lower() == ".mrxs":  # the file is a JPEG of the slide's label
            raise NotTakenError(
                "is not a PNG, JPEG, BMP or TIFF image but a MIRAX slide: save the region that is meant"
            )
        with open_file(path) as file:
            return look(file, os.fstat(file.fileno()).st_size)
    except (FileNotFoundError, NotADirectoryError):
        raise NotTakenError("is a link to what is not there" if path.is_symlink() else "is not there") from None
    except OSError as error:
        raise NotTakenError(f"cannot be read: {error.strerror or error}") from None


def _other_kind(path: Path) -> str:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        next(path.iterdir(), None)  # whether it is closed
    kind = next((kind for is_kind, kind in _KINDS.items() if is_kind(mode)), "a device")
    return f"is {kind}, not a PNG, JPEG, BMP or TIFF image"


def _decode(file: BinaryIO, size: int) -> np.ndarray:
    """Look at how a file begins, and decode it by the format that it shows."""
    kind, head = _begin(file, size)
    try:
        if kind == formats.TIFF:
            return tiff.decode(file)
        return _DECODERS[kind](head + file.read(max(size - len(head), 0)))
    except MemoryError:
        raise NotTakenError("needs more memory than there is") from None


def _measure(file: BinaryIO, size: int) -> tuple[int, int]:
    kind, _ = _begin(file, size)
    return _SIZES[kind](file)


def _begin(file: BinaryIO, size: int) -> tuple[str, bytes]:
    """Return the format that a file shows by how it begins, and that beginning; refuse what is not taken."""
    head = file.read(formats.HEAD)
    if not head:
        raise NotTakenError("is empty")
    kind = formats.sniff(head)
    if kind is None:
        other = formats.describe(head)
        what = "is not a PNG, JPEG, BMP or TIFF image" + (f" but {other}" if other else "")
        raise NotTakenError(f"{what}: save the picture as PNG or TIFF of 8-bit RGB")
    if kind != formats.TIFF and size > MAX_BYTES:
        raise NotTakenError(f"has {size:,} bytes; at most {MAX_BYTES:,} are taken")
    return kind, head
