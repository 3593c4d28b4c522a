"""PNG files.

The chunks are looked through and only those that make the picture are read, so that profiles and texts of any size
do no harm; ``bach_keras.decoding.png`` does the same inside an exported model, so both answer alike.
"""

import contextlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from datasets.images import pillow
from datasets.images.admission import NotTakenError, check_size
from datasets.images.compositing import on_white

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\0\0\0\0IEND\xaeB`\x82"

# Chunks alike in kind and length count once; each other costs a step.
MAX_CHUNKS = 4096

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), PALETTE: (1, 2, 4, 8), **dict.fromkeys((RGB, GREY_ALPHA, RGB_ALPHA), (8, 16))}

_UP = 2  # the filter of a row: each byte less the one above it

# Bytes that libpng inflates at once, and the room for what comes behind the last row.
_PIECE, _ROOM = 4096, 1024

# The seven passes of Adam7: where each begins, and its steps; and the one pass of other images.
_PASSES = {
    0: ((0, 0, 1, 1),),
    1: ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
}


def decode(data: bytes) -> np.ndarray:
    """Decode one PNG to uint8 RGB [H, W, 3], on white where it is transparent."""
    if not data.startswith(SIGNATURE):
        raise NotTakenError("is damaged: its first bytes are not a PNG's, as after a copy that took it for text")
    chunks = _read(data)
    samples = _samples(chunks)
    if chunks.colours in (GREY_ALPHA, RGB_ALPHA):
        return on_white(np.broadcast_to(samples[..., :-1], (*samples.shape[:2], 3)), samples[..., -1])
    if chunks.colours == RGB:
        # Values of 8 bits stand in 16.
        is_key = (
            (samples == np.frombuffer(chunks.transparency[1::2], np.uint8)).all(-1) if chunks.transparency else False
        )
        return on_white(samples, np.where(is_key, np.uint8(0), np.uint8(255)))
    return _palette(chunks).take(samples, axis=0)


def read_size(file: BinaryIO) -> tuple[int, int]:
    """Read the width and height that a PNG's header says, and refuse what it shows to be no picture of 8 bits."""
    file.seek(0)
    head = file.read(len(SIGNATURE) + 8 + 13)
    if not head.startswith(SIGNATURE) or len(head) < len(SIGNATURE) + 8 + 13:
        raise NotTakenError("is damaged or cut short: its first bytes are not a PNG's")
    chunks = _Chunks()
    chunks.set_header(head[-13:])
    return chunks.width, chunks.height


def encode(pixels: np.ndarray) -> bytes:
    """Encode uint8 RGB [H, W, 3] in a third of the time of Pillow's fastest PNG of a photograph, and about as small.

    Each row is stored as its difference from the one above. The differences of a photograph hardly repeat, so nothing
    but runs is looked for before they get their Huffman codes.
    """
    height, width, _ = pixels.shape
    samples = pixels.reshape(height, -1)
    rows = np.empty((height, 1 + samples.shape[1]), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = samples[0]
    np.subtract(samples[1:], samples[:-1], out=rows[1:, 1:])
    stream = zlib.compressobj(1, strategy=zlib.Z_RLE, memLevel=9)
    header = np.array([width, height], ">u4").tobytes() + bytes((8, RGB, 0, 0, 0))
    return _file([(b"IHDR", header), (b"IDAT", stream.compress(rows) + stream.flush())])


def _file(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join([SIGNATURE, *(part for chunk in chunks for part in _chunk(*chunk)), END])


def _chunk(kind: bytes, body: bytes) -> tuple[bytes, ...]:
    return len(body).to_bytes(4, "big"), kind, body, zlib.crc32(body, zlib.crc32(kind)).to_bytes(4, "big")


@dataclass
class _Chunks:
    """What the chunks of a file say of its one picture."""

    width: int = 0
    height: int = 0
    depth: int = 0
    colours: int = -1
    interlace: int = 0
    palette: bytes = b""
    transparency: bytes = b""
    pixels: list = field(default_factory=list)

    def set_header(self, body: bytes) -> None:
        """Take over IHDR."""
        self.width, self.height = (int.from_bytes(body[at : at + 4], "big") for at in (0, 4))
        self.depth, self.colours, compression, filters, self.interlace = body[8:13]
        if self.depth not in DEPTHS.get(self.colours, ()) or compression or filters or self.interlace > 1:
            raise NotTakenError("is damaged: its header does not describe a PNG")
        if self.depth == 16:
            raise NotTakenError("has more than 8 bits a channel: convert it to 8-bit RGB")
        check_size(self.width, self.height)


def _read(data: bytes) -> _Chunks:
    found, place, runs, last = _Chunks(), len(SIGNATURE), 0, b""
    while True:
        head = data[place : place + 8]
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or place + length + 12 > len(data):
            raise NotTakenError("is cut short: a PNG's last chunk is missing")
        runs += head != last
        if not (kind.isalpha() and kind.isascii()) or bool(last) == (kind == b"IHDR" and length == 13):
            raise NotTakenError("is damaged: its chunks are not in the order of a PNG")
        if runs > MAX_CHUNKS:
            raise NotTakenError(f"has more than {MAX_CHUNKS} chunks of different kinds and lengths")
        body = memoryview(data)[place + 8 : place + 8 + length]
        if kind == b"IEND":
            if data[place : place + 12] != END or not found.pixels:
                raise NotTakenError("is damaged: its end is not that of a PNG")
            wanted = {GREY: (2,), RGB: (6,), PALETTE: range(1, len(found.palette) // 3 + 1)}.get(found.colours, ())
            if found.transparency and len(found.transparency) not in wanted:
                raise NotTakenError("is damaged: its transparency does not fit its colours")
            return found
        is_read = _take(found, kind, body, is_next=last[4:] == b"IDAT")
        last, place = head, place + length + 12
        if is_read and zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(data[place - 4 : place], "big"):
            raise NotTakenError(f"is damaged: the checksum of a chunk {kind.decode()} is wrong")


def _take(found: _Chunks, kind: bytes, body: memoryview, is_next: bool) -> bool:
    """Keep what a chunk says; return whether it is one that is read."""
    has_no_alpha = found.colours in (GREY, RGB, PALETTE)
    if kind == b"IHDR":
        found.set_header(bytes(body))
    elif kind == b"PLTE" and found.colours == PALETTE:
        if found.palette or found.pixels or len(body) % 3 or not 3 <= len(body) <= 3 << found.depth:
            raise NotTakenError("is damaged: its palette does not fit its header")
        found.palette = bytes(body)
    elif kind == b"tRNS" and len(body) and has_no_alpha and not found.transparency and not found.pixels:
        found.transparency = bytes(body)
    elif kind == b"IDAT":
        if (found.pixels and not is_next) or (found.colours == PALETTE and not found.palette):
            raise NotTakenError("is damaged: its chunks are not in the order of a PNG")
        found.pixels.append(body)
    # An animation is announced before its first picture, or is none.
    elif kind == b"fdAT" or (kind == b"acTL" and not found.pixels and body[:4] != b"\0\0\0\1"):
        raise NotTakenError("is an animation: save the picture that is meant as its own file")
    else:
        if kind[:1].isupper() and kind != b"PLTE":
            raise NotTakenError(f"has a chunk {kind.decode()}, which an ordinary PNG has not: save it as one")
        return False
    return True


def _samples(chunks: _Chunks) -> np.ndarray:
    """Decode to uint8 [H, W, channels], or [H, W] of what grey and palette images hold."""
    is_listed = chunks.colours in (GREY, PALETTE)
    colours = PALETTE if is_listed else chunks.colours
    header = np.array([chunks.width, chunks.height], ">u4").tobytes()
    header += bytes((chunks.depth, colours, 0, 0, chunks.interlace))
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(_inflate(chunks), 0))]
    if is_listed:
        parts.insert(1, (b"PLTE", bytes(3 << chunks.depth)))
    return pillow.decode(_file(parts), "PNG", mode=None)


def _inflate(chunks: _Chunks) -> bytes:
    """Inflate the filtered rows; what follows them is as free as libpng leaves it."""
    bits = CHANNELS[chunks.colours] * chunks.depth
    size = 0
    for left, top, across, down in _PASSES[chunks.interlace]:
        columns, rows = -(-(chunks.width - left) // across), -(-(chunks.height - top) // down)
        size += rows * (1 + (columns * bits + 7) // 8) if columns > 0 else 0
    stream = zlib.decompressobj(0)
    with contextlib.suppress(zlib.error):
        rows = stream.decompress(b"".join(chunks.pixels), size)
        if stream.eof and len(rows) == size:
            return rows
    # What is left is damaged, or has more than its rows: libpng's steps decide.
    stream, rows = zlib.decompressobj(0), bytearray()
    pieces = (part[at : at + _PIECE] for part in chunks.pixels for at in range(0, len(part), _PIECE))
    try:
        for piece in pieces:
            rows += stream.decompress(piece, size - len(rows))
            if len(rows) == size or stream.eof:
                break
    except zlib.error as error:
        raise NotTakenError(f"is damaged ({error})") from None
    if len(rows) < size:
        raise NotTakenError("is damaged or cut short: pixels are missing")
    if not _ends(stream, pieces):
        raise NotTakenError("is damaged or cut short: the end of its pixels is missing")
    return bytes(rows)


def _ends(stream, pieces: Iterator) -> bool:
    """Say whether libpng accepts what follows all rows: an end, a fault, or a piece that inflates to nothing."""
    has_more = False
    try:
        for piece in filter(None, [stream.unconsumed_tail, *pieces]):
            rest = piece
            while rest and not stream.eof:
                has_more = bool(stream.decompress(rest, _ROOM)) or has_more
                rest = stream.unconsumed_tail
            if stream.eof or not has_more:
                return True
    except zlib.error:
        return True
    return stream.eof


def _palette(chunks: _Chunks) -> np.ndarray:
    """Return the colours, uint8 [256, 3], of what grey and palette images hold."""
    alpha = np.full(256, 255, np.uint8)
    if chunks.colours == GREY:
        most = (1 << chunks.depth) - 1
        colours = np.repeat((np.arange(256) % (most + 1) * (255 // most)).astype(np.uint8)[:, None], 3, axis=1)
        if chunks.transparency:
            alpha[chunks.transparency[1] & most] = 0
    else:
        colours = np.zeros((256, 3), np.uint8)
        listed = np.frombuffer(chunks.palette, np.uint8).reshape(-1, 3)
        colours[: len(listed)] = listed
        alpha[: len(chunks.transparency)] = np.frombuffer(chunks.transparency, np.uint8)
    return on_white(colours, alpha)
