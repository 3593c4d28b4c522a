"""A slide that is a TIFF: a pyramid of tiles, or one picture of tiles or strips."""

import contextlib
import threading
from pathlib import Path

import numpy as np

from datasets.errors import UserError
from datasets.images.admission import NotTakenError
from datasets.images.scale import absurd_um_per_pixel, um_per_pixel
from datasets.images.tiff_directory import DamagedError
from datasets.open_file import open_file
from datasets.slides.segment_cache import SegmentCache
from datasets.slides.slide import Window, choose_level, window_of
from datasets.slides.tiff_level import TiffLevel, read_level
from datasets.slides.tiff_pages import find_levels

# Bytes of decoded strips and tiles that are kept: those of a row of windows, whose neighbours need them again.
_CACHE = 128 * 2**20

# Segments of more bytes are decoded by one thread at a time, as decoding takes several times the memory.
_LARGE = 8 * 2**20


class TiffSlide:
    """A slide whose TIFF is read here; ``NotTakenError`` for one that is not."""

    def __init__(self, path: Path):
        self.path = path
        self._file = open_file(path)
        try:
            directories, self.levels = find_levels(self._file)
            self._levels = [read_level(directory) for directory in directories]
            self._cache = SegmentCache(_CACHE)
            self._one_at_a_time = threading.Lock()
            for number in range(len(self._levels)):
                self._try(number)
        except BaseException:
            self._file.close()
            raise
        self.scale = um_per_pixel(path)
        self.absurd_scale = None if self.scale else absurd_um_per_pixel(path)
        self.series = None

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> np.ndarray:
        """Do what ``Slide.read`` says."""
        number = choose_level(self.levels, downsample)
        window = window_of(self.levels[number], Window(x, y, width, height))
        pixels = np.full((window.height, window.width, 3), 255, np.uint8)
        try:
            for segment, part in self._levels[number].pieces(window):
                top, left = part.y - window.y, part.x - window.x
                pixels[top : top + part.height, left : left + part.width] = self._part(number, segment, part)
        except NotTakenError as error:
            where = f"the window of {width}x{height} pixels at x {x}, y {y}"
            raise UserError(f"{self.path} {error}; this is about {where}.") from None
        return pixels

    def __enter__(self) -> "TiffSlide":
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()

    def _part(self, number: int, segment: int, part: Window) -> np.ndarray:
        level = self._levels[number]
        if level.is_raw:
            return level.read_raw(segment, part)
        decoded = self._cache.get((number, segment), lambda: self._decode(level, segment))
        left, top = level.corner(segment)
        return decoded[part.y - top : part.y - top + part.height, part.x - left : part.x - left + part.width]

    def _decode(self, level: TiffLevel, segment: int) -> np.ndarray:
        is_large = level.segment_width * level.segment_height * 3 > _LARGE
        with self._one_at_a_time if is_large else contextlib.nullcontext():
            return level.decode(segment)

    def _try(self, number: int) -> None:
        """Decode the first segment of a level that is there, so that kinds that are not read are refused at once.

        Damage in it is an error of the windows that need it, as in any other.
        """
        level = self._levels[number]
        stored = np.flatnonzero(level.counts[: level.across * level.down])
        if len(stored) and not level.is_raw:
            with contextlib.suppress(DamagedError):
                self._cache.get((number, int(stored[0])), lambda: self._decode(level, int(stored[0])))
