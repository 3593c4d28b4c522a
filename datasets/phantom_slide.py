"""A phantom of a whole slide, whose classes are known by place: ``python -m datasets.phantom_slide OUT.tiff``.

Pieces of tissue lie apart on glass. Each is of one patient and of two classes, half and half, so that the stain does
not tell the class, and each two classes meet somewhere. A half is laid with phantoms of its class like bricks: a field
of view holds parts of up to four of them wherever it lies. Beside the slide is written the truth, the outlines of the
halves with their classes, as QuPath's GeoJSON.
"""

import argparse
import functools
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from datasets import phantom
from datasets.canvas import HEIGHT, WIDTH, Shape
from datasets.catalogue import PHANTOM
from datasets.errors import UserError
from datasets.escape import for_terminal
from datasets.labels import CLASSES
from datasets.progress import bar
from datasets.pyramid import write_pyramid
from datasets.whole import whole

SMALLEST, LARGEST = 600, 200_000

# The patients of a slide, none of which any data set has. Each has the six pairs of classes' next two, which hold all
# four, so that all classes are seen in each stain.
_PATIENTS = 3
_PAIRS = (
    (("normal", "benign"), ("insitu", "invasive")),
    (("normal", "insitu"), ("benign", "invasive")),
    (("normal", "invasive"), ("benign", "insitu")),
)

# How many phantoms of a patient and class are drawn; after the last the first is laid again, which only happens on
# slides larger than the usual one. It bounds time and memory.
_VARIETY = 40

# The pixels that a piece has for itself, about; no slide has fewer than three by two pieces.
_PIECE = (2730, 3072)
_MARGIN = 0.06

_GLASS = (246, 244, 247)


@dataclass(frozen=True)
class Region:
    """A part of the slide that is of one class and one patient."""

    label: str
    patient: int
    outline: tuple[tuple[int, int], ...]  # x and y in pixels, in turn around it


def regions(width: int, height: int, seed: int = 0) -> list[Region]:
    """Return where a slide has tissue, and of which class: two regions a piece, which share a straight border."""
    columns, rows = max(3, round(width / _PIECE[0])), max(2, round(height / _PIECE[1]))
    found = []
    for row in range(rows):
        for column in range(columns):
            rng = np.random.default_rng([seed, row, column])
            room = np.array([width / columns, height / rows])
            outline = (_outline(rng, room) + room * [column, row]).round().astype(int)
            pair = _PAIRS[column % _PATIENTS][row % 2]
            first = rng.integers(len(outline))
            outline = np.roll(outline, -first, axis=0)
            half = len(outline) // 2
            for label, part in zip(
                rng.permutation(pair), (outline[: half + 1], np.vstack([outline[half:], outline[:1]])), strict=True
            ):
                corners = tuple((int(x), int(y)) for x, y in part)
                found.append(Region(str(label), phantom.PATIENTS + column % _PATIENTS, corners))
    return found


def _outline(rng, room: np.ndarray) -> np.ndarray:
    """Return a wavy outline, [n, 2], as large as a room of a width and height has place for."""
    fading = 0.07 / np.sqrt(np.arange(1, 4))
    waves = np.stack([rng.normal(0, fading), rng.uniform(0, 2 * np.pi, 3)], axis=1)
    points = Shape(0, 0, 1, rng.uniform(1, 1.1), rng.uniform(0, np.pi), waves).outline(120)
    points -= (points.min(0) + points.max(0)) / 2
    return room / 2 + points * (room * (0.5 - _MARGIN) / points.max(0)).min()


def write_phantom_slide(path: Path, width: int = 8192, height: int = 6144, seed: int = 0) -> Path:
    """Write a slide, and its truth beside it, whose path is returned; the same arguments give the same bytes.

    Its pixels are as large as those of the phantoms, and so is what a model of phantoms takes as one image: a square of
    288 pixels. Another seed gives other patients, phantoms and outlines.
    """
    path = Path(path)
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise UserError(f"{path} is to be a TIFF: give it a name that ends in .tiff.")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} is not a folder that is there: make it, or name another.")
    if not (SMALLEST <= width <= LARGEST and SMALLEST <= height <= LARGEST):
        raise UserError(f"A phantom slide is {SMALLEST} to {LARGEST} pixels wide and high, not {width} x {height}.")
    found = regions(width, height, seed)
    with bar(what=path.name, total=height, unit="row") as progress:
        rows = _counted(_rows(found, width, height, seed), progress)
        write_pyramid(path, rows, (width, height), PHANTOM.um_per_pixel)
    truth = path.with_suffix(".geojson")
    with whole(truth) as partial:
        partial.write_text(json.dumps(_geojson(found), indent=1) + "\n")
    return truth


def _counted(rows: Iterator[np.ndarray], progress) -> Iterator[np.ndarray]:
    for part in rows:
        yield part
        progress.update(len(part))


def _geojson(found: list[Region]) -> dict:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*region.outline, region.outline[0]]]},
            "properties": {
                "objectType": "annotation",
                "name": f"{region.label}, patient p{region.patient}, piece {number // 2 + 1}",
                "classification": {"name": region.label},
            },
        }
        for number, region in enumerate(found)
    ]
    return {"type": "FeatureCollection", "features": features}


def _rows(found: list[Region], width: int, height: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the slide from top to bottom, a course of bricks at a time: uint8 RGB [h, width, 3]."""
    bricks = _Bricks(seed)
    for course, top in enumerate(range(0, height, HEIGHT)):
        tall = min(HEIGHT, height - top)
        kinds = _kinds(found, width, top)
        row = np.empty((HEIGHT, width, 3), np.uint8)
        # Every other course begins with half a brick, as a wall does.
        for left in range(-(WIDTH // 2) * (course % 2), width, WIDTH):
            inside = slice(max(left, 0), min(left + WIDTH, width))
            of_brick = slice(inside.start - left, inside.stop - left)
            for kind in np.unique(kinds[:, inside]):
                where = kinds[:, inside] == kind
                row[:, inside][where] = bricks.next(int(kind))[:, of_brick][where]
        yield row[:tall]


def _kinds(found: list[Region], width: int, top: int) -> np.ndarray:
    """Return what lies in each pixel of a course, uint8 [288, width]: 0 is glass, the others as ``_kind`` says."""
    image = Image.new("L", (width, HEIGHT), 0)
    pen = ImageDraw.Draw(image)
    for region in found:
        highest, lowest = (pick(y for _, y in region.outline) for pick in (min, max))
        if highest < top + HEIGHT and lowest >= top:
            pen.polygon([(x, y - top) for x, y in region.outline], fill=_kind(region))
    return np.asarray(image)


def _kind(region: Region) -> int:
    return 1 + (region.patient - phantom.PATIENTS) * len(CLASSES) + CLASSES.index(region.label)


class _Bricks:
    """The phantoms of which a slide is laid, drawn as they are needed."""

    def __init__(self, seed: int):
        self._seed = seed
        self._laid = defaultdict(int)
        self._drawn = functools.cache(self._draw)

    def next(self, kind: int) -> np.ndarray:
        """Return the next brick of a kind, uint8 [288, 384, 3]; that of glass is always the same."""
        self._laid[kind] += 1
        return self._drawn(kind, self._laid[kind] % _VARIETY if kind else 0)

    def _draw(self, kind: int, index: int) -> np.ndarray:
        if not kind:
            grain = np.random.default_rng(self._seed).normal(_GLASS, 1.5, (HEIGHT, WIDTH, 3))
            return grain.clip(0, 255).astype(np.uint8)
        patient, label = divmod(kind - 1, len(CLASSES))
        return phantom.draw(CLASSES[label], phantom.PATIENTS + patient, index, self._seed)


def main(words: list[str] | None = None) -> None:
    """Write a phantom slide and its truth, and say where they are."""
    parser = argparse.ArgumentParser(
        prog="python -m datasets.phantom_slide",
        description="Draw a slide of synthetic tissue, and write where it has which class beside it (.geojson).",
    )
    parser.add_argument("out", type=Path, metavar="OUT.tiff")
    parser.add_argument("--width", type=int, default=8192, help="in pixels (8192)")
    parser.add_argument("--height", type=int, default=6144, help="in pixels (6144)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of patients, phantoms and outlines (0)")
    given = parser.parse_args(words)
    try:
        truth = write_phantom_slide(given.out, given.width, given.height, given.seed)
    except UserError as error:
        parser.error(for_terminal(str(error)))
    except OSError as error:
        sys.exit(for_terminal(str(error)))
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(130)
    print(for_terminal(f"The slide is {given.out}, its classes by place {truth}."))


if __name__ == "__main__":
    main()
