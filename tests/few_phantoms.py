"""A handful of phantoms and a network small enough to train in seconds, also outside pytest."""

import functools
import hashlib
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import tensorflow as tf

from bach_keras.recipe import Recipe
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
    # So small a network jumps where rounding has it, and with it a probe of few images: on some processors the loss of
    # eight rose fourfold long before the rate was too high.
    lr_bounds=(1e-6, 1.0),
    lr_probe=16,
    backbone=TINY,
)
# For what does not depend on the range test, which is half of so small a training.
NO_SWEEP = replace(RECIPE, range_test=False)


@functools.cache
def _small(name: str) -> np.ndarray:
    return phantom.draw_named(name)[::4, ::4].copy()


@dataclass(frozen=True)
class FewPhantoms:
    """Stands in for SplitData: two patients a class train, one validates, one tests."""

    config: str = "phantom"
    protocol: str = "patient"
    files: dict = field(default_factory=dict)
    labels: dict = field(default_factory=dict)
    origin: dict = field(default_factory=lambda: {"seed": 0, "patients_sha256": None, "note": ""})

    held_out = "test"
    data_dir = None

    @property
    def groups(self):
        return {name: name.split("-")[2] for name in self.labels}

    @property
    def prepared(self):
        digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in self.labels}
        return SimpleNamespace(digests=digests, scales=dict.fromkeys(self.labels))

    def digest(self, filenames):
        # A phantom follows from its name.
        return hashlib.sha256("".join(sorted(filenames)).encode()).hexdigest()

    def images(self, filenames):
        drawn = [_small(name) for name in filenames]
        return tf.data.Dataset.from_tensor_slices({
            "image": np.stack(drawn),
            "label": np.array([LABELS.index(self.labels[name]) for name in filenames], np.int64),
            "filename": np.array([name.encode() for name in filenames]),
        })  # fmt: skip


@dataclass(frozen=True)
class Copies(FewPhantoms):
    """The same images as a set of a user's own, so under other names."""

    config: str = "own-lab"

    @classmethod
    def of(cls, data):
        files = {split: [f"own-lab/{name}" for name in held] for split, held in data.files.items()}
        return cls(files=files, labels={f"own-lab/{name}": label for name, label in data.labels.items()})

    @property
    def groups(self):
        return {name: name.split("-")[3] for name in self.labels}

    @property
    def _originals(self) -> FewPhantoms:
        return FewPhantoms(labels={name.removeprefix("own-lab/"): label for name, label in self.labels.items()})

    @property
    def prepared(self):
        digests = self._originals.prepared.digests
        digests = {f"own-lab/{name}": digest for name, digest in digests.items()}
        return SimpleNamespace(digests=digests, scales=dict.fromkeys(self.labels))

    def images(self, filenames):
        found = self._originals.images([name.removeprefix("own-lab/") for name in filenames])
        return found.map(lambda record: record | {"filename": "own-lab/" + record["filename"]})


def training_records(data: FewPhantoms) -> list[dict]:
    """Return its training images as ``Prepared.load`` gives those of a data set."""
    records = data.images(data.files["train"]).as_numpy_iterator()
    groups = data.groups
    return [
        {**record, "group": groups[record["filename"].decode()].encode(), "source": b"phantom"} for record in records
    ]


def few_phantoms() -> FewPhantoms:
    """Draw eight images a class: four to train on, two to validate, two to test."""
    files, labels = {"train": [], "validation": [], "test": []}, {}
    for number, label in enumerate(CLASSES):
        for turn, split in enumerate(("train", "train", "validation", "test")):
            for index in range(2):
                name = phantom.filename(label, 4 * turn + number, index)
                files[split].append(name)
                labels[name] = label
    return FewPhantoms(files={name: sorted(held) for name, held in files.items()}, labels=labels)
