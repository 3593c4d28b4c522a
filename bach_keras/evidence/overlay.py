"""Pictures of where a network looked: its map over the image, in place, with the map's scale beside it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bach_keras.network.grad_cam import STRIDE
from datasets.whole import whole

# Of the longer side of the image as it is drawn, in pixels.
LONGER_SIDE = 640
# How much of the picture the map's colour covers where the map is 1; it covers nothing where it is 0.
COVERS = 0.7
# What the network did not see is mixed with white, so much of it.
PALE = 0.65
# Of the line around what it saw, a grey that shows on white and on black.
_LINE = 110

_DPI, _EDGE, _TOP, _BOTTOM, _BAR, _LEAST_WIDTH = 100, 12, 36, 28, 80, 400
_NOTE = "1: most for this class; pale: not seen by the network"


@dataclass(frozen=True)
class Picture:
    """An image as it is drawn, uint8 [H, W, 3], and the sides that it had."""

    pixels: np.ndarray
    height: int
    width: int


def small(pixels: np.ndarray) -> Picture:
    """Scale an image, uint8 [H, W, 3], to the size in which it is drawn."""
    height, width = pixels.shape[:2]
    scale = LONGER_SIDE / max(height, width)
    sides = max(1, round(width * scale)), max(1, round(height * scale))
    return Picture(np.asarray(Image.fromarray(pixels).resize(sides, Image.Resampling.BOX)), height, width)


def in_place(found: np.ndarray, picture: Picture, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Lay a map over the picture of its image.

    Args:
        found: float [h, w], of the central square that ``preprocess.square`` makes of the image.
        image_size: the side of that square.

    Returns:
        float [H, W], between the centres of the map's cells bilinear and beyond the outermost as these, and bool
        [H, W]: whether the network saw a pixel. Both have the picture's sides.
    """
    (down, right), seen = _laid(found, picture, image_size)
    return down @ found @ right.T, seen[0][:, None] & seen[1]


def _laid(found, picture, image_size) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return for each axis the share of each cell in a pixel of the picture, [H, h] and [W, w], and what was seen."""
    sides = (picture.height, picture.width)
    weights, seen = [], []
    for side, drawn, cells in zip(sides, picture.pixels.shape[:2], found.shape, strict=True):
        resized = (2 * side * image_size + min(sides)) // (2 * min(sides))  # as preprocess.resize_shorter has it
        first = (resized - image_size) // 2
        # Where the pixels of the picture lie in the square, whose first pixel has its centre at 0.
        places = (np.arange(drawn) + 0.5) * resized / drawn - 0.5 - first
        seen.append((places >= -0.5) & (places < image_size - 0.5))
        distance = np.abs(np.clip(places / STRIDE, 0, cells - 1)[:, None] - np.arange(cells))
        weights.append(np.maximum(0, 1 - distance))
    return weights, seen


def drawn(found: np.ndarray, picture: Picture, image_size: int) -> np.ndarray:
    """Return the picture with the map in its colours, uint8 [H, W, 3]; the arguments are those of ``in_place``."""
    values, seen = in_place(found, picture, image_size)
    pale = (1 - PALE) * picture.pixels + PALE * 255
    pale[_around(seen)] = _LINE
    mixed = np.where(seen[..., None], _coloured(picture.pixels, values), pale)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _around(seen):
    """Return the pixels outside a rectangle that touch it, bool [H, W]."""
    rows, columns = (seen.any(axis=axis) for axis in (1, 0))
    wider = [side | np.append(side[1:], False) | np.insert(side[:-1], 0, False) for side in (rows, columns)]
    return wider[0][:, None] & wider[1] & ~seen


def layer(found: np.ndarray, picture: Picture, image_size: int, step: int = 1) -> tuple[np.ndarray, tuple[float, ...]]:
    """Return a map in its colours, to be laid over the picture by whoever shows both.

    The arguments are those of ``in_place``; a pixel is as large as ``step`` x ``step`` of the picture's, which takes as
    many times less and cannot be seen of a map of few cells.

    Returns:
        uint8 [h, w, 4], of what the network saw; its opacity is the map. At ``COVERS`` of that opacity the two together
        are what ``drawn`` returns. And where it lies: left, top, width and height as shares of the picture's.
    """
    weights, seen = _laid(found, picture, image_size)
    rows, columns = map(np.flatnonzero, seen)
    down, right = (_spread(each, places, step) for each, places in zip(weights, (rows, columns), strict=True))
    values = np.clip(down @ found @ right.T, 0, 1)
    height, width = picture.pixels.shape[:2]
    place = (columns[0] / width, rows[0] / height, len(columns) / width, len(rows) / height)
    colours = np.concatenate([_colours(values), 255 * values[..., None]], axis=2)
    return np.rint(colours).astype(np.uint8), tuple(map(float, place))


def _spread(weights: np.ndarray, places: np.ndarray, step: int) -> np.ndarray:
    """Return the weights in the middle of pixels that are about ``step`` times as long, of the places seen."""
    count = -(-len(places) // step)
    return weights[places[((np.arange(count) + 0.5) * len(places) / count).astype(int)]]


def write(path: Path, picture: np.ndarray, title: str) -> None:
    """Write what ``drawn`` returned as a PNG file with a title and the scale of the colours, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = picture.shape[:2]
    whole_width = max(_LEAST_WIDTH, width + 2 * _EDGE + _BAR)
    tall = max(height, 120)  # the scale of a long, flat image needs room for its numbers
    whole_height = tall + _TOP + _BOTTOM
    figure = Figure(figsize=(whole_width / _DPI, whole_height / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)

    def axes(left, bottom, wide, high):
        return figure.add_axes((left / whole_width, bottom / whole_height, wide / whole_width, high / whole_height))

    image = axes(_EDGE, _BOTTOM + tall - height, width, height)
    image.imshow(picture, interpolation="nearest", aspect="auto")
    image.set_axis_off()
    bar = axes(_EDGE + width + 16, _BOTTOM, 16, tall)
    steps = np.linspace(1, 0, 256)[:, None]
    scale = _coloured(np.full((256, 1, 3), 255.0), steps)
    bar.imshow(scale.astype(np.uint8), aspect="auto", extent=(0, 1, 0, 1))
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.set_yticks([0, 0.5, 1])
    figure.text(_EDGE / whole_width, 1 - 24 / whole_height, title, fontsize=11, parse_math=False)
    figure.text(_EDGE / whole_width, 9 / whole_height, _NOTE, fontsize=8, color="#555555")
    with whole(path) as partial:
        figure.savefig(partial, format="png", dpi=_DPI)


def _coloured(pixels, values):
    """Mix pixels [H, W, 3] with the map's colours, the more the larger its value."""
    share = COVERS * np.asarray(values)[..., None]
    return (1 - share) * pixels + share * _colours(values)


def _colours(values):
    import matplotlib

    return matplotlib.colormaps["viridis"](values)[..., :3] * 255
