"""Small trainings on a few phantoms: complete, interrupted, and what they leave."""

import csv
from pathlib import Path

import keras
import pytest

from bach_keras.run_folder import Run
from bach_keras.training.job import Job
from bach_keras.training.start import Start
from bach_keras.training.train import create, train
from bach_keras.tree import NODES
from tests.few_phantoms import RECIPE, few_phantoms

RANDOM = Start("none")
AFTER_EVERY_EPOCH = 1e9  # the share of the time that the state may take, so that it is written however short the epochs


def job(folder: Path, node: str = "carci", start: Start = RANDOM, recipe=RECIPE, data=None, **options) -> Job:
    return Job(NODES[node], data or few_phantoms(), start, recipe, Path(folder), **options)


def trained(planned: Job, **options) -> dict:
    """Train a job in a new run folder, and return its metrics."""
    return train(planned, create(planned), **options)


def start_at(folder: Path) -> Start:
    """Return the start from a finished run."""
    return Start(str(folder), parent=Run.open(folder))


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C right after an epoch's end, when the epoch is kept."""

    def __init__(self, after: int):
        super().__init__()
        self.after = after

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.after:
            raise KeyboardInterrupt


def interrupted(planned: Job, after: int = 1) -> Run:
    """Train a job until an epoch's state is written, and return the run."""
    with pytest.raises(KeyboardInterrupt):
        trained(planned, callbacks=[Interrupt(after)], state_share=AFTER_EVERY_EPOCH)
    return Run.open(planned.folder)


def history(folder: Path) -> list[dict]:
    with (folder / "history.csv").open() as file:
        return [{**row, "loss": float(row["loss"])} for row in csv.DictReader(file)]


def weights(folder: Path) -> list:
    return Run.open(folder).read_model().get_weights()
