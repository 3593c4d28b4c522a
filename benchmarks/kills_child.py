"""What each process of the campaign runs: one tiny training, begun or gone on with."""

from pathlib import Path

from bach_keras.training import progress
from bach_keras.training import train as training
from tests import few_phantoms as few


def train(folder: str) -> None:
    """Train carci on a few phantoms, or go on with the run that is there; the state is written after each epoch."""
    progress.STATE_SHARE = 1e9
    data, start = few.few_phantoms(), training.Start("none")
    training.train_or_go_on(data, "carci", start, few.RECIPE, Path(folder), say=lambda line: None)
