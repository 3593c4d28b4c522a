"""Which names of a long list were there before, found on the disk: the memory does not grow with the list."""

import hashlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

# Names are told apart by so many bytes of a hash: two of ten million that differ share one with a chance of 1e-25.
BYTES = 16
# So many names are sorted at a time.
AT_ONCE = 2**20

_KEY = np.dtype([("high", "<u8"), ("low", "<u8")])


def key_of(name: bytes) -> bytes:
    return hashlib.blake2b(name, digest_size=BYTES).digest()


def find_doubles(keys: Path, count: int, at_once: int = AT_ONCE) -> np.ndarray:
    """Return the places, in order, of names that are in the list before; ``keys`` holds ``key_of`` each, as they come.

    The file is read once for each share of the keys, by their values, that is sorted at a time.
    """
    shares = -(-count // at_once)
    found = []
    with keys.open("rb") as file:
        for share in range(shares):
            high, low, places = _share(file, share, shares, at_once)
            order = np.lexsort((places, low, high))
            again = (np.diff(high[order]) == 0) & (np.diff(low[order]) == 0)
            found.append(places[order][1:][again])
    return np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)


def _share(file: BinaryIO, share: int, shares: int, at_once: int) -> tuple[np.ndarray, ...]:
    """Return the keys of one share, in two halves, and their places."""
    file.seek(0)
    start, parts = 0, []
    while data := file.read(at_once * BYTES):
        block = np.frombuffer(data, _KEY)
        inside = np.flatnonzero(block["high"] % shares == share)
        parts.append((block["high"][inside], block["low"][inside], inside + start))
        start += len(block)
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))
