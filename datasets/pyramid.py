"""Writing a pyramidal TIFF row by row, so that a slide larger than memory can be made.

The file is what scanners' programs and vips write: tiles of 256 pixels in JPEG, each level half the size of the one
before, a page each. Aperio's, QuPath's and openslide's readers take it.
"""

import contextlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from datasets.errors import UserError
from datasets.whole import whole

TILE = 256
_QUALITY = 90
_CENTIMETRE = 10_000.0  # in micrometres

# What is encoded at once: tifffile's default is half a gigabyte.
_ENCODED_AT_ONCE = 2**24

# The tiles of a larger slide may take more than the 4 GiB that plain TIFF can address.
_MOST_PIXELS = 10**9


def write_pyramid(path: Path, rows: Iterable[np.ndarray], size: tuple[int, int], um_per_pixel: float) -> None:
    """Write a slide from its rows, from top to bottom, completely or not at all.

    Memory holds a few hundred rows. Beside the file, for as long as it is written, lies a third of its pixels as they
    are: the smaller levels, which follow the largest.

    Args:
        rows: uint8 RGB [h, width, 3], of any heights that add up to the slide's.
        size: width and height in pixels.
    """
    tifffile = _tifffile()
    width, height = size
    with (
        whole(path) as partial,
        tifffile.TiffWriter(partial, bigtiff=width * height > _MOST_PIXELS) as file,
        contextlib.ExitStack() as spilt,
    ):
        for level in itertools.count():
            is_last = max(width, height) <= 2 * TILE
            smaller = None if is_last else spilt.enter_context(tempfile.TemporaryFile(dir=Path(path).parent))
            file.write(
                _tiles(rows, width, smaller),
                shape=(height, width, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": _QUALITY},
                resolution=[_CENTIMETRE / um_per_pixel / 2**level] * 2,
                resolutionunit="CENTIMETER",
                subfiletype=int(level > 0),  # 1: a smaller form of another page
                metadata=None,
                buffersize=_ENCODED_AT_ONCE,
            )
            if is_last:
                return
            width, height = (width + 1) // 2, (height + 1) // 2
            rows = _rows_in(smaller, width)


def _tifffile():
    try:
        import imagecodecs  # noqa: F401 (tifffile encodes JPEG by it)
        import tifffile
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed, by which slides are written: pip install -r requirements-slides.txt"
        ) from error
    return tifffile


def _tiles(rows: Iterable[np.ndarray], width: int, smaller: BinaryIO | None) -> Iterator[np.ndarray]:
    """Yield the tiles of a level, row by row; write its pixels at half the size to ``smaller``."""
    for block in _blocks(rows):
        if smaller:
            smaller.write(_half(block).tobytes())
        # Beyond the slide its last pixels are repeated: JPEG would mix any other colour into them.
        padded = np.pad(block, ((0, TILE - len(block)), (0, -width % TILE), (0, 0)), mode="edge")
        for left in range(0, width, TILE):
            yield padded[:, left : left + TILE]


def _blocks(rows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the same rows, ``TILE`` of them at a time, and at last what is left."""
    waiting = None
    for part in rows:
        waiting = part if waiting is None else np.concatenate([waiting, part])
        while len(waiting) >= TILE:
            yield waiting[:TILE]
            waiting = waiting[TILE:]
    if waiting is not None and len(waiting):
        yield waiting


def _half(block: np.ndarray) -> np.ndarray:
    """Return the rounded mean of each two by two pixels; an odd last row or column counts twice."""
    if any(odd := [side % 2 for side in block.shape[:2]]):
        block = np.pad(block, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
    total = block[0::2, 0::2].astype(np.uint16) + block[0::2, 1::2] + block[1::2, 0::2] + block[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def _rows_in(file: BinaryIO, width: int) -> Iterator[np.ndarray]:
    file.seek(0)
    while data := file.read(TILE * width * 3):
        yield np.frombuffer(data, np.uint8).reshape(-1, width, 3)
