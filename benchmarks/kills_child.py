"""What each process of the campaign runs: one tiny training, begun or gone on with."""

from dataclasses import replace
from pathlib import Path

from bach_keras import run_folder as runs
from bach_keras.training import checkpoint as progress
from bach_keras.training import train as training
from tests import few_phantoms as few


def train(folder: str, parent: str | None) -> None:
    """Train on a few phantoms, or go on with the run that is there.

    Without a parent carci from random weights at a given rate, its state written after each epoch. With one norbe
    from that run: the trunk frozen, the head first, both rates by range tests, and the state written as seldom as
    epochs this short have it.
    """
    data, recipe = few.few_phantoms(), few.RECIPE
    if parent is None:
        progress.STATE_SHARE = 1e9
        node, start = "carci", training.Start("none")
    else:
        recipe = replace(recipe, lr=None)
        node, start = "norbe", training.Start(parent, parent=Run.open(parent))
    training.train_or_go_on(data, node, start, recipe, Path(folder), say=lambda line: None)
