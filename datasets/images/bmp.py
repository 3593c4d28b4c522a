"""BMP files.

The format is plain enough to be read here and in ``bach_keras.decoding.bmp`` alike; the readers that there are disagree
on masks, directions and palettes.
"""

from typing import BinaryIO

import numpy as np

from datasets.images.admission import NotTakenError, check_size

# Windows' headers 3 to 5, the two between them, and OS/2's second: alike in what is read.
HEADERS = (40, 52, 56, 64, 108, 124)
PALETTES = (1, 4, 8)
_PLAIN, _MASKED = 0, 3

# How 32 bits are laid out where masks say that they are as without.
MASKS = (0xFF0000, 0xFF00, 0xFF)

_COMPRESSIONS = {1: "RLE", 2: "RLE", 4: "JPEG or RLE", 5: "an embedded PNG"}


def read_size(file: BinaryIO) -> tuple[int, int]:
    """Read the width and height that a BMP's header says, and refuse what it shows not to be read."""
    file.seek(0)
    _, _, width, height = _header(file.read(128))
    return width, abs(height)


def decode(data: bytes) -> np.ndarray:
    """Decode one BMP of 1, 4, 8, 24 or 32 bits to uint8 RGB [H, W, 3]; the fourth byte of a pixel says nothing."""
    offset, header, width, height = _header(data)
    bits, compression, listed = _number(data, 28, 2), _number(data, 30), _number(data, 46)
    colours = _palette(data, header, bits, listed) if bits in PALETTES else None
    begin = 66 if compression == _MASKED and header == 40 else 14 + header
    begin += 4 * len(colours) if colours is not None else 0
    stride = (width * bits + 31) // 32 * 4
    if offset < begin:
        raise NotTakenError("is damaged: its pixels lie in its header")
    if offset + stride * abs(height) > len(data):
        raise NotTakenError("is cut short: pixels are missing")
    rows = np.frombuffer(data, np.uint8, stride * abs(height), offset).reshape(abs(height), stride)
    if height > 0:  # the last row comes first, unless the height is negative
        rows = rows[::-1]
    return np.ascontiguousarray(_unpack(rows, width, bits, colours))


def _header(data: bytes) -> tuple[int, int, int, int]:
    """Return where the pixels begin, the header's bytes, the width, and the height, negative from the top downwards."""
    if len(data) < 54:
        raise NotTakenError("is cut short: a BMP's header is missing")
    offset, header, width, height = (_number(data, at) for at in (10, 14, 18, 22))
    width, height = width - ((width >> 31) << 32), height - ((height >> 31) << 32)
    if header not in HEADERS:
        raise NotTakenError(f"is a BMP with a header of {header} bytes (OS/2's has 12), not read here: save it as PNG")
    check_size(width, abs(height))
    _check_layout(data, header, _number(data, 28, 2), _number(data, 30))
    if _number(data, 26, 2) != 1:
        raise NotTakenError("is damaged: a BMP has one plane")
    return offset, header, width, height


def _number(data: bytes, place: int, size: int = 4) -> int:
    return int.from_bytes(data[place : place + size], "little")


def _check_layout(data: bytes, header: int, bits: int, compression: int):
    if compression in _COMPRESSIONS:
        raise NotTakenError(f"is a BMP compressed as {_COMPRESSIONS[compression]}: save it as PNG")
    is_plain = compression == _PLAIN and bits in (*PALETTES, 24, 32)
    if not is_plain and (compression != _MASKED or bits != 32 or header == 64):
        raise NotTakenError(f"is a BMP of {bits} bits in layout {compression}, which is not read: save it as PNG")
    if compression == _MASKED:
        alpha = _number(data, 66) if header >= 56 else 0
        if tuple(_number(data, at) for at in (54, 58, 62)) != MASKS or alpha:
            raise NotTakenError("is a BMP with its channels in another order, or with alpha: save it as PNG")


def _palette(data: bytes, header: int, bits: int, listed: int) -> np.ndarray:
    count = listed or 1 << bits
    raw = data[14 + header : 14 + header + 4 * count] if count <= 256 else b""
    if not raw or len(raw) != 4 * count:
        raise NotTakenError("is damaged or cut short: its palette is not complete")
    return np.frombuffer(raw, np.uint8).reshape(count, 4)[:, 2::-1]


def _unpack(rows: np.ndarray, width: int, bits: int, colours: np.ndarray | None) -> np.ndarray:
    if colours is None:
        return rows[:, : width * bits // 8].reshape(len(rows), width, bits // 8)[..., 2::-1]
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    indices = (rows[..., None] >> shifts & ((1 << bits) - 1)).reshape(len(rows), -1)[:, :width]
    if indices.max() >= len(colours):
        raise NotTakenError("is damaged: it uses colours that its palette lacks")
    return colours.take(indices, axis=0)
