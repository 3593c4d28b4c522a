"""A tree of three tiny runs on a handful of phantoms, trained once for all tests that read runs."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import tensorflow as tf

from bach_keras.training import train as training
from bach_keras.training.recipe import Recipe
from datasets import phantom
from datasets.labels import CLASSES, LABELS

TINY = {"blocks": (1, 1, 1, 1), "cardinality": 2, "base_width": 4, "stem": 8}
RECIPE = Recipe(
    image_size=32,
    batch_size=4,
    head_epochs=1,
    cycles=2,
    cycle_epochs=1,
    lr=0.01,
    lr_steps=30,
    lr_bounds=(1e-5, 1.0),
    backbone=TINY,
)


@dataclass(frozen=True)
class FewPhantoms:
    """Stands in for SplitData: two patients a class train, one validates, one tests."""

    config: str = "phantom"
    protocol: str = "patient"
    files: dict = field(default_factory=dict)
    labels: dict = field(default_factory=dict)

    def images(self, filenames):
        drawn = [phantom.draw_named(name)[::4, ::4] for name in filenames]
        return tf.data.Dataset.from_tensor_slices({
            "image": np.stack(drawn),
            "label": np.array([LABELS.index(self.labels[name]) for name in filenames], np.int64),
            "filename": np.array([name.encode() for name in filenames]),
        })  # fmt: skip


@pytest.fixture(scope="session")
def few_phantoms():
    files, labels = {"train": [], "validation": [], "test": []}, {}
    for number, label in enumerate(CLASSES):
        for turn, split in enumerate(("train", "train", "validation", "test")):
            for index in range(2):
                name = phantom.filename(label, 4 * turn + number, index)
                files[split].append(name)
                labels[name] = label
    return FewPhantoms(files={name: sorted(held) for name, held in files.items()}, labels=labels)


@pytest.fixture(scope="session")
def recipe():
    return RECIPE


@pytest.fixture(scope="session")
def tree_of_runs(few_phantoms, tmp_path_factory):
    """Return node name -> run folder: carci from random weights, its specialists from carci."""
    root = tmp_path_factory.mktemp("runs")
    folders = {}
    for node in ("carci", "norbe", "invis"):
        parent = training.runs.open_run(folders["carci"]) if folders else None
        start = training.Start(str(root / "carci"), parent=parent) if parent else training.Start("none")
        folders[node] = root / node
        training.train(few_phantoms, node, start, RECIPE, folders[node], say=lambda line: None)
    return folders


@pytest.fixture(scope="session")
def members(tree_of_runs):
    return [training.runs.load_member(node, str(folder)) for node, folder in tree_of_runs.items()]


@pytest.fixture(scope="session")
def exported(members, tmp_path_factory):
    from bach_keras.serving.export import export

    return export(members, tmp_path_factory.mktemp("models") / "tree" / "1")
