"""How much of a slide's tissue has which class."""

from itertools import pairwise

import numpy as np

from bach_keras.serving.slide.tiles import AnsweredSlide, AnsweredTile

CAVEAT = (
    "A tile is a field of view with one answer: its tissue counts whole for its label, stroma, fat and inflammation "
    "included. So these are shares of fields and not outlines: no area of a tumour, and no diagnosis of the slide."
)


def tissue_shares(slide: AnsweredSlide) -> dict:
    """Return the area of tissue by the label of its tiles, in mm2, and what to know of it.

    The area of a tile is its tissue's; where tiles overlap, each has an equal part of what they share, so that no
    tissue counts twice.

    Returns:
        ``tissue_mm2`` of the tiles that were answered; ``classes``: class -> ``tiles``, ``tissue_mm2``, ``share`` of
        the answered tissue (None where there is none) and ``unsure_mm2`` (None where nothing was calibrated);
        ``failed``: ``tiles`` and ``tissue_mm2`` of those that were not; ``caveat``.
    """
    answered = [each for each in slide.tiles if not each.failed]
    failed = [each for each in slide.tiles if each.failed]
    mm2 = (slide.scale.value / 1000) ** 2
    areas = own_areas(answered) * mm2 * [each.tile.tissue for each in answered]
    total = float(areas.sum())
    is_calibrated = any(each.row.get("unsure") is not None for each in answered)
    labels = np.array([each.row["label"] for each in answered], object)
    unsure = np.array([bool(each.row.get("unsure")) for each in answered], bool)
    classes = {}
    for name in slide.classes:
        area = float(areas[labels == name].sum())
        classes[name] = {
            "tiles": int((labels == name).sum()),
            "tissue_mm2": area,
            "share": area / total if total else None,
            "unsure_mm2": float(areas[(labels == name) & unsure].sum()) if is_calibrated else None,
        }
    lost = float((own_areas(failed) * mm2 * [each.tile.tissue for each in failed]).sum())
    return {
        "tissue_mm2": total,
        "classes": classes,
        "failed": {"tiles": len(failed), "tissue_mm2": lost},
        "caveat": CAVEAT,
    }


def own_areas(tiles: list[AnsweredTile]) -> np.ndarray:
    """Return the area of each tile in square pixels, float [N], and of what k tiles share a k-th each."""
    boxes = [(t.minx, t.miny, t.minx + t.width, t.miny + t.height) for t in (each.tile for each in tiles)]
    if not boxes:
        return np.zeros(0)
    # The sides of all tiles cut the slide into cells, and all of a cell lies under the same tiles.
    across, down = (sorted({side for box in boxes for side in (box[axis], box[axis + 2])}) for axis in (0, 1))
    places = [{side: index for index, side in enumerate(sides)} for sides in (across, down)]
    cells = [
        (slice(places[1][top], places[1][bottom]), slice(places[0][left], places[0][right]))
        for left, top, right, bottom in boxes
    ]
    counts = np.zeros((len(down) - 1, len(across) - 1), np.int32)
    for cell in cells:
        counts[cell] += 1
    heights, widths = (np.array([after - before for before, after in pairwise(sides)]) for sides in (down, across))
    return np.array([heights[rows] @ (1 / counts[rows, columns]) @ widths[columns] for rows, columns in cells])
