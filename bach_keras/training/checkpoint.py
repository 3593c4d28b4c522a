"""What a run keeps while it trains, so that an interrupted one resumes bit for bit.

Keras's BackupAndRestore does not: it saves no state of dropout, and restarts shuffled data at epoch 0.
"""

import contextlib
import json
import math
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import keras
import numpy as np

from bach_keras import run_fields
from bach_keras.fields import check, parse_object, plain
from bach_keras.run_folder import Run
from bach_keras.training import devices
from bach_keras.training.stops import Interrupted, writing
from datasets.errors import UserError
from datasets.whole import whole

# The column of an accuracy in which images count as they do in the loss; runs with class weights have it.
WEIGHTED_ACCURACY = "weighted_accuracy"

# Weights and momentum of ResNeXt-50 are 200 MB, and an epoch on a GPU takes seconds.
STATE_SHARE = 0.02


@dataclass
class Progress:
    """How far a run has come, and the state at the end of its last complete epoch."""

    epoch: int = 0  # epochs done
    peak: float = 0.0  # the present phase's peak rate
    phase: str = ""  # its name
    history: list[dict] = field(default_factory=list)  # the rows of history.csv
    best: dict = field(default_factory=dict)  # epoch, accuracy and loss of the best epoch
    seconds: float = 0.0  # what the epochs took, range tests included
    reached: bool = False  # whether the training loss to stop at is reached
    # Weights, then the optimizer's variables; empty before the first epoch.
    arrays: list[np.ndarray] = field(default_factory=list)

    def restore_weights(self, model):
        """Put the weights back into a new model; before the first epoch there are none."""
        there = [array.shape for array in self.arrays[: len(model.weights)]]
        if there and there != [tuple(weight.shape) for weight in model.weights]:
            raise UserError("The state of this run, state.npz, is of another network: start again with --overwrite.")
        # The optimizer's variables follow behind, and are of a phase that may be over.
        for variable, value in zip(model.weights, self.arrays, strict=False):
            variable.assign(value)

    def restore(self, model, optimizer):
        """Put the weights back, and the state of an optimizer of the same phase, whose variables are there."""
        variables = [*model.weights, *optimizer.variables]
        for variable, value in zip(variables, self.arrays, strict=True):
            variable.assign(value)


def load(run: Run) -> Progress:
    """Read how far a run has come; one without a state starts at the beginning."""
    path = run.state_path
    if not path.is_file():
        return Progress()
    try:
        # NumPy leaves a file open that turns out not to be an archive.
        with path.open("rb") as file, np.load(file) as state:
            words = _words(state)
            arrays = [state[f"arr_{index}"] for index in range(len(state.files) - 1)]
            return Progress(**words, arrays=arrays)
    except Exception as error:  # a damaged archive can raise nearly anything
        reason = plain(str(error), 200)
        raise UserError(f"{path} cannot be resumed from ({reason}): start again with --overwrite.") from error


def _words(state) -> dict:
    """Return a state without its arrays."""
    words = parse_object(str(state["words"]))
    check(words, run_fields.STATE)
    return words


def save(run: Run, progress: Progress) -> None:
    """Write the state in one file."""
    words = {name: value for name, value in vars(progress).items() if name != "arrays"}
    # One file holds weights and words, so that they are never of two epochs.
    with whole(run.state_path) as partial:
        np.savez(partial, *progress.arrays, words=np.array(json.dumps(words)))


def remove(run: Run) -> None:
    """Delete the state of a run that is finished."""
    run.state_path.unlink(missing_ok=True)


def forget_lost_best(run: Run, progress: Progress) -> None:
    """Let the next epoch be the best, where the best snapshot is of an epoch after the state.

    An exact replay writes the same snapshot again; one with changes need not.
    """
    later = run.history()[progress.epoch :] if run.has_history else []
    prefix = "val_" if later and "val_loss" in later[0] else ""
    rows = [ranked_by(row, prefix) for row in later]
    if rows and (not progress.best or max(map(standing, rows)) > standing(progress.best)):
        progress.best = {}
        save(run, progress)


def ranked_by(values: dict, prefix: str) -> dict:
    """Return the accuracy and the loss of an epoch that ``standing`` ranks it by, out of its row of history.csv."""
    # With class weights it is the weighted one, of the images that the prefix names.
    weighted = f"{prefix}{WEIGHTED_ACCURACY}"
    accuracy = values[weighted if weighted in values else f"{prefix}accuracy"]
    return {"accuracy": accuracy, "loss": values[f"{prefix}loss"]}


def standing(epoch: dict) -> tuple[float, float]:
    """Return what ranks epochs and runs: the accuracy, then the lower loss; a loss of NaN or infinity comes last."""
    accuracy, loss = float(epoch["accuracy"]), float(epoch["loss"])
    return accuracy, -loss if math.isfinite(loss) else -math.inf


class Checkpoint(keras.callbacks.Callback):
    """Writes, at each epoch's end, history.csv, the best and the cycles' snapshots, and the state to resume from.

    The state is left out after epochs so short that writing it would take more than ``state_share`` of the time; a run
    that is interrupted then repeats a few.
    """

    def __init__(self, run: Run, network, progress: Progress, cycle_ends: dict[int, str], state_share=STATE_SHARE):
        super().__init__()
        # This is the network itself; the model that is fitted may be another form of it, with folded layers.
        self.network = network
        self.run, self.progress, self.cycle_ends, self.state_share = run, progress, cycle_ends, state_share
        self._next_state = self._counted = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        progress = self.progress
        progress.epoch = epoch + 1
        # The range test before a phase counts too, as the clock runs from one epoch's end to the next.
        now = time.monotonic()
        progress.seconds += now - self._counted
        self._counted = now
        values = {name: float(value) for name, value in logs.items()}
        progress.history.append({"epoch": progress.epoch, "phase": progress.phase, **values})
        names = ["best"] if self._is_best(values) else []
        if progress.epoch in self.cycle_ends:
            names.append(self.cycle_ends[progress.epoch])
        if not devices.is_chief():
            return
        with writing(self.run.folder):
            # The network is never compiled: Keras would write the optimizer too, which the next phase cannot read.
            if names:
                self.run.write_snapshots(self.network, names)
            self.run.write_history(progress.history)
            # The state comes last. It counts the epoch as done, so all else of the epoch must be there.
            if time.monotonic() >= self._next_state:
                self._save_state()

    def _save_state(self):
        started = time.monotonic()
        variables = (*self.network.weights, *self.model.optimizer.variables)
        self.progress.arrays = [variable.numpy() for variable in variables]
        save(self.run, self.progress)
        # What this one took says how long the next may wait: disks differ by a hundred times.
        taken = time.monotonic() - started
        self._next_state = started + taken / self.state_share

    def _is_best(self, values) -> bool:
        """The best epoch has the higher validation accuracy, then the lower loss; without validation it is the last.

        In a run with class weights both are weighted.
        """
        prefix = "val_" if "val_loss" in values else ""
        now = {"epoch": self.progress.epoch, **ranked_by(values, prefix)}
        # Of equal epochs the first stays, so that a replay from the state chooses the same.
        best = self.progress.best
        if prefix and best and standing(now) <= standing(best):
            return False
        self.progress.best = now
        return True


class SeedDropout(keras.callbacks.Callback):
    """Gives each epoch dropout masks of its own, the same whether the run was resumed or not."""

    def __init__(self, seed: int, steps: int):
        super().__init__()
        self.seed, self.steps = seed, steps

    def on_epoch_begin(self, epoch, logs=None):
        seed_dropout(self.model, self.seed, epoch * self.steps)


def seed_dropout(model, seed: int, step: int):
    """Set the dropout layers' random state from (seed, step): Keras saves it nowhere."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    for number, layer in enumerate(layers):
        layer.seed_generator.state.assign([seed + number, step])


@contextlib.contextmanager
def interruptible(run: Run, data_dir) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a training with a sentence on what is kept and how to resume."""
    try:
        yield
    except KeyboardInterrupt as cause:
        raise interrupted(run, data_dir, cause) from cause


def interrupted(run: Run, data_dir, cause: KeyboardInterrupt) -> Interrupted:
    """Return what to raise where a run is interrupted: what is kept of it, and how to resume."""
    # Only the chief has written anything, and the others may still see its folder.
    if devices.is_chief():
        run.remove_unfinished()
    if run.is_finished:
        return Interrupted(f"Interrupted: {run.folder} had just finished.", "Nothing is left to train.", cause)
    epoch = 0
    if run.state_path.is_file():
        with np.load(run.state_path) as state:
            epoch = _words(state)["epoch"]
    snapshots = ", ".join(run.snapshots)
    if epoch:
        kept = f"{run.folder} keeps the state after epoch {epoch} of {run.recipe.epochs}"
        kept += f" and the snapshots {snapshots}" if snapshots else ""
    else:
        kept = f"{run.folder} has no saved state yet, so it starts again from its first epoch"
        kept += f"; it keeps the snapshots {snapshots}" if snapshots else ""
    words = ["python", "cli.py", "train", "--node", run.node, "--run-dir", str(run.folder), "--resume"]
    words += ["--data-dir", str(data_dir)] if data_dir else []
    where = " on every host" if devices.hosts() > 1 else ""
    return Interrupted(f"Interrupted: {kept}.", f"Resume{where} with: {shlex.join(words)}", cause)
