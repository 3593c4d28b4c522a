"""Where a slide has tissue, seen at low magnification: not on its glass, and not under a pen or a black border."""

import numpy as np

from datasets.stain import GLASS, LIGHT

# Optical density of each of the 256 levels.
_DENSITY = -np.log((np.arange(256) + 1) / LIGHT).astype(np.float32)

# Both stains absorb green most, eosin by far. Of the pixels of BISQUE's 58 images at low magnification, 99 in 100 have
# at most 1.25 times as much red density, and at most .61 times as much blue. Pens go beyond: blue and green ones
# absorb more red, red and brown ones nearly as much blue.
_MOST_RED, _MOST_BLUE = 1.3, 0.8
# Grey absorbs all colours alike: dust, shadows of a cover slip, borders that a scanner fills in.
_LEAST_COLOUR = 0.05
# Nothing but ink and borders is darker, once nuclei are averaged with what is around them.
_DARKEST = 2.5

_ROWS = 256

# A tile counts from this share of tissue on. Of BISQUE's 58 images, which pathologists chose, the emptiest has .29.
LEAST_SHARE = 0.25


def tissue_mask(pixels: np.ndarray) -> np.ndarray:
    """Return which pixels of a slide at low magnification, uint8 [H, W, 3], are H&E tissue: bool [H, W]."""
    mask = np.empty(pixels.shape[:2], bool)
    for first in range(0, len(pixels), _ROWS):  # densities take sixteen times the mask's memory
        mask[first : first + _ROWS] = _mask(pixels[first : first + _ROWS])
    return mask


def _mask(pixels) -> np.ndarray:
    red, green, blue = (_DENSITY[pixels[..., channel]] for channel in range(3))
    is_stained = (green >= GLASS) & (green - np.minimum(red, blue) >= _LEAST_COLOUR)
    is_ink = (red > _MOST_RED * green) | (blue > _MOST_BLUE * green) | (np.maximum(red, green) > _DARKEST)
    return is_stained & ~is_ink


class Shares:
    """How much of any window of a mask is set, by a table of sums."""

    def __init__(self, mask: np.ndarray):
        self._sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int32)
        np.cumsum(np.cumsum(mask, axis=0, dtype=np.int32), axis=1, out=self._sums[1:, 1:])

    def of(self, top: float, left: float, bottom: float, right: float) -> float:
        """Return the share of a window, in pixels of the mask; it has one pixel at least."""
        rows, columns = (each - 1 for each in self._sums.shape)
        first, last = _whole(top, bottom, rows)
        begin, end = _whole(left, right, columns)
        sums = self._sums
        count = sums[last, end] - sums[first, end] - sums[last, begin] + sums[first, begin]
        return float(count) / ((last - first) * (end - begin))


def _whole(low: float, high: float, most: int) -> tuple[int, int]:
    first = min(max(round(low), 0), most - 1)
    return first, min(max(round(high), first + 1), most)
