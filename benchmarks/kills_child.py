"""What each process of the campaign runs: one tiny training, started or resumed."""

from dataclasses import replace
from pathlib import Path

from bach_keras.training.train import finish
from tests.few_phantoms import RECIPE
from tests.trainings import AFTER_EVERY_EPOCH, job, start_at


def train(folder: str, parent: str | None) -> None:
    """Train on a few phantoms, or resume the run that is there.

    Without a parent it is carci from random weights at a given rate, its state written after each epoch. With one it is
    norbe from that run: the trunk frozen, the head first, both rates by range tests, and the state written as seldom
    as epochs this short have it.
    """
    if parent is None:
        finish(job(Path(folder)), state_share=AFTER_EVERY_EPOCH)
    else:
        finish(job(Path(folder), "norbe", start_at(Path(parent)), replace(RECIPE, lr=None)))
