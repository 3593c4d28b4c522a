"""A whole slide: an image too large to be read at once, of which windows are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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

    def read(self, x: int, y: int, width: int, height: int, downsample: float = 1.0) -> np.ndarray:
        """Read a window from the level nearest to ``downsample`` and not coarser; white where the slide ends.

        Args:
            x, y, width, height: in full-resolution pixels, from the top left corner.

        Returns:
            uint8 RGB [h, w, 3] of that level's own pixels: h is about ``height`` / the level's downsample.
        """

    def __enter__(self) -> "Slide": ...

    def __exit__(self, *exception) -> None: ...
