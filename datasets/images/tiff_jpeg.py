"""The strips and tiles of a TIFF that are JPEG files without their tables."""

import itertools
import re
from collections.abc import Iterator

import numpy as np

from datasets.images import pillow
from datasets.images.admission import NotTakenError
from datasets.images.tiff_directory import CONVERT, Directory, damage

# The tag of the tables that all strips or tiles share, and the bytes that they may have.
_TABLES, _MAX_TABLES = 347, 2**13

# Markers before the data, each of which costs a step: a colour profile has at most 255.
_MAX_MARKERS = 4096

_START, _END, _SCAN, _HUFFMAN, _QUANTISATION, _RESTART = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD
_BASELINE = (0xC0, 0xC1)

# A marker in a scan's data; a zero behind FF is stuffing, and more FF before it are fill. (A pattern for any number of
# FF would take time with the square of their number.)
_MARKER = re.compile(rb"\xff([^\x00\xff])")

# Bytes that no pixels are made of where the data before them is complete.
_TRIAL = bytes.fromhex("a53c965a") * 8

# The 64 bits that libjpeg reads ahead of those that it needs: ones, which are no code.
_AHEAD = b"\xff\0" * 8
_OTHER_FRAMES = (0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)


def read_tables(directory: Directory) -> bytes:
    """Read the tables that all strips or tiles share; b"" where there are none."""
    tables = directory.texts(_TABLES)
    if len(tables) > 1 or sum(map(len, tables)) > _MAX_TABLES:
        raise damage("its JPEG tables are larger than any")
    return _markers(tables[0])[0] if tables and tables[0] else b""


def decode(
    data: bytes, tables: bytes, size: tuple[int, int, int], samples: int, is_ycbcr: bool, is_quick: bool = False
) -> np.ndarray:
    """Decode the bytes of one strip or tile, with the tables of ``read_tables``, to uint8 [height, width, samples].

    ``size`` is its width, its rows, and the rows that it may be stored with; ``samples`` are 1 or 3. Data that ends too
    early is refused; ``is_quick`` takes half the time, and overlooks the loss of up to 20 bytes, of some blocks.
    """
    width, rows, stored_rows = size
    own, scan = _markers(data)
    if not scan:
        raise damage("a JPEG strip or tile has no data")
    frame = _frame(own)
    if frame[0] != 8:
        raise NotTakenError(f"has JPEG of {frame[0]} bits, more than 8 bits a channel: convert it to 8-bit RGB")
    height, stored_width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    if stored_width != width or not rows <= height <= stored_rows or frame[5] != samples:
        said, needed = f"{stored_width}x{height}x{frame[5]}", f"{width}x{rows}x{samples}"
        raise damage(f"a strip or tile is a JPEG of {said} and not of {needed}")
    if samples == 3:
        _check_colours(data, is_ycbcr)
    # Without this marker libjpeg would guess the colours; no other that it guesses by is kept.
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([is_ycbcr])
    head = b"\xff\xd8" + adobe + tables + own
    stretches = _stretches(scan, _expected_stretches(tables + own, frame))
    if is_quick and len(stretches) == 2:
        # Where no marker says that the data ends, Pillow refuses data that ends before the pixels do.
        return _pixels(head + stretches[0] + _AHEAD)[:rows].reshape(rows, width, samples)
    pixels = _pixels(head + b"".join(stretches))
    # libjpeg makes up what is missing where data ends early; then it reads these bytes, which follow each stretch.
    if not np.array_equal(pixels, _pixels(head + _TRIAL.join(stretches))):
        raise damage("the data of a JPEG strip or tile ends before its pixels do")
    return pixels[:rows].reshape(rows, width, samples)


def _check_colours(data: bytes, is_ycbcr: bool) -> None:
    """Refuse a JPEG whose own markers (JFIF, Adobe's) say other colours than the TIFF does, as readers then differ."""
    place = 2
    while data[place + 1] != _SCAN:  # _markers has found one
        if data[place + 1] == 0xFF:
            place += 1
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        body = data[place + 4 : end]
        is_adobe = data[place + 1] == 0xEE and body[:5] == b"Adobe" and len(body) >= 12
        if (data[place + 1] == 0xE0 and body[:5] == b"JFIF\0" and not is_ycbcr) or (is_adobe and body[11] != is_ycbcr):
            raise NotTakenError(f"has strips or tiles whose JPEG says other colours than the TIFF does: {CONVERT}")
        place = end


def _pixels(data: bytes) -> np.ndarray:
    try:
        return pillow.read(data, "JPEG")
    except Exception as error:  # Pillow has errors of every kind for damage
        raise damage(f"a JPEG strip or tile cannot be decoded: {error}") from None


def _stretches(scan: bytes, expected: int) -> list[bytes]:
    """Part a scan behind each stretch of data: each begins with its marker, the last one is the end."""
    place = 2 + int.from_bytes(scan[2:4])
    begins = [0]
    for found in _MARKER.finditer(scan, place):
        begins.append(found.start())
        if len(begins) > expected + 2:
            break
        if not 0xD0 <= found[1][0] <= 0xD7:
            if found[1][0] == _SCAN or found[1][0] in (_HUFFMAN, _QUANTISATION, _RESTART):
                raise NotTakenError(f"has JPEG of several scans in its strips or tiles: {CONVERT}")
            if found[1][0] != _END:
                break
            numbers = [scan[begin + 1] - 0xD0 for begin in begins[1:-1]]
            # Some programs write a restart behind the last unit, too.
            if len(numbers) + 1 - expected not in (0, 1) or numbers != [number % 8 for number in range(len(numbers))]:
                break
            # Data does not end with FF, but fill does; what follows it in the trial would be taken for a marker.
            parts = [scan[a:b].rstrip(b"\xff") for a, b in itertools.pairwise(begins)]
            return [*parts, scan[found.start() : found.end()]]
    raise damage("the data of a JPEG strip or tile has no end, or parts of it are missing")


def _expected_stretches(kept: bytes, frame: bytes) -> int:
    """Count the stretches of data, which restart markers separate, that the frame's pixels take."""
    interval = next((int.from_bytes(body[:2]) for kind, body in _segments(kept) if kind == _RESTART), 0)
    factors = [(byte >> 4, byte & 15) for byte in frame[7::3]]
    if len(frame) != 6 + 3 * frame[5] or not all(1 <= factor <= 4 for pair in factors for factor in pair):
        raise damage("a JPEG strip or tile has a frame that describes no channels")
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    # Blocks of one channel alone are never grouped.
    across, down = ((max(column) if len(factors) > 1 else 1) * 8 for column in zip(*factors, strict=True))
    units = -(-width // across) * -(-height // down)
    return -(-units // interval) if interval else 1


def _markers(data: bytes) -> tuple[bytes, bytes]:
    """Split a JPEG into the tables and the frame that decoding needs, and all from the first scan on."""
    if data[:2] != b"\xff\xd8":
        raise damage("a JPEG strip or tile, or its tables, does not begin as one")
    kept, place = [], 2
    for _ in range(_MAX_MARKERS):
        if place + 1 >= len(data):
            break
        marker = data[place + 1]
        if data[place] != 0xFF:
            raise damage("a JPEG strip or tile has bytes where a marker belongs")
        if marker == 0xFF:  # a marker may have more than one
            place += 1
        elif marker == _END:
            break
        elif marker == _SCAN:
            return b"".join(kept), data[place:]
        else:
            if marker in _OTHER_FRAMES:
                kinds = "progressive, lossless or arithmetic JPEG"
                raise NotTakenError(f"has {kinds} in its strips or tiles: {CONVERT}")
            end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
            if end < place + 4 or end > len(data):
                raise damage("a JPEG strip or tile ends within a marker")
            if marker in (_HUFFMAN, _QUANTISATION, _RESTART, *_BASELINE):
                kept.append(data[place:end])
            place = end
    else:
        raise NotTakenError(f"has JPEG of more than {_MAX_MARKERS:,} markers in its strips or tiles: {CONVERT}")
    return b"".join(kept), b""


def _frame(kept: bytes) -> bytes:
    """Find the one frame header: its bits, height, width and channels."""
    frames = [body for kind, body in _segments(kept) if kind in _BASELINE]
    if len(frames) != 1 or len(frames[0]) < 6:
        raise damage("a JPEG strip or tile has no frame, or more than one")
    return frames[0]


def _segments(kept: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the content of what ``_markers`` kept."""
    place = 0
    while place < len(kept):
        end = place + 2 + int.from_bytes(kept[place + 2 : place + 4])
        yield kept[place + 1], kept[place + 4 : end]
        place = end
