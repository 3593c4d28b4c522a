"""JPEG files.

The bytes are looked through before libjpeg sees them, as it only warns of a scan that ends early and takes any number
of scans; ``bach_keras.decoding.jpeg`` does the same inside an exported model, so both answer alike.
"""

import itertools
import re
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from datasets.images import pillow
from datasets.images.admission import MAX_PIXELS, NotTakenError, check_size
from datasets.images.metadata import jpeg_segments

# Encoders write ten scans, the most careful ones a few dozen; each costs a pass over all pixels, however empty it is.
MAX_SCANS = 100
MAX_SCANNED = 20 * MAX_PIXELS

# A colour profile has at most 255; each costs a step.
MAX_SEGMENTS = 4096

# More FF with another byte behind them than any image can have restart markers.
MAX_MARKS = 4_000_000

# Follows each stretch of a scan's data in a trial: where the data is complete, nobody reads it. It begins with a data
# byte of ones, as libjpeg itself continues with zeros, and so that it may follow fill.
SENTINEL = b"\xff\x00" + bytes.fromhex("3c965aa5") * 8

# Frames that are decoded, and why others are not.
BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2
_OTHER_FRAMES = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "is a lossless JPEG"),
    **dict.fromkeys((0xC9, 0xCA, 0xCD, 0xCE), "is a JPEG with arithmetic coding"),
    **dict.fromkeys((0xC5, 0xC6), "is a hierarchical JPEG"),
}
_DHT, _SOI, _EOI, _SOS, _DQT, _DRI = 0xC4, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD
_RESTARTS = range(0xD0, 0xD8)
_BARE = (0x01, *_RESTARTS)  # markers without a length
_TABLES = (_DHT, 0xCC, _DQT, _DRI)
_PASSED_OVER = (0xDC, 0xFE, *range(0xE0, 0xF0))  # DNL, comments, applications

# Data has no marker but those behind FF; a zero there is stuffing, and more FF are fill.
_MARKER = re.compile(rb"\xff([^\x00\xff])")


def decode(data: bytes) -> np.ndarray:
    """Decode one JPEG to uint8 RGB [H, W, 3]: of more pictures in the file, the first."""
    _check_marks(data)
    reader = _Reader(data)
    pieces = reader.pieces()
    pixels, tried = (pillow.decode(separator.join(pieces), "JPEG") for separator in (b"", SENTINEL))
    # The last row is left out where others are of the same blocks: a graph's trial is quiet only without it.
    last = reader.height - 1
    compared = last if last % 8 else reader.height
    if not np.array_equal(pixels[:compared], tried[:compared]):
        raise NotTakenError("is cut short: the data of a scan ends before its pixels do")
    return pixels


def read_size(file: BinaryIO) -> tuple[int, int]:
    """Read the width and height that a JPEG's frame says, and refuse what it shows not to be read."""
    for marker, payload in jpeg_segments(file, (BASELINE, EXTENDED, PROGRESSIVE, *_OTHER_FRAMES)):
        reader = _Reader(b"")
        reader.take_frame(marker, payload)
        return reader.width, reader.height
    raise NotTakenError("is damaged or cut short: it does not say its size")


def _check_marks(data: bytes) -> None:
    """Refuse what would fill the memory of a graph, which lists all markers at once."""
    if len(data) > 2 * MAX_MARKS:
        values = np.frombuffer(data, np.uint8)
        marks = (values[:-1] == 0xFF) & (values[1:] != 0) & (values[1:] != 0xFF)
        if np.count_nonzero(marks) > MAX_MARKS:
            raise NotTakenError(f"has more than {MAX_MARKS:,} markers")


def _check_kind(marker: int) -> None:
    if marker in _OTHER_FRAMES:
        raise NotTakenError(f"{_OTHER_FRAMES[marker]}: save it as an ordinary one, or as PNG")


@dataclass
class _Reader:
    """One walk through the segments of a file."""

    data: bytes
    kind: int = 0  # of the frame; 0 before it
    height: int = 0
    width: int = 0
    ids: bytes = b""
    sampling: list = field(default_factory=list)  # across and down, of each channel
    interval: int = 0
    scans: int = 0
    kept: list = field(default_factory=lambda: [b"\xff\xd8"])
    bits: dict = field(default_factory=dict)

    def pieces(self) -> list[bytes]:
        """Return the file as libjpeg needs it, split after each stretch of a scan's data."""
        stretches, place = [], 2
        for _ in range(MAX_SEGMENTS):
            found = _MARKER.search(self.data, place)
            if not found:
                raise NotTakenError("is cut short: a JPEG's end is missing")
            marker, place = found[1][0], found.end()
            if marker in _BARE:
                continue
            if marker == _EOI:
                if not self.scans or any(np.any(bits) for bits in self.bits.values()):
                    raise NotTakenError("is cut short: scans of it are missing")
                return [*stretches, b"".join(self.kept) + b"\xff\xd9"]
            payload = self._payload(marker, place)
            place += 2 + len(payload)
            if marker == _SOS:
                self._check_scan(payload)
                marks, end = self._restarts(place, payload)
                bounds = [place, *marks, end]
                parts = [self.data[a:b] for a, b in itertools.pairwise(bounds)]
                stretches += [b"".join(self.kept) + parts[0], *parts[1:]]
                self.kept, place = [], end
        raise NotTakenError(f"has more than {MAX_SEGMENTS} segments")

    def _payload(self, marker: int, place: int) -> bytes:
        length = int.from_bytes(self.data[place : place + 2], "big")
        payload = self.data[place + 2 : place + length]
        _check_kind(marker)
        if marker not in (BASELINE, EXTENDED, PROGRESSIVE, _SOS, *_TABLES, *_PASSED_OVER):
            raise NotTakenError(f"is damaged: a JPEG has no marker FF{marker:02X} there")
        if length < 2 or len(payload) != length - 2:
            raise NotTakenError("is damaged or cut short: a segment is longer than the file")
        if marker in (BASELINE, EXTENDED, PROGRESSIVE):
            self.take_frame(marker, payload)
        elif marker == _DRI:
            if len(payload) != 2:
                raise NotTakenError("is damaged: its restart interval is not a number")
            self.interval = int.from_bytes(payload, "big")
        # libjpeg reads no others, and these only where they are long enough.
        says_colours = (marker == 0xE0 and len(payload) >= 14) or (marker == 0xEE and len(payload) >= 12)
        if marker not in _PASSED_OVER or says_colours:
            self.kept.append(bytes((0xFF, marker)) + self.data[place : place + length])
        return payload

    def take_frame(self, marker: int, payload: bytes):
        """Take over the size and the channels of a frame; refuse one that is not read."""
        _check_kind(marker)
        if self.kind:
            raise NotTakenError("is damaged: it has two frames")
        count = payload[5] if len(payload) > 5 else 0
        if len(payload) != 6 + 3 * count or not count:
            raise NotTakenError("is damaged: its frame has another length than its channels have")
        if payload[0] != 8:
            raise NotTakenError(f"has {payload[0]} bits a channel: convert it to 8-bit RGB")
        if count not in (1, 3):
            kind = "CMYK" if count == 4 else f"{count} channels"
            raise NotTakenError(f"is a JPEG of {kind}, whose colours programs read differently: convert it to RGB")
        self.kind = marker
        self.height, self.width = (int.from_bytes(payload[at : at + 2], "big") for at in (1, 3))
        self.ids, self.sampling = payload[6::3], [(both >> 4, both & 15) for both in payload[7::3]]
        if not self.height:
            raise NotTakenError("gives its height only after its pixels (DNL), which is not read here: save it again")
        check_size(self.width, self.height)
        if len(set(self.ids)) < count or not all(1 <= s <= 4 for pair in self.sampling for s in pair):
            raise NotTakenError("is damaged: its frame describes impossible channels")
        self.bits = {name: np.full(64, -1) for name in self.ids}

    def _check_scan(self, payload: bytes):
        """Follow which bits of which coefficients a scan brings: each is to come once, in order."""
        count = payload[0] if payload else 0
        names = payload[1 : 1 + 2 * count : 2]
        if len(payload) != 4 + 2 * count or not names or len(set(names)) < count or not set(names) <= set(self.ids):
            raise NotTakenError("is damaged: a scan does not fit the channels of its frame")
        self.scans += 1
        if self.scans > MAX_SCANS or self.scans * self.width * self.height > MAX_SCANNED:
            raise NotTakenError(
                f"has too many scans: at most {MAX_SCANS} are taken, and {MAX_SCANNED:,} pixels in all of them"
            )
        first, last, (high, low) = payload[-3], payload[-2], divmod(payload[-1], 16)
        if self.kind != PROGRESSIVE:
            first, last, high, low = 0, 63, 0, 0
        for name in names:
            known = self.bits[name][first : last + 1]
            if first > last or last > 63 or np.any(known != (high if high else -1)):
                raise NotTakenError("is damaged: its scans do not follow each other")
            known[:] = low

    def _restarts(self, start: int, payload: bytes) -> tuple[list[int], int]:
        """Return where the restart markers of a scan begin, and where its data ends."""
        marks, numbers = [], []
        for found in _MARKER.finditer(self.data, start):
            if found[1][0] not in _RESTARTS:
                break
            marks.append(found.end() - 2)
            numbers.append(found[1][0] - 0xD0)
        else:
            raise NotTakenError("is cut short: a JPEG's end is missing")
        units = self._units(payload)
        expected = -(-units // self.interval) - 1 if self.interval else 0
        # Some programs write one behind the last unit too.
        if len(marks) - expected not in (0, 1) or numbers != [i % 8 for i in range(len(marks))]:
            raise NotTakenError("is damaged or cut short: restart markers are missing in its data")
        return marks, found.end() - 2

    def _units(self, payload: bytes) -> int:
        """Count the units of blocks that a scan's data consists of."""
        across, down = (max(pair[i] for pair in self.sampling) for i in (0, 1))
        if payload[0] > 1:
            return -(-self.width // (8 * across)) * -(-self.height // (8 * down))
        h, v = self.sampling[self.ids.index(payload[1])]
        columns, rows = -(-self.width * h // across), -(-self.height * v // down)
        return -(-columns // 8) * -(-rows // 8)
