"""The regions of a slide that are to be classified, and what a pathologist calls them."""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bach_keras.serving.slide.region_file import Outline, Outlines, read_outlines, with_area
from bach_keras.serving.slide.tiles import Tile
from bach_keras.wording import counted
from datasets.errors import UserError
from datasets.labels import MALIGNANT

# Names of classes -> this project's labels. What only says that there is cancer, such as QuPath's own class Tumor, may
# be in situ or invasive, and is compared as carcinoma. Any other name is not compared, and told: LCIS, for example,
# which pathologists do not count as carcinoma any more.
SPELLINGS = {
    "normal": ("normal", "normal tissue", "normal breast", "normal breast tissue"),
    "benign": ("benign", "benign tissue", "benign lesion", "benign breast lesion", "benign breast tissue"),
    "insitu": (
        "insitu", "in situ", "in situ carcinoma", "carcinoma in situ", "dcis", "ductal carcinoma in situ",
        "intraductal carcinoma",
    ),
    "invasive": (
        "invasive", "invasive carcinoma", "invasive breast carcinoma", "invasive breast cancer", "invasive cancer",
        "invasive tumor", "invasive tumour", "idc", "invasive ductal carcinoma", "ilc", "invasive lobular carcinoma",
        "invasive carcinoma of no special type", "invasive carcinoma nst", "infiltrating carcinoma",
        "infiltrating ductal carcinoma", "infiltrating lobular carcinoma",
    ),
    MALIGNANT: ("malignant", "tumor", "tumour", "carcinoma", "cancer", "malignancy"),
}  # fmt: skip
_LABELS = {name: label for label, names in SPELLINGS.items() for name in names}

# A sentence names no more unknown classes.
_MOST_NAMED = 10

# A tile must share more than a side with a region.
_SLIVER = 1e-3
# Outlines are cut into pieces of no more vertices: what a tile shares with one is found at once.
_MOST_VERTICES = 256


@dataclass(frozen=True)
class Region:
    """One region of a slide."""

    name: str
    said: str | None  # its class, as the file has it
    truth: str | None  # the label of this project that this means, None where it means none
    area: float  # of what of it lies in the slide, in square pixels


class Regions:
    """The regions of one slide.

    Attributes:
        regions: those that lie on the slide, in the order of the file.
        notes: sentences on what of the file was left out, and on classes that are not known.
    """

    def __init__(self, outlines: list[Outline], notes: list[str]):
        """Take outlines that lie in the slide."""
        import shapely

        self.regions = tuple(
            Region(each.name, each.said, label_of(each.said), float(each.geometry.area)) for each in outlines
        )
        self.notes = tuple(notes)
        self._outlines = [each.geometry for each in outlines]
        cut = [pieces(each.geometry) for each in outlines]
        self._region_of = np.repeat(np.arange(len(cut)), list(map(len, cut)))
        self._pieces = np.array([piece for each in cut for piece in each], object)
        self._tree = shapely.STRtree(self._pieces)

    def lines(self, scale: float) -> list[np.ndarray]:
        """Return the sides of the regions, and of their holes, for a picture: float [n, 2] of x and y, each times
        ``scale``, without what is smaller than its pixels.
        """
        import shapely

        found = []
        for each in self._outlines:
            small = shapely.simplify(shapely.transform(each, lambda places: places * scale), 0.4)
            for part in _polygons(small):
                found += [np.asarray(ring.coords) for ring in (part.exterior, *part.interiors) if len(ring.coords) > 1]
        return found

    def touches(self, tile: Tile) -> bool:
        """Whether a tile shows some of a region."""
        import shapely

        left, top = tile.minx + _SLIVER, tile.miny + _SLIVER
        box = shapely.box(left, top, left + tile.width - 2 * _SLIVER, top + tile.height - 2 * _SLIVER)
        return bool(self._tree.query(box, predicate="intersects").size)

    def shared(self, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what boxes share with regions: numbers of regions, of boxes, and square pixels, an array of each.

        ``bounds`` are left, top, right and bottom of the boxes, [N, 4].
        """
        import shapely

        boxes = shapely.box(*np.asarray(bounds, float).reshape(-1, 4).T)
        box, piece = self._tree.query(boxes, predicate="intersects")
        areas = shapely.area(shapely.intersection(boxes[box], self._pieces[piece]))
        return self._region_of[piece], box, areas


def read_regions(path: Path, width: int, height: int) -> Regions:
    """Read the regions of a slide with these sides in full-resolution pixels; a UserError is raised of other files."""
    found = read_outlines(path)
    inside, notes = _inside(found, path, width, height)
    return Regions(inside, [*notes, *_notes(found, inside)])


def label_of(said: str | None) -> str | None:
    """Return the label that the name of a class means, None of a name that is not known."""
    if said is None:
        return None
    plain = unicodedata.normalize("NFKC", said).casefold()
    return _LABELS.get(" ".join(re.sub(r"[-_,()]+", " ", plain).split()))


def pieces(geometry) -> list:
    """Cut a geometry of shapely in halves, until each piece has few vertices."""
    import shapely

    found, waiting = [], _polygons(geometry)
    while waiting:
        part = waiting.pop()
        left, top, right, bottom = part.bounds
        # One that stays as it is has so many vertices in a pixel.
        if shapely.get_num_coordinates(part) <= _MOST_VERTICES or max(right - left, bottom - top) < 1:
            # Clipping is fast, and may leave a piece that touches itself.
            found.extend([part] if shapely.is_valid(part) else _polygons(with_area(shapely.make_valid(part))))
        elif right - left >= bottom - top:
            middle = (left + right) / 2
            for half in ((left, top, middle, bottom), (middle, top, right, bottom)):
                waiting.extend(_polygons(with_area(shapely.clip_by_rect(part, *half))))
        else:
            middle = (top + bottom) / 2
            for half in ((left, top, right, middle), (left, middle, right, bottom)):
                waiting.extend(_polygons(with_area(shapely.clip_by_rect(part, *half))))
    return found


def _polygons(geometry) -> list:
    return [] if geometry is None else list(getattr(geometry, "geoms", [geometry]))


def _inside(found: Outlines, path, width, height) -> tuple[list[Outline], list[str]]:
    """Return what of outlines lies in the slide, and sentences on what does not."""
    import shapely

    slide = shapely.box(0, 0, width, height)
    inside, beyond = [], 0
    for each in found.outlines:
        area = each.geometry if slide.covers(each.geometry) else with_area(shapely.intersection(each.geometry, slide))
        if area is not None:
            beyond += area is not each.geometry
            inside.append(Outline(each.name, each.said, area))
    left, top, right, bottom = shapely.total_bounds([each.geometry for each in found.outlines])
    spans = f"x {left:g} to {right:g} and y {top:g} to {bottom:g}"
    if not inside:
        raise UserError(
            f"{path}: no region lies on the slide, which has {width} x {height} pixels; they span {spans}. Is it the "
            "file of another slide? Coordinates are full-resolution pixels from the top left corner."
        )
    if max(right, bottom) <= 1:
        raise UserError(
            f"{path}: the regions span {spans}, so all lie within one pixel. Coordinates are full-resolution pixels "
            "from the top left corner, not shares of the slide."
        )
    count, notes = counted(len(found.outlines), "region"), []
    if outside := len(found.outlines) - len(inside):
        notes.append(f"{outside} of {count} lie outside the slide ({width} x {height} pixels) and are left out.")
    if beyond:
        notes.append(f"{beyond} of {count} reach beyond the slide; only what lies on it counts.")
    return inside, notes


def _notes(found: Outlines, inside: list[Outline]) -> list[str]:
    """Return sentences on what else was in a file."""
    notes = []
    if found.passed_over:
        others = ", ".join(f"{count} {what}" for what, count in found.passed_over.items())
        notes.append(f"Objects that are not outlined regions are passed over: {others}.")
    if found.mended:
        notes.append(f"{counted(found.mended, 'outline')} crossed itself or another and was mended.")
    unknown = Counter(each.said for each in inside if each.said and label_of(each.said) is None)
    if unknown:
        named = [f'"{name}" ({counted(count, "region")})' for name, count in unknown.most_common(_MOST_NAMED)]
        names = ", ".join(named) + (f" and {len(unknown) - len(named)} more" if len(unknown) > len(named) else "")
        notes.append(
            f"Classes that are not compared, as their names are not known: {names}. Known are names such as Normal, "
            "Benign, DCIS, Invasive carcinoma and Tumor; docs/slides.md lists them."
        )
    return notes
