"""Finding copies among many images: shifted, turned, mirrored, scaled or stained otherwise."""

import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.duplicates.alignment import Alignment, align
from datasets.duplicates.index import Index
from datasets.duplicates.sketch import Sketch
from datasets.progress import bar

# So many keypoints of an image, those of most contrast, are in the index; all that are kept ask it.
_INDEXED = 160
# So many keypoints of two images must be alike before the two are compared. An image is compared with at most so many
# others, those of the most and rarest keypoints like its own.
_LEAST_VOTES, _MOST_COMPARED = 4, 64


# With slots, as many images that are all alike have millions of pairs.
@dataclass(frozen=True, slots=True)
class Copy:
    """Two images, by their names, that show the same tissue, and what brings the second onto the first."""

    first: str
    second: str
    correlation: float  # of the detail in the part that both show, up to 1
    angle: float  # degrees by which the second is turned, against the clock;
    mirrored: bool  # whether left and right are then exchanged;
    scale: float  # how many pixels of the first are then as long as one of the second
    right: int  # with ``down``, where the upper left corner of a box around the result is on the first, in its pixels
    down: int
    overlap: float  # the part that both show, as a share of the smaller image

    @property
    def orientation(self) -> str:
        """How it is turned and mirrored, in words: ``as it is``, ``turned 90 and mirrored``, ``turned 7``."""
        degrees = round(self.angle) % 360
        if not degrees:
            return "mirrored" if self.mirrored else "as it is"
        return f"turned {degrees}{' and mirrored' if self.mirrored else ''}"


def every_two(first: str, second: str) -> bool:
    """Want every two images compared."""
    return True


class Sketchbook:
    """The sketches of many images, in a temporary file, and the search for copies among them; close it after use.

    An image takes about 40 kB of the file and 10 kB of memory. The file is in ``folder``, by default the system's for
    temporary files.
    """

    def __init__(self, folder: Path | None = None):
        self._file = tempfile.TemporaryFile(prefix="sketches-", dir=folder)  # noqa: SIM115 (closed by close)
        self._names: list[str] = []
        self._offsets: list[int] = []
        self._codes: list[np.ndarray] = []

    def __enter__(self) -> "Sketchbook":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()

    def add(self, name: str, image: np.ndarray | Sketch) -> None:
        """Add an image, uint8 RGB [H, W, 3], or its ``Sketch``, which any thread or process may have made."""
        sketch = image if isinstance(image, Sketch) else Sketch.of(image)
        self._names.append(name)
        self._codes.append(sketch.codes[:_INDEXED])
        self._offsets.append(self._file.seek(0, 2))
        pickle.dump(sketch, self._file, protocol=pickle.HIGHEST_PROTOCOL)

    def find_copies(self, wanted: Callable[[str, str], bool] = every_two) -> list[Copy]:
        """Find the copies among the images, the most alike first.

        ``wanted`` says of two names whether a copy between them is of interest, the first being the original. It is
        asked in the order in which they were added, then in the other.
        """
        return self.find_most_alike(wanted)[0]

    def find_most_alike(
        self, wanted: Callable[[str, str], bool] = every_two, most: int | None = None
    ) -> tuple[list[Copy], int]:
        """Find the copies as ``find_copies`` does; return the ``most`` that are most alike, and how many there are."""
        if not self._names:
            return [], 0
        owners = np.repeat(np.arange(len(self._codes)), [len(codes) for codes in self._codes])
        index = Index(np.concatenate(self._codes), owners)
        # Pair -> the best of its copies; and what was compared -> whether it is a copy.
        copies, compared, count = {}, {}, 0
        for number in bar(range(len(self._names)), what="Comparing"):
            own = self._sketch(number)
            for first, second, mirrored in self._proposed(index, number, own, wanted):
                # One number and not three, which would take four times the memory; its last bit is ``mirrored``.
                pair = (first * len(self._names) + second) * 2 + mirrored
                if pair in compared:
                    continue
                one, other = (own if each == number else self._sketch(each) for each in (first, second))
                found = align(one, other.mirrored if mirrored else other)
                compared[pair] = bool(found and found.is_copy)
                if not compared[pair]:
                    continue
                count += not compared.get(pair ^ 1)
                best = copies.get(pair // 2)
                if best is None or found.correlation > best.correlation:
                    names = self._names[first], self._names[second]
                    copies[pair // 2] = _copy(names, (one, other), found, mirrored)
                if most is not None and len(copies) >= 2 * most:
                    copies = dict(_most_alike(copies.items(), most))
        return [copy for _, copy in _most_alike(copies.items(), most)], count

    def _proposed(self, index: Index, number: int, own: Sketch, wanted) -> Iterator[tuple[int, int, bool]]:
        """Yield what to compare with an image: the numbers of first and second, and whether the second is mirrored."""
        proposed = []
        for mirrored in (False, True):
            asking, owners = index.matches(own.mirrored.codes if mirrored else own.codes)
            # What many images show, such as a scale bar, says little.
            rarity = 1 / np.bincount(asking, minlength=1)[asking]
            votes, weights = np.bincount(owners, minlength=1), np.bincount(owners, rarity, minlength=1)
            for other in np.flatnonzero(votes >= _LEAST_VOTES):
                two = self._ordered(number, int(other), wanted)
                if two is not None:
                    proposed.append((-weights[other], *two, mirrored))
        return (each[1:] for each in sorted(proposed)[:_MOST_COMPARED])

    def _ordered(self, number: int, other: int, wanted) -> tuple[int, int] | None:
        if number == other:
            return None
        orders = (min(number, other), max(number, other)), (max(number, other), min(number, other))
        return next((two for two in orders if wanted(*(self._names[each] for each in two))), None)

    def _sketch(self, number: int) -> Sketch:
        self._file.seek(self._offsets[number])
        return pickle.load(self._file)


def _most_alike(copies: Iterable[tuple[int, Copy]], most: int | None) -> list[tuple[int, Copy]]:
    return sorted(copies, key=lambda each: -each[1].correlation)[:most]


def _copy(names: tuple[str, str], sketches: tuple[Sketch, Sketch], found: Alignment, mirrored: bool) -> Copy:
    first, second = sketches
    width, height = second.width / second.unit, second.height / second.unit
    corners = first.unit * (found.factor * np.array([0, width, 1j * height, width + 1j * height]) + found.shift)
    clockwise = np.degrees(np.angle(found.factor))
    return Copy(
        *names,
        correlation=found.correlation,
        # A turn after mirroring is the opposite turn before it.
        angle=float((clockwise if mirrored else -clockwise) % 360),
        mirrored=mirrored,
        scale=abs(found.factor) * first.unit / second.unit,
        right=round(corners.real.min()),
        down=round(corners.imag.min()),
        overlap=found.overlap,
    )
