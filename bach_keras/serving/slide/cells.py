"""The cells that the sides of a slide's tiles cut it into: all of a cell lies under the same tiles."""

import numpy as np

from bach_keras.serving.slide.tiles import Tile


class Cells:
    """The cells of some tiles, as a grid.

    Attributes:
        counts: under how many tiles a cell lies, int [h, w].
        areas: in square pixels, float [h, w].
    """

    def __init__(self, tiles: list[Tile]):
        boxes = np.array([(t.minx, t.miny, t.minx + t.width, t.miny + t.height) for t in tiles], int).reshape(-1, 4)
        self._across, self._down = (np.unique(boxes[:, axis::2]) for axis in (0, 1))
        left, right = (np.searchsorted(self._across, boxes[:, axis]).tolist() for axis in (0, 2))
        top, bottom = (np.searchsorted(self._down, boxes[:, axis]).tolist() for axis in (1, 3))
        rows, columns = map(slice, top, bottom), map(slice, left, right)
        self._places = list(zip(rows, columns, strict=True))
        self.areas = np.outer(np.diff(self._down), np.diff(self._across)).astype(float)
        self.counts = self.sums(np.ones((len(tiles), 1), int))[..., 0]

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return for each cell the sum of the values of its tiles, [h, w, k] from [tiles, k]."""
        values = np.asarray(values)
        found = np.zeros((*self.areas.shape, values.shape[1]), values.dtype)
        for place, value in zip(self._places, values, strict=True):
            found[place] += value
        return found

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return for each cell the mean of the values of its tiles, [h, w, k] from [tiles, k]; 0 without a tile."""
        return self.sums(values) / np.maximum(self.counts, 1)[..., None]

    def bounds(self) -> np.ndarray:
        """Return left, top, right and bottom of the cells, int [h * w, 4], row by row."""
        left, top = np.meshgrid(self._across[:-1], self._down[:-1])
        right, bottom = np.meshgrid(self._across[1:], self._down[1:])
        return np.stack([left, top, right, bottom], axis=-1).reshape(-1, 4)
