"""The strips and tiles of a TIFF, read one after the other and unpacked to rows of bytes."""

import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from datasets.apart import pool
from datasets.images import tiff_jpeg
from datasets.images.admission import NotTakenError
from datasets.images.tiff_directory import CONVERT, Directory, damage

RAW, LZW, JPEG, DEFLATE, PACKBITS, OLD_DEFLATE = 1, 5, 7, 8, 32773, 32946
COMPRESSIONS = (RAW, LZW, JPEG, DEFLATE, PACKBITS, OLD_DEFLATE)

# So many bytes of pixels are unpacked at a time, unless one strip has more.
_AT_A_TIME = 32 * 2**20

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Segments:
    """The strips or tiles of one plane, in their order."""

    directory: Directory  # what they are read from
    compression: int  # one of COMPRESSIONS
    is_reversed: bool  # whether the bits of each byte are in reverse order (FillOrder 2)
    row_bytes: int  # of one row of a segment, unpacked
    heights: np.ndarray  # rows of each segment
    full_height: int  # rows that the last strip, too, may be stored with
    offsets: np.ndarray  # where each begins
    counts: np.ndarray  # stored bytes of each
    samples: int  # channels of a pixel
    is_ycbcr: bool  # whether JPEG segments hold YCbCr, and not RGB
    tables: bytes  # those that JPEG segments share
    is_quick: bool = False  # as tiff_jpeg.decode says

    def unpack(self) -> np.ndarray:
        """Unpack all to uint8 [rows, row_bytes], one segment below the other."""
        rows = np.empty((int(self.heights.sum()), self.row_bytes), np.uint8)
        start = 0
        for part in self._parts():
            rows[start : start + len(part)] = part
            start += len(part)
        return rows

    def _parts(self) -> Iterator[np.ndarray]:
        if self.compression in (LZW, PACKBITS):
            yield from self._by_libtiff()
            return
        one = {RAW: self._raw, JPEG: self._jpeg}.get(self.compression, self._inflated)
        for index in range(len(self.offsets)):
            yield one(index)

    def _stored(self, index: int, at_most: int | None = None) -> bytes:
        size = int(self.counts[index])
        data = self.directory.read(int(self.offsets[index]), size if at_most is None else min(size, at_most))
        return data.translate(_REVERSED) if self.is_reversed else data

    def _raw(self, index: int) -> np.ndarray:
        needed = int(self.heights[index]) * self.row_bytes
        data = self._stored(index, at_most=needed)
        if len(data) < needed:
            raise damage(f"a strip or tile has {len(data):,} bytes where its pixels need {needed:,}")
        return np.frombuffer(data, np.uint8).reshape(-1, self.row_bytes)

    def _inflated(self, index: int) -> np.ndarray:
        needed, full = (int(height) * self.row_bytes for height in (self.heights[index], self.full_height))
        stream = zlib.decompressobj()
        try:
            data = stream.decompress(self._stored(index), full)
            # The checksum is looked at only when the stream's end is read.
            beyond = b"" if stream.eof else stream.decompress(stream.unconsumed_tail, 1)
        except zlib.error as error:
            raise damage(f"a strip or tile cannot be inflated: {error}") from None
        if beyond or not stream.eof or len(data) < needed:
            raise damage("a strip or tile does not inflate to what its pixels need")
        return np.frombuffer(data, np.uint8, needed).reshape(-1, self.row_bytes)

    def _jpeg(self, index: int) -> np.ndarray:
        size = self.row_bytes // self.samples, int(self.heights[index]), self.full_height
        pixels = tiff_jpeg.decode(self._stored(index), self.tables, size, self.samples, self.is_ycbcr, self.is_quick)
        return pixels.reshape(-1, self.row_bytes)

    def _by_libtiff(self) -> Iterator[np.ndarray]:
        """Unpack through libtiff, in a process apart, from a new TIFF that is written around the segments.

        It has nothing but what unpacking needs, so that none of the file's other tags can mislead or cost, and calls
        each byte a grey pixel, so that libtiff does nothing to them.
        """
        until = time.monotonic() + pool.SHARED.seconds  # for all of them
        group = max(1, _AT_A_TIME // (self.full_height * self.row_bytes))
        for start in range(0, len(self.offsets), group):
            indices = range(start, min(start + group, len(self.offsets)))
            pieces = [self._stored(index) for index in indices]
            # libtiff recognises them by these bits, too.
            if self.compression == LZW and any(len(piece) > 1 and piece[0] == 0 and piece[1] & 1 for piece in pieces):
                raise NotTakenError(f"is compressed by LZW as it was before TIFF 5, which is not read here: {CONVERT}")
            heights = self.heights[start : indices.stop]
            data = _around(pieces, self.compression, self.row_bytes, heights)
            yield _unpacked(data, int(heights.sum()), self.row_bytes, until)


def _around(pieces: list[bytes], compression: int, width: int, heights: np.ndarray) -> bytes:
    """Write a TIFF of one grey picture whose strips these are."""
    number, height = len(pieces), int(heights.sum())
    sizes = np.array([len(piece) for piece in pieces])
    head, entry, count = 8, 12, 9
    tables = head + 2 + count * entry + 4
    start = tables + 8 * number
    places = start + np.cumsum(sizes) - sizes
    where = (tables, tables + 4 * number) if number > 1 else (start, int(sizes[0]))
    entries = (
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1),
        (273, 4, number, where[0]), (277, 3, 1, 1), (278, 4, 1, int(heights[0])), (279, 4, number, where[1]),
    )  # fmt: skip
    return b"".join(
        (
            b"II*\0" + struct.pack("<IH", head, count),
            *(struct.pack("<HHII", *values) for values in entries),
            bytes(4),
            places.astype("<u4").tobytes(),
            sizes.astype("<u4").tobytes(),
            *pieces,
        )
    )


def _unpacked(data: bytes, height: int, width: int, until: float) -> np.ndarray:
    """Have libtiff decode such a TIFF to uint8 [height, width]."""
    try:
        _, rows = pool.SHARED.ask("tiff", data, exactly=width * height, until=until)
    except pool.RefusedError as error:
        raise damage(f"a strip or tile cannot be unpacked: {error}") from None
    return np.frombuffer(rows, np.uint8).reshape(height, width)
