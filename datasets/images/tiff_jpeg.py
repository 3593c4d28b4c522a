"""The strips and tiles of a TIFF that are JPEG files without their tables."""

import io

import numpy as np
from PIL import Image

from datasets.images.admission import NotTakenError
from datasets.images.tiff_directory import Directory, damage

# The tag of the tables that all strips or tiles share, and the bytes that they may have.
_TABLES, _MAX_TABLES = 347, 2**16

_START, _END, _SCAN, _HUFFMAN, _QUANTISATION, _RESTART = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD
_BASELINE = (0xC0, 0xC1)
_OTHER_FRAMES = (0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)


def read_tables(directory: Directory) -> bytes:
    """Read the tables that all strips or tiles share; b"" where there are none."""
    tables = directory.texts(_TABLES)
    if len(tables) > 1 or sum(map(len, tables)) > _MAX_TABLES:
        raise damage("its JPEG tables are larger than any")
    return b"".join(tables)


def decode(data: bytes, tables: bytes, size: tuple[int, int, int], samples: int, is_ycbcr: bool) -> np.ndarray:
    """Decode one strip or tile to uint8 [height, width, samples].

    Args:
        data: its bytes.
        tables: those that all share; may be empty.
        size: its width, its rows, and the rows that it may be stored with.
        samples: 1 or 3.
        is_ycbcr: whether it holds YCbCr, and not RGB.

    Raises:
        NotTakenError: it is damaged, of another size, or no baseline JPEG of 8 bits.
    """
    width, rows, stored_rows = size
    kept, _ = _markers(tables) if tables else (b"", b"")
    own, scan = _markers(data)
    frame = _frame(own)
    if frame[0] != 8:
        raise NotTakenError(f"has JPEG of {frame[0]} bits, more than 8 bits a channel: convert it to 8-bit RGB")
    height, stored_width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    if stored_width != width or not rows <= height <= stored_rows or frame[5] != samples:
        raise damage(
            f"a strip or tile is a JPEG of {stored_width}x{height}x{frame[5]} and not of {width}x{rows}x{samples}"
        )
    if not scan or b"\xff\xd9" not in scan:
        raise damage("a JPEG strip or tile has no end")
    if scan.count(b"\xff\xda") > samples:
        raise damage("a JPEG strip or tile has more scans than channels")
    # Without this marker libjpeg would guess the colours; no other marker that it guesses by is kept.
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([is_ycbcr])
    try:
        with Image.open(io.BytesIO(b"\xff\xd8" + adobe + kept + own + scan), formats=["JPEG"]) as image:
            return np.asarray(image)[:rows].reshape(rows, width, samples)
    except Exception as error:  # Pillow has errors of every kind for damage
        raise damage(f"a JPEG strip or tile cannot be decoded: {error}") from None


def _markers(data: bytes) -> tuple[bytes, bytes]:
    """Part a JPEG into the tables and the frame that decoding needs, and all from the first scan on."""
    if data[:2] != b"\xff\xd8":
        raise damage("a JPEG strip or tile, or its tables, does not begin as one")
    kept, place = [], 2
    while place + 1 < len(data):
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
                raise NotTakenError(
                    "has progressive, lossless or arithmetic JPEG in its strips or tiles: "
                    "convert it to 8-bit RGB, uncompressed or LZW"
                )
            end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
            if end < place + 4 or end > len(data):
                raise damage("a JPEG strip or tile ends within a marker")
            if marker in (_HUFFMAN, _QUANTISATION, _RESTART, *_BASELINE):
                kept.append(data[place:end])
            place = end
    return b"".join(kept), b""


def _frame(kept: bytes) -> bytes:
    """Find the one frame header among markers: its bits, height, width and channels."""
    frames, place = [], 0
    while place < len(kept):
        end = place + 2 + int.from_bytes(kept[place + 2 : place + 4])
        if kept[place + 1] in _BASELINE:
            frames.append(kept[place + 4 : end])
        place = end
    if len(frames) != 1 or len(frames[0]) < 6:
        raise damage("a JPEG strip or tile has no frame, or more than one")
    return frames[0]
