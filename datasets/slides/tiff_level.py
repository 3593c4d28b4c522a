"""One resolution of a slide that is a TIFF: its strips or tiles, of which those are decoded that a window touches.

They are decoded as ``datasets.images.tiff`` decodes the picture of an ordinary TIFF, by the same code: what a tile says
is checked before it is decoded, and what decodes to less than its pixels is refused. Other readers show such pixels as
grey or black.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from datasets.images.tiff import read_palette, to_rgb, undo_predictor, whole_numbers
from datasets.images.tiff_directory import Directory, damage
from datasets.images.tiff_jpeg import read_tables
from datasets.images.tiff_layout import RGB, YCBCR, Layout, layout_of, read_cut, read_places, read_shape
from datasets.images.tiff_segments import JPEG, RAW, Segments
from datasets.slides.limits import check_segment, check_size
from datasets.slides.slide import Window

# Strips and tiles of a level: a slide of 400,000 x 400,000 pixels has 2.4 million of 256.
_MAX_SEGMENTS = 4_000_000


@dataclass(frozen=True)
class TiffLevel:
    """Where the strips or tiles are, and how they are stored."""

    directory: Directory
    layout: Layout
    segment_width: int
    segment_height: int
    is_tiled: bool
    across: int  # how many are in a row
    down: int  # how many are in a column
    offsets: np.ndarray  # where each begins in the file, plane after plane
    counts: np.ndarray  # stored bytes of each, 0 of one that was left out
    is_ycbcr: bool  # whether JPEG segments hold YCbCr, and not RGB
    tables: bytes  # that JPEG segments share
    palette: np.ndarray | None

    @property
    def is_raw(self) -> bool:
        """Whether bytes of the file are values of pixels, so that single rows can be read."""
        return self.layout.compression == RAW and self.layout.bits == 8 and not self.layout.is_reversed

    def pieces(self, window: Window) -> Iterator[tuple[int, Window]]:
        """Yield the number of each segment that a window touches, and which part of the level that is of it."""
        right, bottom = window.x + window.width, window.y + window.height
        for row in range(max(window.y, 0) // self.segment_height, self.down):
            top, end = row * self.segment_height, min((row + 1) * self.segment_height, self.layout.height)
            if top >= bottom:
                return
            for column in range(max(window.x, 0) // self.segment_width, self.across):
                left, edge = column * self.segment_width, min((column + 1) * self.segment_width, self.layout.width)
                if left >= right:
                    break
                x, y = max(left, window.x), max(top, window.y)
                part = Window(x, y, min(edge, right) - x, min(end, bottom) - y)
                if part.width > 0 and part.height > 0:
                    yield row * self.across + column, part

    def corner(self, number: int) -> tuple[int, int]:
        """Return the x and y of a segment's first pixel."""
        row, column = divmod(number, self.across)
        return column * self.segment_width, row * self.segment_height

    def decode(self, number: int) -> np.ndarray:
        """Decode one segment to uint8 RGB [h, w, 3]; of a tile with what it has beyond the slide's edge."""
        rows = self.segment_height
        if not self.is_tiled:
            rows = min(rows, self.layout.height - number * rows)
        planes = [self._plane(index, rows) for index in self._planes(number)]
        if any(plane is None for plane in planes):  # as Aperio's software and GDAL leave out what is empty
            return np.full((rows, self.segment_width, 3), 255, np.uint8)
        return to_rgb(self.layout, planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2), self.palette)

    def read_raw(self, number: int, part: Window) -> np.ndarray:
        """Read a part of one segment, row by row, to uint8 RGB."""
        left, top = self.corner(number)
        samples = self._samples
        planes = []
        for index in self._planes(number):
            start, row_bytes = int(self.offsets[index]), self.segment_width * samples
            if not self.counts[index]:
                return np.full((part.height, part.width, 3), 255, np.uint8)
            if self.counts[index] < (part.y - top + part.height) * row_bytes:
                raise damage(f"a strip or tile has {self.counts[index]:,} bytes, fewer than its pixels need")
            first = start + (part.y - top) * row_bytes + (part.x - left) * samples
            if part.width == self.segment_width:
                data = self.directory.read(first, part.height * row_bytes)
            else:
                places = range(first, first + part.height * row_bytes, row_bytes)
                data = b"".join(self.directory.read(place, part.width * samples) for place in places)
            planes.append(np.frombuffer(data, np.uint8).reshape(part.height, part.width, samples))
        return to_rgb(self.layout, planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2), self.palette)

    @property
    def _samples(self) -> int:
        """Channels that are stored together."""
        return 1 if self.layout.is_planar else self.layout.samples

    def _planes(self, number: int) -> range:
        each = self.across * self.down
        return range(number, number + each * (self.layout.samples if self.layout.is_planar else 1), each)

    def _plane(self, index: int, rows: int) -> np.ndarray | None:
        """Decode the channels of a segment that are stored together, uint8 [h, w, channels]; None of one left out."""
        if not self.counts[index]:
            return None
        row_bytes = -(-self.segment_width * self._samples * self.layout.bits // 8)
        if self.counts[index] > 2 * rows * row_bytes + 2**16:
            raise damage(f"a strip or tile has {self.counts[index]:,} bytes, far more than its pixels need")
        segments = Segments(
            directory=self.directory,
            compression=self.layout.compression,
            is_reversed=self.layout.is_reversed,
            row_bytes=row_bytes,
            heights=np.array([rows]),
            full_height=self.segment_height,
            offsets=self.offsets[index : index + 1],
            counts=self.counts[index : index + 1],
            samples=self._samples,
            is_ycbcr=self.is_ycbcr,
            tables=self.tables,
            is_quick=True,
        )
        values = whole_numbers(undo_predictor(segments.unpack(), self.layout, self._samples), self.layout.bits)
        return values.reshape(rows, -1, self._samples)[:, : self.segment_width]


def read_level(directory: Directory) -> TiffLevel:
    """Read where the strips or tiles of a directory are, and check that they can be decoded within bounds."""
    width, height, _ = read_shape(directory)
    check_size(width, height)
    layout = layout_of(directory)
    is_tiled, segment_width, segment_height = read_cut(directory, layout)
    across, down = -(-width // segment_width), -(-height // segment_height)
    number = across * down * (layout.samples if layout.is_planar else 1)
    offsets, counts = read_places(directory, is_tiled, number, _MAX_SEGMENTS)
    if (offsets + counts).max() > directory.size:
        raise damage("its strips or tiles reach beyond its end")
    level = TiffLevel(
        directory=directory,
        layout=layout,
        segment_width=segment_width,
        segment_height=segment_height,
        is_tiled=is_tiled,
        across=across,
        down=down,
        offsets=offsets,
        counts=np.where(offsets == 0, 0, counts),
        is_ycbcr=_is_ycbcr(directory, layout, offsets),
        tables=read_tables(directory) if layout.compression == JPEG else b"",
        palette=read_palette(directory, layout),
    )
    if not level.is_raw:
        check_segment(segment_width, segment_height, "tiles" if is_tiled else "strips")
    return level


def _is_ycbcr(directory: Directory, layout: Layout, offsets: np.ndarray) -> bool:
    """Say whether JPEG segments hold YCbCr: where the TIFF says so, or, although it says RGB, one of the first does.

    Bio-Formats, and so QuPath, writes ordinary JPEG files (JFIF, which is YCbCr) into TIFFs that say RGB.
    """
    if layout.compression != JPEG or layout.photometric != RGB or layout.is_planar or not offsets.any():
        return layout.photometric == YCBCR
    starts = [directory.read(int(place), 11, at_least=0) for place in offsets[offsets > 0][:16]]
    return any(start[:4] == b"\xff\xd8\xff\xe0" and start[6:] == b"JFIF\0" for start in starts)
