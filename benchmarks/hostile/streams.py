"""Deflate streams of very many zero bytes, written without compressing that many."""

import struct
import zlib

_PIECE = 2**20
_LAST = b"\3\0"  # an empty last block


def zeros(count: int) -> bytes:
    """Return a zlib stream of so many zeros."""
    checksum = (count % 65_521) << 16 | 1
    return b"\x78\x9c" + bare_zeros(count) + struct.pack(">I", checksum)


def bare_zeros(count: int) -> bytes:
    """Return so many zeros as a zip archive holds them, without zlib's head and checksum."""
    return _flushed(_PIECE) * (count // _PIECE) + _flushed(count % _PIECE) + _LAST


def _flushed(count: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(count)) + packer.flush(zlib.Z_FULL_FLUSH)
