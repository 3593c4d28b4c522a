"""The commands of the campaign: how each is given, what it needs, what it makes."""

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets import phantom
from datasets.labels import CLASSES

_DATA = ("--data-dir", "data")
_IMAGES = ("--config", "own-few", *_DATA)
_RUNS = tuple(word for node in ("carci", "norbe", "invis") for word in (f"--{node}", f"runs/{node}"))
_TRAIN = ("train", "--node", "carci", *_IMAGES, "--init", "none", "--no-range-test", "--run-dir", "runs/new")
_EXPORT = ("export", *_RUNS)
_OWN = ("data", "prepare", "--config", "own", "--name", "few", "--source", "source", *_DATA)
_EVALUATE = ("evaluate", *_RUNS, *_IMAGES, "--out")
# The folder, in the base, of the results of other work.
OLD = "old"


@dataclass(frozen=True)
class Command:
    """A command of the campaign."""

    name: str
    words: tuple[str, ...]
    needs: tuple[str, ...]  # files and folders that are there before it
    makes: tuple[str, ...]  # those that are its result
    resume: tuple[str, ...] | None = None  # the words that its own sentence names for an interrupted one
    damages: tuple[str, ...] = ()  # which of the files that it needs are damaged, as patterns; all where there are none
    dated: tuple[str, ...] = ()  # of what it needs, that whose time of change is part of the result
    is_slow: bool = False  # it starts processes that load TensorFlow again
    old: tuple[str, ...] = ()  # what is there under the names of its result, of other work
    replaces_at_once: bool = False  # all of that, or nothing

    @property
    def over(self) -> tuple[str, ...]:
        """The words that replace what is there."""
        return self.words if "--overwrite" in self.words else (*self.words, "--overwrite")


COMMANDS = {
    command.name: command
    for command in (
        Command("prepare phantom", ("data", "prepare", "--config", "phantom", *_DATA), (), ("data",)),
        Command("prepare own", _OWN, ("source",), ("data",), damages=("source/labels.csv", "source/0*.png")),
        Command("prepare own --overwrite", (*_OWN, "--overwrite"), ("source",), ("data",), old=("data",),
                replaces_at_once=True),
        Command("lr-find", ("lr-find", "--node", "carci", *_IMAGES, "--init", "none", "--out", "rates"),
                ("data",), ("rates",)),
        Command("train", _TRAIN, ("data",), ("runs",),
                resume=(*_TRAIN[:3], "--run-dir", "runs/new", "--resume", *_DATA)),
        Command("calibrate", ("calibrate", *_RUNS, *_DATA, "--out", "thresholds.json"),
                ("data", "runs"), ("thresholds.json", "runs"), damages=("runs/carci/*",)),
        Command("evaluate", (*_EVALUATE, "scores"), ("data", "runs"), ("scores",),
                damages=("runs/norbe/*", "runs/norbe/snapshots/best*")),
        Command("evaluate over another", (*_EVALUATE, "scores"), ("data", "runs"), ("scores",), old=("scores",)),
        Command("export", (*_EXPORT, "--out", "model/1"), ("runs",), ("model",), damages=("runs/invis/*",)),
        Command("export --overwrite", (*_EXPORT, "--out", "model/1", "--overwrite"), ("runs",), ("model",),
                old=("model",), replaces_at_once=True),
        Command("export --tflite", (*_EXPORT, "--tflite", "tree.tflite", "--calibration", "images"),
                ("images", "runs"), ("tree.tflite",), damages=("runs/invis/model.keras",)),
        Command("predict", ("predict", "--model", "model/1", "--format", "csv", "--explain", "pictures", "images"),
                ("model", "images"), ("pictures",)),
        Command("slide", ("slide", "--model", "model/1", "--um-per-pixel", "1", "--field", "96", "--out", "maps",
                          "slide.tiff"),
                ("model", "slide.tiff"), ("maps",), damages=("slide.tiff", "model/1/assets/*")),
        Command("bulk", ("bulk", "--model", "model/1", "--input", "images", "--out", "answers", "--workers", "1",
                         "--batch-size", "2", "--shard-size", "4"),
                ("model", "images"), ("answers",), damages=("images/0.png", "model/1/variables/*"),
                dated=("images",), is_slow=True),
    )
}  # fmt: skip

# What is made, in this order, for the commands to need.
_BASE = (
    _OWN,
    ("train", "--node", "carci", *_IMAGES, "--init", "none", "--no-range-test", "--run-dir", "runs/carci"),
    ("train", "--node", "norbe", *_IMAGES, "--init", "runs/carci", "--no-range-test", "--run-dir", "runs/norbe"),
    ("train", "--node", "invis", *_IMAGES, "--init", "runs/carci", "--no-range-test", "--run-dir", "runs/invis"),
    (*_EXPORT, "--out", "model/1"),
    (*_OWN[:7], f"{OLD}/source", "--data-dir", f"{OLD}/data"),
    # Carci counts half in these.
    ("export", "--carci", "runs/carci:0.5", *_RUNS[2:], "--out", f"{OLD}/model/1"),
    ("evaluate", "--carci", "runs/carci:0.5", *_RUNS[2:], *_IMAGES, "--out", f"{OLD}/scores"),
)  # fmt: skip
PATIENTS = 80


def make_base(folder: Path, run) -> None:
    """Make what the commands need: images of 80 patients, a prepared set, three runs, their export, and a slide.

    ``run`` gives a command there, and raises where it fails.
    """
    draw_sources(folder, PATIENTS)
    draw_sources(folder / OLD, PATIENTS // 2)
    for words in _BASE:
        run(words)
    for path in folder.rglob(".*.lock"):
        path.unlink()


def draw_sources(folder: Path, patients: int) -> None:
    """Write a folder of images with a list of their labels and patients, nine images to answer, and a slide."""
    source, images = folder / "source", folder / "images"
    source.mkdir(parents=True)
    images.mkdir()
    rows = [("path", "label", "patient")]
    for patient in range(patients):
        label = CLASSES[patient % len(CLASSES)]
        rows.append((f"{patient:03d}.png", label, f"p{patient}"))
        Image.fromarray(phantom.draw(label, patient, 0)[::4, ::4]).save(source / rows[-1][0])
    with (source / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    for number in range(9):
        shutil.copy(source / f"{number:03d}.png", images / f"{number}.png")
    tiles = [phantom.draw(CLASSES[number % 4], 300 + number, 0) for number in range(4)]
    Image.fromarray(np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])).save(folder / "slide.tiff")
