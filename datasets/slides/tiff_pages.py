"""Which directories of a TIFF are the levels of a slide's pyramid.

Programs write them in two ways: as sub-directories of the first (OME-TIFF), or as pages behind it (Aperio, libvips and
most others), among which labels, thumbnails and pictures of the glass may stand as well. A level is a smaller copy of
the first page: of its shape, up to the rounding of a pixel, and cut into tiles where that one is.
"""

import math
from collections.abc import Iterator
from typing import BinaryIO

from datasets.images.admission import NotTakenError
from datasets.images.tiff_directory import Directory, damage
from datasets.images.tiff_layout import read_shape
from datasets.images.tiff_series import check_kind, check_planes, check_whole
from datasets.slides.slide import Level

# A slide has a dozen levels and pictures beside them; what has more is a stack, or built to keep a reader busy.
_MAX_PAGES = 100

_SUBFILE, _SUBDIRECTORIES, _TILE_WIDTH = 254, 330, 322
_REDUCED, _MASK = 1, 4


def find_levels(file: BinaryIO) -> tuple[list[Directory], tuple[Level, ...]]:
    """Return the directories of a file that are levels, the first page first, and the levels' sizes."""
    first = Directory(file)
    check_kind(first)
    check_whole(first)
    *full, samples = read_shape(first)
    check_planes(first, samples, full[0] * full[1] * samples)
    is_first_tiled = _TILE_WIDTH in first
    found, levels = [first], [Level(*full, 1.0)]
    for directory, is_sub in _others(first):
        kind = directory.number(_SUBFILE, 0)
        if kind & _MASK:
            continue
        *other, channels = read_shape(directory)
        is_reduced, is_tiled = bool(kind & _REDUCED), _TILE_WIDTH in directory
        # A picture of strips beside tiles is a label or a thumbnail, however large.
        if not is_reduced and (is_tiled or not is_first_tiled) and (max(other) > max(full) or other == full):
            raise NotTakenError(
                f"has a page of {full[0]}x{full[1]} pixels and then one of {other[0]}x{other[1]}, so it is not clear"
                " which is the slide: save the one that is meant as its own file"
            )
        downsample = _downsample(full, other)
        if is_sub and is_reduced and downsample is None:
            raise damage(f"a level of {other[0]}x{other[1]} pixels has another shape than its {full[0]}x{full[1]}")
        is_copy = is_sub or is_reduced or is_tiled
        if downsample and is_copy and is_tiled == is_first_tiled and channels == samples:
            found.append(directory)
            levels.append(Level(*other, downsample))
    return found, tuple(levels)


def _others(first: Directory) -> Iterator[tuple[Directory, bool]]:
    """Yield the sub-directories of the first page and then the pages behind it, and which of the two each is."""
    places = first.numbers(_SUBDIRECTORIES, _MAX_PAGES)
    subs = [] if places is None else places.tolist()
    if len({first.place, *subs}) <= len(subs):
        raise damage("a level is there twice")
    yield from ((first.at(place), True) for place in subs)
    page, seen = first, {first.place}
    while page.following:
        if page.following in seen:
            raise NotTakenError("has pages without end, as they point to each other in a circle: save it again")
        seen.add(page.following)
        if len(seen) > _MAX_PAGES:
            raise NotTakenError(f"has more than {_MAX_PAGES} pages, as a stack of pictures has, and no slide")
        page = first.at(page.following)
        yield page, False


def _downsample(full: list[int], other: list[int]) -> float | None:
    """Return how many pixels of the full picture one of a copy is wide; None where it has another shape."""
    if min(other) < 1:
        return None
    # A side may have been rounded up or down, so each side allows a range.
    low = max(side / (part + 1) for side, part in zip(full, other, strict=True))
    high = min(side / (part - 1) if part > 1 else math.inf for side, part in zip(full, other, strict=True))
    if low > high:
        return None
    across, down = (side / part for side, part in zip(full, other, strict=True))
    mean = (across + down) / 2
    # Programs halve, often several times, and cut off what is left over at the edges.
    likely = (2.0 ** round(math.log2(mean)), float(round(mean)), min(max(mean, low), high))
    return next(value for value in likely if low <= value <= high)
