"""How much of a slide's tissue has which class."""

import numpy as np

from bach_keras.serving.slide.cells import Cells
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
    names = slide.classes
    of_label = np.array([[each.row["label"] == name for name in names] for each in answered], bool)
    of_label = of_label.reshape(-1, len(names))
    is_unsure = np.array([bool(each.row.get("unsure")) for each in answered], bool)
    is_calibrated = any(each.row.get("unsure") is not None for each in answered)
    kinds = np.concatenate([of_label, of_label & is_unsure[:, None]], axis=1)
    areas = _tissue(answered, kinds) * (slide.scale.value / 1000) ** 2
    total = float(areas[: len(names)].sum())
    classes = {
        name: {
            "tiles": int(of_label[:, index].sum()),
            "tissue_mm2": float(areas[index]),
            "share": float(areas[index]) / total if total else None,
            "unsure_mm2": float(areas[len(names) + index]) if is_calibrated else None,
        }
        for index, name in enumerate(names)
    }
    lost = float(_tissue(failed, np.ones((len(failed), 1)))[0]) * (slide.scale.value / 1000) ** 2
    return {
        "tissue_mm2": total,
        "classes": classes,
        "failed": {"tiles": len(failed), "tissue_mm2": lost},
        "caveat": CAVEAT,
    }


def _tissue(tiles: list[AnsweredTile], kinds: np.ndarray) -> np.ndarray:
    """Return the square pixels of tissue of tiles that are of each kind, float [k]; ``kinds`` is bool [tiles, k]."""
    cells = Cells([each.tile for each in tiles])
    tissue = np.array([each.tile.tissue for each in tiles], float)[:, None]
    return np.tensordot(cells.areas, cells.means(kinds * tissue), axes=2)
