"""The maps of a slide as files: what a person looks at (PNG) and what other programs read (OME-TIFF)."""

import math
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bach_keras.serving.slide import pictures
from bach_keras.serving.slide.colours import COLOURS, FAILED, css
from bach_keras.serving.slide.ome import write_class_ome, write_ome
from bach_keras.serving.slide.raster import Raster, raster
from bach_keras.serving.slide.tiles import AnsweredSlide
from bach_keras.wording import counted
from datasets.escape import for_xml
from datasets.whole import whole

# Of the longer side of a map in a picture, in pixels.
LONGER_SIDE, PANEL_SIDE = 1200, 480

_DPI, _EDGE, _LINE, _LEAST_WIDTH, _BAR = 100, 16, 22, 640, 90
# A slide this many times as tall as wide has its panels side by side.
_TALL = 1.6


def write_maps(folder: Path, slide: AnsweredSlide) -> None:
    """Write the classes and the probabilities, each as PNG and as OME-TIFF, and each file whole or not at all."""
    made = raster(slide)
    write_classes(folder / "classes.png", slide, made)
    write_probabilities(folder / "probabilities.png", slide, made)
    write_ome(folder / "probabilities.ome.tiff", slide, made)
    write_class_ome(folder / "classes.ome.tiff", slide, made)


def write_classes(path: Path, slide: AnsweredSlide, made: Raster) -> None:
    """Write the class of each tile on white, in the slide's ratio of sides, over a legend."""
    height, width = pictures.sides(slide, LONGER_SIDE)
    white = np.full((height, width, 3), 255, np.uint8)
    lines = 3 if made.unsure.any() or made.failed.any() else 2
    sheet = _Sheet(max(width, _LEAST_WIDTH) + 2 * _EDGE, height + 2 * _EDGE + lines * _LINE)
    sheet.image(pictures.of_classes(slide, made, white, covers=1), _EDGE, _EDGE, frame=True)
    top = height + 2 * _EDGE
    sheet.legend(slide, top, made)
    sheet.scale_bar(slide, width, sheet.height - _LINE)
    sheet.save(path, slide, "Class of each tile")


def write_probabilities(path: Path, slide: AnsweredSlide, made: Raster) -> None:
    """Write a panel for carcinoma and for each class: the slide in pale grey, under the probability."""
    picture = pictures.thumbnail(slide, PANEL_SIDE)
    height, width = picture.shape[:2]
    shown = pictures.probabilities(slide, made)
    across = min(len(shown), 5 if height > _TALL * width else 3)
    down = -(-len(shown) // across)
    cell_width, cell_height = max(width, 190) + _EDGE, height + _LINE + _EDGE
    given = pictures.given_carci(slide)
    lines = [*_wrapped(given, across * cell_width + _BAR)] if given else []
    foot = _EDGE + down * cell_height
    sheet = _Sheet(max(_EDGE + across * cell_width + _BAR, _LEAST_WIDTH), foot + (1 + len(lines)) * _LINE)
    for index, (name, values) in enumerate(shown.items()):
        left, top = _EDGE + index % across * cell_width, _EDGE // 2 + index // across * cell_height
        sheet.text(left, top + 4, f"Probability of {name}", size=11)
        sheet.image(pictures.of_probability(slide, made, picture, values), left, top + _LINE, frame=True)
    sheet.heat_bar(_EDGE + across * cell_width, _EDGE // 2 + _LINE, min(height, 260))
    for index, line in enumerate(lines):
        sheet.text(_EDGE, foot + index * _LINE, line)
    sheet.scale_bar(slide, width, sheet.height - _LINE)
    sheet.save(path, slide, "Probability of each class")


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(40, width // 7))  # pixels of a letter


@dataclass
class _Sheet:
    """A white sheet of pixels, drawn on by matplotlib; places are from the top left corner."""

    width: int
    height: int

    def __post_init__(self):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._figure = Figure(figsize=(self.width / _DPI, self.height / _DPI), dpi=_DPI, facecolor="white")
        FigureCanvasAgg(self._figure)

    def _axes(self, left, top, width, height):
        bottom = self.height - top - height
        return self._figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height), zorder=2
        )

    def image(self, pixels, left: int, top: int, frame: bool = False) -> None:
        height, width = pixels.shape[:2]
        if frame:
            self.box(left - 1, top - 1, width + 2, height + 2, "#8a8a8a")
        axes = self._axes(left, top, width, height)
        axes.imshow(pixels, interpolation="nearest", aspect="auto")
        axes.set_axis_off()

    def box(self, left, top, width, height, colour: str, **look) -> None:
        from matplotlib.patches import Rectangle

        place = (left / self.width, 1 - (top + height) / self.height)
        size = (width / self.width, height / self.height)
        style = {"facecolor": colour, "linewidth": 0, "antialiased": False} | look
        self._figure.add_artist(Rectangle(place, *size, transform=self._figure.transFigure, **style))

    def text(self, left, top, text: str, size: float = 9, colour: str = "#222222") -> float:
        """Write a line whose letters begin there, and return how many pixels wide it is."""
        drawn = self._figure.text(
            left / self.width, 1 - top / self.height, text, fontsize=size, color=colour, va="top", parse_math=False
        )
        return drawn.get_window_extent().width

    def legend(self, slide, top, made: Raster) -> None:
        left = _EDGE
        for name in slide.classes:
            self.box(left, top + 1, 14, 14, css(COLOURS[name]))
            left += 20 + self.text(left + 20, top + 2, name) + 18
        self.box(left, top + 1, 14, 14, "white", edgecolor="#8a8a8a", linewidth=0.8)
        self.text(left + 20, top + 2, "not asked")
        left, top = _EDGE, top + _LINE
        if made.unsure.any():
            self.box(left, top + 1, 14, 14, "white", edgecolor="#444444", linewidth=0.5, hatch="//////")
            left += 20 + self.text(left + 20, top + 2, "striped: the tree is unsure") + 18
        if made.failed.any():
            self.box(left, top + 1, 14, 14, css(FAILED))
            self.text(left + 20, top + 2, "could not be answered")

    def scale_bar(self, slide, width: int, top) -> None:
        """Draw how long a round number of millimetres is on a map that is so wide, and the scale behind it."""
        millimetres = slide.width * slide.scale.value / 1000
        length = _round_below(millimetres / 4)
        pixels = length / millimetres * width
        self.box(_EDGE, top + 8, pixels, 3, "#222222")
        label = f"{length:g} mm" if length >= 0.1 else f"{1000 * length:g} µm"
        after = _EDGE + pixels + 8
        after += self.text(after, top + 3, label) + 18
        source = _drawable(slide.scale.source)
        said = f"{slide.scale.value:.4g} µm a pixel, from {source}; tiles of {slide.field:.4g} µm"
        self.text(after, top + 3, said, colour="#555555")

    def heat_bar(self, left, top, height) -> None:
        axes = self._axes(left, top, 16, height)
        axes.imshow(pictures.heat_bar(), aspect="auto", extent=(0, 1, 0, 1))
        axes.set_xticks([])
        axes.yaxis.tick_right()
        axes.set_yticks([0, 0.5, 1])

    def save(self, path, slide, title: str) -> None:
        failed = sum(each.failed for each in slide.tiles)
        about = {
            "Title": f"{title}: {for_xml(slide.name)}",
            "Description": f"{counted(len(slide.tiles) - failed, 'tile')}, {failed} with an error left out; "
            f"{slide.scale.value:g} um a pixel of the slide, from {for_xml(slide.scale.source)}",
        }
        with whole(path) as partial:
            self._figure.savefig(partial, format="png", dpi=_DPI, metadata=about)


def _round_below(value: float) -> float:
    """Return the greatest of 1, 2 and 5 times a power of ten that is not greater."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (5, 2, 1) if step * power <= value * (1 + 1e-9))


def _drawable(text: str) -> str:
    """Return text that every font has."""
    return for_xml(text).encode("ascii", "replace").decode()
