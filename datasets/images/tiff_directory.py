"""A directory of a TIFF: what its tags say, each read within a bound and none that is not asked for."""

import struct
import threading
from typing import BinaryIO, NamedTuple

import numpy as np

from datasets.images.admission import NotTakenError

# What to do with a picture that is stored in another way than those that are read.
CONVERT = "convert it to 8-bit RGB, uncompressed or LZW"

# A picture's directory has 10 to 60 tags.
_MAX_TAGS = 4096
_MAX_TEXT = 16 * 2**20
_MAX_PAGES = 100

# How many bytes a value of each type takes, and how NumPy calls those types that are whole numbers.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_RATIONAL = 5


class DamagedError(NotTakenError):
    """A TIFF, or a part of one, that contradicts itself or ends too early."""


def damage(what: str) -> DamagedError:
    return DamagedError(f"is damaged or cut short ({what})")


class _Entry(NamedTuple):
    kind: int
    count: int
    place: int  # of the value in the file


class Directory:
    """A directory of a TIFF or BigTIFF of either byte order: the first, or the one at a place."""

    def __init__(self, file: BinaryIO, place: int | None = None, lock=None):
        self._file, self._lock = file, lock or threading.Lock()
        self.size = file.seek(0, 2)
        head = self.read(0, 16, at_least=8)
        self._order = "<" if head[:2] == b"II" else ">"
        self._is_big = self._unpack("H", head[2:4]) == 43
        if self._is_big and (len(head) < 16 or self._unpack("HH", head[4:8]) != (8, 0)):
            raise damage("its BigTIFF header is not complete")
        first = self._unpack("Q", head[8:]) if self._is_big else self._unpack("I", head[4:8])
        self.place = first if place is None else place
        self._entries, self.following = self._directory(self.place)  # 0 where there is no next one

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def at(self, place: int) -> "Directory":
        """Read another directory of the file; threads may then read bytes through both."""
        return Directory(self._file, place, self._lock)

    def read(self, start: int, size: int, at_least: int | None = None) -> bytes:
        """Read bytes of the file, all of them unless fewer are said to do. Several threads may read at once."""
        if start + (size if at_least is None else at_least) > self.size:
            raise damage("it refers to bytes beyond its end")
        with self._lock:
            self._file.seek(start)
            data = self._file.read(size)
        if len(data) < (size if at_least is None else at_least):
            raise damage("it ends while it is read")
        return data

    def count(self, tag: int) -> int:
        """How many values a tag has; 0 where it is not there."""
        return sum(entry.count for entry in self._entries.get(tag, ()))

    def number(self, tag: int, default: int | None = None) -> int | None:
        """Read the one whole number of a tag."""
        values = self.numbers(tag, 1)
        return default if values is None else int(values[0])

    def numbers(self, tag: int, at_most: int) -> np.ndarray | None:
        """Read a tag's whole numbers as int64, at least one; None where it is not there."""
        entry = self._entry(tag)
        if entry is None:
            return None
        if entry.kind not in _WHOLE or not 1 <= entry.count <= at_most:
            raise damage(f"tag {tag} has {entry.count:,} values of type {entry.kind}")
        data = self.read(entry.place, entry.count * _SIZES[entry.kind])
        values = np.frombuffer(data, self._order + _WHOLE[entry.kind])
        if values.max() >= 2**62:
            raise damage(f"tag {tag} says {values.max():,}")
        return values.astype(np.int64)

    def fractions(self, tag: int, at_most: int) -> np.ndarray | None:
        """Read a tag's rational numbers as float64, a division by nothing as NaN; None where it is not there."""
        entry = self._entry(tag)
        if entry is None:
            return None
        if entry.kind != _RATIONAL or not 1 <= entry.count <= at_most:
            raise damage(f"tag {tag} has {entry.count:,} values of type {entry.kind}")
        pairs = np.frombuffer(self.read(entry.place, entry.count * 8), self._order + "u4").reshape(-1, 2)
        return np.where(pairs[:, 1] == 0, np.nan, pairs[:, 0] / np.maximum(pairs[:, 1], 1))

    def texts(self, tag: int) -> list[bytes]:
        """Read every text, or other bytes, that bears a tag."""
        entries = self._entries.get(tag, ())
        sizes = [entry.count * _SIZES.get(entry.kind, 1) for entry in entries]
        if sum(sizes) > _MAX_TEXT:
            raise NotTakenError(f"has {sum(sizes):,} bytes in tag {tag}; at most {_MAX_TEXT:,} are taken there")
        return [self.read(entry.place, size) for entry, size in zip(entries, sizes, strict=True)]

    def pages(self) -> int:
        """Count the directories, no further than is needed to say that there are too many."""
        seen, place = {self.place}, self.following
        while place and len(seen) <= _MAX_PAGES:
            if place in seen:
                raise NotTakenError("has pages without end, as they point to each other in a circle: save it again")
            seen.add(place)
            start, number, step, _, offset = self._shape(place)
            place = self._unpack(offset, self.read(start + number * step, struct.calcsize("=" + offset)))
        return len(seen)

    def _entry(self, tag: int) -> _Entry | None:
        entries = self._entries.get(tag)
        if entries and len(entries) > 1:
            raise damage(f"tag {tag} is there {len(entries)} times")
        return entries[0] if entries else None

    def _shape(self, place: int) -> tuple[int, int, int, str, str]:
        """Read how many entries the directory at a place has; say where they begin, how long and of what each is."""
        counter, entry, offset = ("Q", "HHQQ", "Q") if self._is_big else ("H", "HHII", "I")
        start = place + struct.calcsize("=" + counter)
        number = self._unpack(counter, self.read(place, start - place))
        if not 1 <= number <= _MAX_TAGS:
            raise damage(f"a directory has {number:,} tags")
        return start, number, struct.calcsize("=" + entry), entry, offset

    def _directory(self, place: int) -> tuple[dict[int, list[_Entry]], int]:
        """Read the entries of the directory at a place, and where the next one is."""
        start, number, step, entry, offset = self._shape(place)
        tail = struct.calcsize("=" + offset)
        data = self.read(start, number * step + tail)
        entries = {}
        for index in range(number):
            tag, kind, count, value = struct.unpack_from(self._order + entry, data, index * step)
            # A value of up to four or eight bytes stands where the address of a longer one does.
            is_inside = count * _SIZES.get(kind, 1) <= tail
            where = start + (index + 1) * step - tail if is_inside else value
            entries.setdefault(tag, []).append(_Entry(kind, count, where))
        return entries, self._unpack(offset, data[number * step :])

    def _unpack(self, layout: str, data: bytes):
        values = struct.unpack(self._order + layout, data)
        return values if len(values) > 1 else values[0]
