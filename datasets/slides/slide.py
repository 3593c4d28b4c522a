"""A whole slide: an image too large to be read at once, of which windows are."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from datasets.images.scale import Scale


@dataclass(frozen=True)
class Level:
    """One resolution of a slide's pyramid; the first is the full one."""

    width: int
    height: int
    downsample: float  # how many full-resolution pixels one of its pixels is wide


class Slide(Protocol):
    """A slide file that is open. Windows may be read by several threads."""

    path: Path
    levels: tuple[Level, ...]
    scale: Scale | None  # of a full-resolution pixel, None where the file does not say it
    absurd_scale: Scale | None  # what the file says where ``scale`` is None, since no microscope has such pixels
    series: str | None  # what all files of a slide have in common, of DICOM; None where a slide is one file

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> np.ndarray:
        """Read a window from the level nearest to ``downsample`` and not coarser; white where the slide ends.

        Args:
            x, y, width, height: in full-resolution pixels, from the top left corner.

        Returns:
            uint8 RGB [h, w, 3] of that level's own pixels: h is about ``height`` / the level's downsample.

        Raises:
            UserError: the window cannot be read, since the file is damaged there; others still can.
            OSError: the disk or the network that the file is on failed, and the file may be whole.
        """

    def __enter__(self) -> "Slide": ...

    def __exit__(self, *exception) -> None: ...


class Window(NamedTuple):
    """A window in pixels of one level."""

    x: int
    y: int
    width: int
    height: int


# A level of a quarter may have 4.003 full-resolution pixels a pixel, by rounding of its size.
_ROUNDING = 1.01


def choose_level(levels: tuple[Level, ...], downsample: float) -> int:
    """Return the number of the level nearest to a downsample and not coarser; the first where all are coarser."""
    fine = [number for number, level in enumerate(levels) if level.downsample <= downsample * _ROUNDING]
    return max(fine, key=lambda number: levels[number].downsample, default=0)


def window_of(level: Level, window: Window) -> Window:
    """Convert a window of full-resolution pixels to the pixels of a level: equally large wherever it lies."""
    x, y, *size = (value / level.downsample for value in window)
    return Window(round(x), round(y), *(max(1, round(value)) for value in size))
