"""What was answered for a slide as a map: a grid of large pixels over it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bach_keras.serving.slide.tiles import AnsweredSlide
from bach_keras.tree import ROOT

# So many pixels of a map lie side by side in the step from a tile to the next, but no more in the map's longer side.
PIXELS_A_STEP, LONGEST = 16, 2048


@dataclass(frozen=True)
class Raster:
    """A map of a slide from its top left corner; its last row and column may reach beyond the slide."""

    downsample: int  # full-resolution pixels that one of its pixels is wide and high
    probabilities: np.ndarray  # float32 [h, w, classes]: they sum to 1 where tiles were answered, and are 0 elsewhere
    unsure: np.ndarray  # bool [h, w]: most of the answers there are unsure
    failed: np.ndarray  # bool [h, w]: a tile there could not be answered, and no other was
    carcinoma: np.ndarray | None  # float32 [h, w], as carci answers; None of a node that does not

    @cached_property
    def answered(self) -> np.ndarray:
        """Bool [h, w]."""
        return self.probabilities.any(axis=-1)

    @cached_property
    def labels(self) -> np.ndarray:
        """The index of the likeliest class, -1 where nothing was answered; int [h, w]."""
        return np.where(self.answered, self.probabilities.argmax(axis=-1), -1)

    def at(self, slide: AnsweredSlide, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which row and which column of the map lie under each one of a picture of the whole slide."""
        rows = (np.arange(height) + 0.5) * slide.height / height // self.downsample
        columns = (np.arange(width) + 0.5) * slide.width / width // self.downsample
        return rows.astype(int)[:, None], columns.astype(int)[None]


def raster(slide: AnsweredSlide) -> Raster:
    """Return the map of a slide; where tiles overlap, their answers count by how much of a pixel they cover.

    A pixel less than half of which is covered was not answered, so that the map is as large as the tiles.
    """
    downsample = max(1, slide.step // PIXELS_A_STEP, -(-max(slide.width, slide.height) // LONGEST))
    classes = slide.classes
    shape = [-(-side // downsample) for side in (slide.height, slide.width)]
    # The last four are what carci says of carcinoma, and how much is covered by tiles that it answers, by unsure ones,
    # and by any.
    sums, failed = np.zeros((*shape, len(classes) + 4), np.float32), np.zeros(shape, np.float32)
    for each in slide.tiles:
        tile, row = each.tile, each.row
        down, rows = _covered(tile.miny, tile.height, slide.height, downsample)
        across, columns = _covered(tile.minx, tile.width, slide.width, downsample)
        if each.failed:
            failed[rows, columns] += down[:, None] * across
            continue
        root = row["nodes"].get(ROOT.name)
        of_root = [root[ROOT.classes[1]], 1] if root else [0, 0]
        values = [*(row["probabilities"][name] for name in classes), *of_root, bool(row.get("unsure")), 1]
        sums[rows, columns] += (down[:, None] * across)[..., None] * np.array(values, np.float32)
    carcinoma, with_root, unsure, covered = np.moveaxis(sums[..., len(classes) :], -1, 0)
    probabilities = sums[..., : len(classes)]
    total = probabilities.sum(axis=-1)
    is_answered = (covered >= 0.5) & (total > 0)
    return Raster(
        downsample,
        _divided(probabilities, total[..., None], is_answered[..., None]),
        is_answered & (unsure >= covered / 2),
        ~is_answered & (failed >= 0.5),
        _divided(carcinoma, with_root, is_answered & (with_root > 0)) if with_root.any() else None,
    )


def _divided(values, by, where) -> np.ndarray:
    """Return a quotient, and 0 elsewhere."""
    return np.divide(values, by, out=np.zeros_like(values), where=where)


def _covered(start: int, length: int, side: int, downsample: int) -> tuple[np.ndarray, slice]:
    """Return along one axis how much of each pixel of the map a tile covers, float32, and which pixels these are.

    It is a share of what of a pixel lies in the slide.
    """
    start, end = max(0, start), min(side, start + length)
    first, last = start // downsample, -(-end // downsample)
    edges = np.minimum(np.arange(first, last + 1) * downsample, side)
    inside = np.minimum(edges[1:], end) - np.maximum(edges[:-1], start)
    return (inside / np.diff(edges)).astype(np.float32), slice(first, last)
