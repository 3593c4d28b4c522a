"""Pictures of a slide: its thumbnail under the classes and under the probabilities of its tiles."""

import numpy as np
from PIL import Image, ImageDraw

from bach_keras.serving.slide.colours import COLOURS, FAILED
from bach_keras.serving.slide.raster import Raster
from bach_keras.serving.slide.regions import Regions
from bach_keras.serving.slide.tiles import AnsweredSlide

# How much of the thumbnail a map covers; stripes that mark what is unsure cover less.
COVERS, STRIPES_COVER = 0.65, 0.15
_HEAT_COVERS = 0.8
# Pixels of a picture that a stripe and the gap beside it are wide together.
_STRIPES = 8
_WHITE = 255.0


def sides(slide: AnsweredSlide, longer_side: int) -> tuple[int, int]:
    """Return the height and width of a picture with the slide's ratio of sides, the longer one of so many pixels."""
    scale = longer_side / max(slide.width, slide.height)
    return max(1, round(slide.height * scale)), max(1, round(slide.width * scale))


def thumbnail(slide: AnsweredSlide, longer_side: int) -> np.ndarray:
    """Return the slide, uint8 [h, w, 3], in those ``sides``."""
    height, width = sides(slide, longer_side)
    return np.asarray(Image.fromarray(slide.thumbnail).resize((width, height), Image.Resampling.LANCZOS))


def of_classes(slide: AnsweredSlide, raster: Raster, picture: np.ndarray, covers: float = COVERS) -> np.ndarray:
    """Return the picture, uint8 [h, w, 3] of the whole slide, under the colour of each tile's class.

    Where the tree is unsure, the colour is in stripes; what could not be answered is grey.
    """
    where = raster.at(slide, *picture.shape[:2])
    labels = np.where(raster.failed, len(slide.classes), raster.labels)[where]
    palette = np.array([*(COLOURS[name] for name in slide.classes), FAILED], float)
    rows, columns = np.indices(labels.shape)
    is_gap = raster.unsure[where] & ((rows + columns) % _STRIPES >= _STRIPES // 2)
    return _mixed(picture, palette[labels], np.where(labels < 0, 0, np.where(is_gap, STRIPES_COVER, covers)))


def probabilities(slide: AnsweredSlide, raster: Raster) -> dict[str, np.ndarray]:
    """Return the maps of probabilities to show, float [h, w] each: of carcinoma, if carci answers, and classes."""
    of_classes = {name: raster.probabilities[..., index] for index, name in enumerate(slide.classes)}
    return of_classes if raster.carcinoma is None else {"carcinoma": raster.carcinoma} | of_classes


def given_carci(slide: AnsweredSlide) -> str:
    """Return a sentence on what the probabilities of the classes mean where tiles are routed, else ""."""
    if not slide.is_routed:
        return ""
    return (
        "Each tile ran only the specialist that carci chose: the probabilities of the four classes are given carci's "
        "answer, and 0 for the two that it ruled out; that of carcinoma is carci's."
    )


def of_probability(slide: AnsweredSlide, raster: Raster, picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the picture, in grey and pale, under a map of probabilities."""
    grey = np.repeat(picture.mean(axis=-1, keepdims=True), 3, axis=-1)
    where = raster.at(slide, *picture.shape[:2])
    colours = _heat(values[where])
    return _mixed((grey + _WHITE) / 2, colours, np.where(raster.answered[where], _HEAT_COVERS, 0))


def with_regions(slide: AnsweredSlide, picture: np.ndarray, regions: Regions) -> np.ndarray:
    """Return the picture with the outlines of regions on it, black with a white rim."""
    drawn = Image.fromarray(picture)
    pen = ImageDraw.Draw(drawn)
    lines = [[tuple(place) for place in line] for line in regions.lines(picture.shape[1] / slide.width)]
    for width, colour in ((4, "white"), (2, "black")):
        for line in lines:
            pen.line(line, fill=colour, width=width, joint="curve")
    return np.asarray(drawn)


def heat_bar() -> np.ndarray:
    """Return the colours of probabilities from 1 down to 0, as they are over white, uint8 [256, 1, 3]."""
    return _mixed(np.full((256, 1, 3), _WHITE), _heat(np.linspace(1, 0, 256))[:, None], _HEAT_COVERS)


def _heat(values) -> np.ndarray:
    import matplotlib

    return matplotlib.colormaps["viridis"](np.asarray(values, float))[..., :3] * 255


def _mixed(picture, colours, share) -> np.ndarray:
    share = np.asarray(share)[..., None]
    return np.clip(np.rint((1 - share) * picture + share * colours), 0, 255).astype(np.uint8)
