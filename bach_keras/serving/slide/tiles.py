"""A slide's tiles, and what a model answered for each: what the files and pictures of a slide are made from."""

from dataclasses import dataclass

import numpy as np

from datasets.images.scale import Scale
from datasets.labels import CLASSES


@dataclass(frozen=True)
class Tile:
    """A square window of a slide, in full-resolution pixels from its top left corner."""

    minx: int
    miny: int
    width: int
    height: int
    tissue: float  # share of its pixels that are tissue, seen at low magnification


@dataclass(frozen=True)
class AnsweredTile:
    """A tile with what ``serving.predict.answer_batch`` returns for it: a row, or ``error`` alone."""

    tile: Tile
    row: dict

    @property
    def failed(self) -> bool:
        return "error" in self.row


@dataclass(frozen=True)
class AnsweredSlide:
    """All that was answered for a slide."""

    name: str  # of its file
    width: int  # in full-resolution pixels, as is height
    height: int
    scale: Scale  # of a full-resolution pixel, and where the number is from
    field: float  # micrometres that a tile is wide and high
    step: int  # full-resolution pixels from a tile to the next; a tile's width where tiles do not overlap
    tiles: tuple[AnsweredTile, ...]  # those with tissue, row by row
    thumbnail: np.ndarray  # the whole slide, uint8 RGB [h, w, 3]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the model answers: four of a tree, two of a node."""
        first = next((each for each in self.tiles if not each.failed), None)
        return tuple(first.row["probabilities"]) if first else CLASSES

    @property
    def is_routed(self) -> bool:
        """Whether each tile ran only the specialist that carci chose, so that probabilities are given its answer."""
        first = next((each for each in self.tiles if not each.failed), None)
        return len(self.classes) == len(CLASSES) and first is not None and None in first.row["nodes"].values()
