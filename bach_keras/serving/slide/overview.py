"""A whole slide at low magnification, and how much tissue each of its tiles has."""

from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from bach_keras.serving.slide.reading import Window, bands, read_band
from bach_keras.serving.slide.tissue import Shares, tissue_mask
from datasets.ahead import ahead, processors
from datasets.errors import UserError
from datasets.progress import bar
from datasets.slides.slide import Slide

# A tile is so many pixels wide there, unless the slide then had more than the next number.
TILE = 64
MOST_PIXELS = 4 * 2**20
THUMBNAIL = 1600

# What cannot be read is looked at again in squares of so many pixels, to lose no more than is damaged.
_CELL = 64


@dataclass(frozen=True)
class Overview:
    """A slide at low magnification."""

    pixels: np.ndarray  # uint8 [H, W, 3], white where it could not be read
    damaged: np.ndarray  # bool [H, W]: could not be read
    downsample: float  # full-resolution pixels that one of these is wide

    @cached_property
    def _tissue(self) -> Shares:
        return Shares(tissue_mask(self.pixels))

    @cached_property
    def _damage(self) -> Shares:
        return Shares(self.damaged)

    @property
    def tissue(self) -> float:
        """The share of the slide that is tissue."""
        return self._tissue.of(0, 0, *self.pixels.shape[:2])

    def tissue_of(self, x: int, y: int, side: int) -> float:
        """Return how much of a square is tissue, of what could be read."""
        return self._tissue.of(*self._place(x, y, side))

    def is_damaged(self, x: int, y: int, side: int) -> bool:
        return self._damage.of(*self._place(x, y, side)) > 0

    def _place(self, x, y, side):
        return tuple(each / self.downsample for each in (y, x, y + side, x + side))

    def thumbnail(self) -> np.ndarray:
        """Return it at a size for a page."""
        picture = Image.fromarray(self.pixels)
        picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
        return np.asarray(picture)


def overview(slide: Slide, side: int) -> Overview:
    """Read a slide at low magnification; ``side`` are the full-resolution pixels of a tile."""
    width, height = slide.levels[0].width, slide.levels[0].height
    downsample = max(1.0, side / TILE, (width * height / MOST_PIXELS) ** 0.5)
    window = Window(0, 0, width, height, max(1, round(width / downsample)), max(1, round(height / downsample)))
    pixels = np.full((window.rows, window.columns, 3), 255, np.uint8)
    damaged = np.zeros((window.rows, window.columns), bool)

    def read(band):
        try:
            return band, read_band(slide, window, band)
        except UserError:
            return band, None

    every = list(bands(slide, window))
    with (
        bar(what=f"{slide.path.name}: looking for tissue", total=window.rows, unit="row") as progress,
        closing(ahead(read, every, min(2, processors()))) as found,
    ):
        for (first, last), seen in found:
            if seen is None:
                _read_cells(slide, window, (first, last), pixels, damaged)
            else:
                pixels[first:last] = seen
            progress.update(last - first)
    return Overview(pixels, damaged, downsample)


def _read_cells(slide, window, band, pixels, damaged) -> None:
    """Read what can be read of a band in which something is damaged."""
    for top in range(*band, _CELL):
        for left in range(0, window.columns, _CELL):
            bottom, right = min(top + _CELL, band[1]), min(left + _CELL, window.columns)
            x, y, end, low = (round(each * window.downsample) for each in (left, top, right, bottom))
            cell = Window(x, y, end - x, low - y, right - left, bottom - top)
            try:
                for first, last in bands(slide, cell):
                    pixels[top + first : top + last, left:right] = read_band(slide, cell, (first, last))
            except UserError:
                damaged[top:bottom, left:right] = True
