"""Near-duplicates on two sides of a split, as ``datasets.duplicates`` finds them."""

import dataclasses
import itertools
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.duplicates.copies import Copy, Sketchbook
from datasets.escape import csv_line
from datasets.progress import bar
from datasets.splits import SPLITS
from datasets.whole import whole

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """Two images, by their file names, that show the same tissue, and what brings the second onto the first."""

    first: str
    first_split: str
    second: str
    second_split: str
    correlation: float  # of the detail in the part that both show, up to 1
    orientation: str  # how the second is turned and mirrored, in words: see ``Copy``
    right: int  # with ``down``, where the upper left corner of a box around the second, so turned and scaled, ...
    down: int  # ... is on the first, in its pixels
    overlap: float  # the part that both show, as a share of the smaller image
    angle: float = 0.0  # degrees by which the second is turned, against the clock, before it is mirrored
    scale: float = 1.0  # how many pixels of the first are as long as one of the second

    @classmethod
    def of(cls, copy: Copy, split: dict[str, str]) -> "Pair":
        """Say on which sides of a split a copy and its original lie."""
        own = {field.name: getattr(copy, field.name) for field in dataclasses.fields(cls) if hasattr(copy, field.name)}
        return cls(**own, first_split=split[copy.first], second_split=split[copy.second])

    @property
    def mirrored(self) -> bool:
        """Whether left and right of the second are exchanged."""
        return self.orientation.endswith("mirrored")

    @property
    def placed(self) -> str:
        """How the second lies on the first, in words, such as ``turned 7, scaled by 1.10``."""
        return self.orientation if round(self.scale, 2) == 1 else f"{self.orientation}, scaled by {self.scale:.2f}"


def find_pairs(images: Iterable[tuple[str, np.ndarray]], split: dict[str, str]) -> list[Pair]:
    """Find the pairs of images that show the same tissue on two sides of a split, the most alike first.

    ``images`` are file names and pixels, uint8 RGB [H, W, 3]; each is sketched as it comes.
    """

    def across(first: str, second: str) -> bool:
        return SPLITS.index(split[first]) < SPLITS.index(split[second])

    with Sketchbook() as sketches:
        for name, image in bar(images, what="Reading", total=len(split)):
            sketches.add(name, image)
        pairs = [Pair.of(copy, split) for copy in sketches.find_copies(across)]
    images_of, so_far = Counter(split.values()), 0
    for one, other in itertools.combinations((part for part in SPLITS if images_of[part]), 2):
        so_far += sum((pair.first_split, pair.second_split) == (one, other) for pair in pairs)
        counts = f"{images_of[one]} images of {one} with {images_of[other]} of {other}"
        LOG.info(f"compared {counts}: {so_far} pairs so far")
    return pairs


def write_pairs(path: Path, pairs: list[Pair]) -> None:
    """Write a row for each pair under a line of titles."""
    lines = [csv_line(field.name for field in dataclasses.fields(Pair))]
    for pair in pairs:
        rounded = {name: f"{getattr(pair, name):.3f}" for name in ("correlation", "overlap", "scale")}
        rounded |= {"angle": f"{pair.angle:.1f}"}
        lines.append(csv_line((dataclasses.asdict(pair) | rounded).values()))
    with whole(path) as partial:
        partial.write_bytes("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))
