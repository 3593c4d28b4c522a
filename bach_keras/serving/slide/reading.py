"""Windows of a slide at the size that they are wanted in, in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from datasets.slides.slide import Level, Slide, choose_level

# A slide without a pyramid is read at full resolution whatever is wanted: so many pixels of a level at once, 48 MB.
AT_ONCE = 16 * 2**20


@dataclass(frozen=True)
class Window:
    """A part of a slide, in full-resolution pixels, and the size in pixels that it is wanted in."""

    x: int
    y: int
    width: int
    height: int
    columns: int
    rows: int

    @property
    def downsample(self) -> float:
        return max(1.0, min(self.width / self.columns, self.height / self.rows))


def level_of(slide: Slide, downsample: float) -> Level:
    """Return the level that ``slide.read`` takes."""
    return slide.levels[choose_level(slide.levels, downsample)]


def bands(slide: Slide, window: Window) -> Iterator[tuple[int, int]]:
    """Split the rows that are wanted of a window into bands (first, last) that may each be read at once."""
    downsample = level_of(slide, window.downsample).downsample
    each = max(1, int(AT_ONCE * window.rows / (window.width / downsample * (window.height / downsample))))
    for first in range(0, window.rows, each):
        yield first, min(first + each, window.rows)


def read_band(slide: Slide, window: Window, band: tuple[int, int]) -> np.ndarray:
    """Read rows ``band`` of what is wanted of a window, each pixel the mean of what it covers: uint8 [h, w, 3]."""
    top, bottom = (window.y + round(row * window.height / window.rows) for row in band)
    pixels = slide.read(window.x, top, window.width, max(1, bottom - top), window.downsample)
    size = (window.columns, band[1] - band[0])
    if pixels.shape[1::-1] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def read_tile(slide: Slide, corner: tuple[int, int], side: int, wanted: int) -> np.ndarray:
    """Read a square for a model that sees ``wanted`` pixels a side: uint8 [h, h, 3], h at least that where it can be.

    The pixels are those of a level, for ``prepared`` to scale as it does everywhere; only where they would fill the
    memory are they averaged first, to twice what is wanted or more.
    """
    downsample = max(1.0, side / wanted)
    across = side / level_of(slide, downsample).downsample
    if across**2 <= AT_ONCE:
        return slide.read(*corner, side, side, downsample)
    window = Window(*corner, side, side, *(round(across / max(1, int(across / (2 * wanted)))),) * 2)
    return np.concatenate([read_band(slide, window, band) for band in bands(slide, window)])
