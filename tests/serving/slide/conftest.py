"""Slides in memory, and a model that answers by colour: a second for hundreds of tiles."""

import json
from pathlib import Path

import numpy as np
import pytest

from bach_keras.serving.answers import TREE
from bach_keras.serving.images import as_seen
from bach_keras.serving.slide.plan import Asked
from bach_keras.serving.slide.work import answer_slides
from bach_keras.tree import NODES, products
from datasets.errors import UserError
from datasets.images.scale import Scale
from datasets.labels import CLASSES
from datasets.slides.slide import Level

# Colours of stained tissue, one for each class, and those around it.
COLOURS = dict(zip(CLASSES, [(230, 150, 190), (190, 110, 180), (150, 90, 170), (110, 70, 150)], strict=True))
GLASS = (245, 244, 246)


class MemorySlide:
    """A slide with levels of 1, 2 and 4, whose windows are counted; those that touch a damaged place are refused."""

    def __init__(self, path: Path, pixels: np.ndarray, um_per_pixel: float | None, damaged=()):
        self.path, self._pixels, self._damaged = path, pixels, damaged
        height, width = pixels.shape[:2]
        self.levels = tuple(Level(-(-width // each), -(-height // each), float(each)) for each in (1, 2, 4))
        self.scale = um_per_pixel and Scale(um_per_pixel, "the test")
        self.absurd_scale = self.series = None
        self.windows = []

    def read(self, x, y, width, height, downsample=1.0):
        self.windows.append((x, y, width, height, downsample))
        for place_x, place_y in self._damaged:
            if x <= place_x < x + width and y <= place_y < y + height:
                raise UserError(f"{self.path} is damaged at {place_x}, {place_y}.")
        step = max(int(level.downsample) for level in self.levels if level.downsample <= max(1, downsample))
        return np.ascontiguousarray(self._pixels[y : y + height : step, x : x + width : step])

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


class ColourModel:
    """A tree that is sure of a tile of one colour, and less sure the more it is mixed; it counts what it is asked."""

    side, views, nodes, outputs, ranges, calibration = 32, 1, tuple(NODES), TREE, None, None
    configs, warnings, digest, card = ("phantom",), (), "1" * 64, {"name": "colours"}

    def __init__(self):
        self.asked, self.fails_after = 0, None

    def prepared(self, pixels):
        return as_seen(pixels, self.side)

    def classify(self, images, routing="soft"):
        if self.fails_after is not None and self.asked >= self.fails_after:
            raise KeyboardInterrupt
        self.asked += len(images)
        colours = np.array(list(COLOURS.values()), float)
        near = [np.square(image[..., None, :] - colours).sum(-1).argmin(-1) for image in images]
        shares = np.array([[np.mean(each == index) for index in range(4)] for each in near]) + 1e-6
        shares /= shares.sum(axis=1, keepdims=True)
        carci = np.stack([shares[:, :2].sum(1), shares[:, 2:].sum(1)], axis=1)
        pairs = {"norbe": shares[:, :2] / carci[:, :1], "invis": shares[:, 2:] / carci[:, 1:]}
        group = carci
        if routing == "routed":
            group = np.eye(2)[carci.argmax(1)]
            pairs = {name: pair * group[:, [index]] for index, (name, pair) in enumerate(pairs.items())}
        probabilities = np.concatenate(products(group if routing == "soft" else np.ones_like(group), pairs), axis=1)
        labels = [CLASSES[index].encode() for index in probabilities.argmax(1)]
        return {
            "probabilities": probabilities.astype(np.float32), "carci": carci.astype(np.float32), "label": labels,
            **{name: pair.astype(np.float32) for name, pair in pairs.items()}, "ok": [True] * len(images),
        }  # fmt: skip


def painted(blocks: list[str], side: int) -> np.ndarray:
    """Paint a slide of square blocks: a letter each, n, b, i and v for the classes, a space for glass."""
    letters = dict(zip("nbiv", COLOURS.values(), strict=True)) | {" ": GLASS}
    colours = np.array([[letters[letter] for letter in row] for row in blocks], np.uint8)
    return colours.repeat(side, axis=0).repeat(side, axis=1)


@pytest.fixture
def model():
    return ColourModel()


@pytest.fixture
def slides(tmp_path, monkeypatch):
    """Return what makes a slide: of a name, pixels and a scale. At 6.4512 micrometres a tile has 100 pixels."""
    known = {}

    def make(name, pixels, um_per_pixel=6.4512, damaged=()):
        path = tmp_path / name
        path.write_bytes(pixels.tobytes()[: 2**16])
        known[path] = MemorySlide(path, pixels, um_per_pixel, damaged)
        return path

    def opened(path):
        if path not in known:
            raise UserError(f"{path} is not there.")
        return known[path]

    make.opened = known
    for room in ("plan", "work"):
        monkeypatch.setattr(f"bach_keras.serving.slide.{room}.open_slide", opened)
    return make


def _maps(folder, slide):
    for name in ("classes.png", "classes.ome.tiff", "probabilities.png", "probabilities.ome.tiff"):
        (folder / name).write_text(f"{len(slide.tiles)} tiles")


def _page(path, slide, summary, regions):
    path.write_text(json.dumps(summary))


@pytest.fixture
def answer(model, tmp_path, monkeypatch):
    """Return what answers for slides, by the model, into a folder; pictures, which take a second, are not drawn."""
    outputs = "bach_keras.serving.slide.outputs"
    monkeypatch.setattr(f"{outputs}.write_maps", _maps)
    monkeypatch.setattr(
        f"{outputs}.write_page", lambda path, slide, summary, regions: path.write_text(json.dumps(summary))
    )

    def run(*paths, export=model, **asked):
        return list(answer_slides(export, paths, tmp_path / "out", Asked(**asked)))

    return run
