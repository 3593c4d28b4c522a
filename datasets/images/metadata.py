"""What image files say beside their pixels, found block by block, and no further than the pixels begin."""

import contextlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from datasets.images import formats
from datasets.open_file import open_file

# A file that is read has no more; each costs a step.
_MAX_BLOCKS = 4096
_MAX_BYTES = 16 * 2**20

_SIGNATURE_BYTES = 8
_PIXELS_OF_PNG = (b"IDAT", b"IEND")

_PIXELS_OF_JPEG = (0xD9, 0xDA)
_BARE = (0x01, *range(0xD0, 0xD9))  # markers without a length
# Between segments may be anything, and more FF are fill.
_MARKER = re.compile(rb"\xff([^\x00\xff])")


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[tuple[BinaryIO, str | None]]:
    """Open an image's file; yield it with its format, None where it is none that is read. It may be an ``OSError``."""
    path = Path(path)
    if not path.is_file():  # a pipe would wait for somebody to write into it
        raise FileNotFoundError(path)
    with open_file(path) as file:
        yield file, formats.sniff(file.read(4))


def png_chunks(file: BinaryIO, kinds: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of these kinds before the pixels; the body of one that is damaged or too large is empty."""
    place = _SIGNATURE_BYTES
    for _ in range(_MAX_BLOCKS):
        file.seek(place)
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or kind in _PIXELS_OF_PNG:
            return
        if kind in kinds:
            body = file.read(min(length, _MAX_BYTES))
            is_whole = zlib.crc32(body, zlib.crc32(kind)) == int.from_bytes(file.read(4), "big")
            yield kind, body if is_whole else b""
        place += 12 + length


def jpeg_segments(file: BinaryIO, markers: tuple[int, ...]) -> Iterator[tuple[int, bytes]]:
    """Yield the payloads of these segments before the pixels of the first picture."""
    place = 2
    for _ in range(_MAX_BLOCKS):
        marker, place = _next_marker(file, place)
        if marker is None or marker in _PIXELS_OF_JPEG:
            return
        if marker in _BARE:
            continue
        file.seek(place)
        length = int.from_bytes(file.read(2), "big")
        if marker in markers:
            yield marker, file.read(max(length - 2, 0))
        place += length


def _next_marker(file: BinaryIO, place: int) -> tuple[int | None, int]:
    """Return the first marker from a place on, and where what belongs to it begins; None where the file ends."""
    while True:
        file.seek(place)
        block = file.read(1024)
        found = _MARKER.search(block)
        if found or len(block) < 2:
            return (found[1][0], place + found.end()) if found else (None, place)
        place += len(block) - 1
