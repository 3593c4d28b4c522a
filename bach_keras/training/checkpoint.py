"""What a run keeps while it trains, so that nothing is lost when it is cut."""

import json
import math
import os
import re
import shlex
import shutil
import time
from dataclasses import dataclass, field

import keras
import numpy as np

from bach_keras import run_fields
from bach_keras import run_folder as runs
from bach_keras.fields import check, parse_object, plain
from bach_keras.training import devices as strategy
from bach_keras.training.stops import Interrupted, writing
from datasets.errors import UserError


@dataclass
class Progress:
    """How far a run has come, and the state at the end of its last whole epoch.

    Attributes:
        epoch: epochs done.
        peak: the present phase's peak rate.
        phase: its name.
        history: the rows of history.csv.
        best: epoch, accuracy and loss of the best epoch.
        seconds: what the epochs took, range tests included.
        reached: whether the training loss it was to stop at is reached.
        arrays: weights, then the optimizer's variables; empty before the first epoch.
    """

    epoch: int = 0
    peak: float = 0.0
    phase: str = ""
    history: list[dict] = field(default_factory=list)
    best: dict = field(default_factory=dict)
    seconds: float = 0.0
    reached: bool = False
    arrays: list[np.ndarray] = field(default_factory=list)

    def restore_weights(self, model):
        """Put the weights back into a new model; nothing is done before the first epoch."""
        there = [array.shape for array in self.arrays[: len(model.weights)]]
        if there and there != [tuple(weight.shape) for weight in model.weights]:
            raise UserError("The state of this run, state.npz, is of another network: start again with --overwrite.")
        for variable, value in zip(model.weights, self.arrays, strict=False):
            variable.assign(value)

    def restore(self, model, optimizer):
        """Put the weights back, and the state of an optimizer of the same phase."""
        optimizer.build(model.trainable_variables)
        variables = [*model.weights, *optimizer.variables]
        for variable, value in zip(variables, self.arrays, strict=True):
            variable.assign(value)


# Weights and momentum of ResNeXt-50 are 200 MB, and an epoch on a GPU takes seconds.
STATE_SHARE = 0.02


def standing(epoch: dict) -> tuple[float, float]:
    """Return what ranks epochs and runs: the accuracy, then the lower loss; one that is no number comes last."""
    accuracy, loss = float(epoch["accuracy"]), float(epoch["loss"])
    return accuracy, -loss if math.isfinite(loss) else -math.inf


class Keeper(keras.callbacks.Callback):
    """At each epoch's end: history.csv, the best and the cycles' snapshots, and the state to resume from.

    The state is left out after epochs so short that writing it would take more
    than ``STATE_SHARE`` of the time; a run that is cut then repeats a few.
    """

    def __init__(self, run: runs.Run, network, progress: Progress, cycle_ends: dict[int, str]):
        super().__init__()
        # The whole network, of which the model that is fitted may be another form.
        self.run, self.network, self.progress, self.cycle_ends = run, network, progress, cycle_ends
        self._next_state = self._counted = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        progress = self.progress
        progress.epoch = epoch + 1
        now = time.monotonic()
        progress.seconds += now - self._counted
        self._counted = now
        values = {name: float(value) for name, value in logs.items()}
        progress.history.append({"epoch": progress.epoch, "phase": progress.phase, **values})
        names = ["best"] if self._is_best(values) else []
        if progress.epoch in self.cycle_ends:
            names.append(self.cycle_ends[progress.epoch])
        if not strategy.is_chief():
            return
        with writing(self.run.folder):
            if names:
                self._snapshot(names)
            runs.write_history(self.run.folder / "history.csv", progress.history)
            if time.monotonic() >= self._next_state:
                self._save_state()

    def _save_state(self):
        begun = time.monotonic()
        variables = (*self.network.weights, *self.model.optimizer.variables)
        self.progress.arrays = [variable.numpy() for variable in variables]
        save(self.run, self.progress)
        taken = time.monotonic() - begun
        self._next_state = begun + taken / STATE_SHARE

    def _is_best(self, values) -> bool:
        """The higher validation accuracy, then the lower loss; without validation the last epoch."""
        prefix = "val_" if "val_loss" in values else ""
        now = {
            "epoch": self.progress.epoch,
            "accuracy": values[f"{prefix}accuracy"],
            "loss": values[f"{prefix}loss"],
        }
        best = self.progress.best
        if prefix and best and standing(now) <= standing(best):
            return False
        self.progress.best = now
        return True

    def _snapshot(self, names: list[str]):
        """Write the weights once, under one or two names."""
        folder = self.run.folder / "snapshots"
        written = folder / ".part.weights.h5"
        # The network itself is never compiled: Keras would write the optimizer too, which the next phase's cannot read.
        self.network.save_weights(written)
        for name in names:
            partial = folder / f".part-{name}.weights.h5"
            partial.unlink(missing_ok=True)
            try:
                os.link(written, partial)
            except OSError:  # a file system without links
                shutil.copyfile(written, partial)
            partial.replace(folder / f"{name}.weights.h5")
        written.unlink()


def seed_dropout(model, seed: int, step: int):
    """Set the dropout layers' random state from (seed, step): Keras saves it nowhere."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    for number, layer in enumerate(layers):
        layer.seed_generator.state.assign([seed + number, step])


class Dropout(keras.callbacks.Callback):
    """Gives each epoch dropout masks of its own, the same whether the run was resumed or not."""

    def __init__(self, seed: int, steps: int):
        super().__init__()
        self.seed, self.steps = seed, steps

    def on_epoch_begin(self, epoch, logs=None):
        seed_dropout(self.model, self.seed, epoch * self.steps)


def save(run: runs.Run, progress: Progress) -> None:
    """Write the state in one file, whole or not at all."""
    words = {name: value for name, value in vars(progress).items() if name != "arrays"}
    partial = run.folder / ".part.state.npz"
    np.savez(partial, *progress.arrays, words=np.array(json.dumps(words)))
    partial.replace(_state(run))


def interrupted(run: runs.Run, data_dir, cause: KeyboardInterrupt) -> Interrupted:
    """Return what to raise where a run is interrupted: what is kept of it, and how to resume."""
    if strategy.is_chief():
        for pattern in (".part*", ".*.part", "snapshots/.part*"):
            for partial in run.folder.glob(pattern):
                partial.unlink(missing_ok=True)
    if run.is_finished:
        return Interrupted(f"Interrupted: {run.folder} was finished just before.", "Nothing is left to train.", cause)
    epoch = 0
    if _state(run).is_file():
        with np.load(_state(run)) as state:
            epoch = _words(state)["epoch"]
    snapshots = sorted(path.name.removesuffix(".weights.h5") for path in run.folder.glob("snapshots/*.weights.h5"))
    kept = f"{run.folder} keeps the state after epoch {epoch} of {run.recipe.epochs}" if epoch else (
        f"no state of {run.folder} is kept yet, so it starts again from its first epoch"
    )  # fmt: skip
    if snapshots:
        kept += f"{' and' if epoch else '; kept are'} the snapshots {', '.join(snapshots)}"
    words = ["python", "cli.py", "train", "--node", run.config["node"], "--run-dir", str(run.folder), "--resume"]
    words += ["--data-dir", str(data_dir)] if data_dir else []
    where = " on every host" if strategy.hosts() > 1 else ""
    return Interrupted(f"Interrupted: {kept}.", f"Resume{where} with: {shlex.join(words)}", cause)


def load(run: runs.Run) -> Progress:
    """Read where a run was cut; a run that wrote no state starts at the beginning.

    Raises:
        UserError: the state is damaged.
    """
    path = _state(run)
    if not path.is_file():
        return Progress()
    try:
        # Of an archive that is none NumPy would leave a file open.
        with path.open("rb") as file, np.load(file) as state:
            words = _words(state)
            arrays = [state[f"arr_{index}"] for index in range(len(state.files) - 1)]
            return Progress(**words, arrays=arrays)
    except Exception as error:  # a damaged file can raise nearly anything
        reason = plain(str(error), 200)
        raise UserError(f"{path} cannot be resumed from ({reason}): start again with --overwrite.") from error


def _words(state) -> dict:
    """Return a state but for its arrays."""
    words = parse_object(str(state["words"]))
    check(words, run_fields.STATE)
    return words


def forget_lost_best(run: runs.Run, progress: Progress) -> None:
    """Let the next epoch be the best, where the best snapshot is of an epoch after the state.

    An exact replay writes the same snapshot again; one with changes need not.
    """
    later = runs.read_history(run)[progress.epoch :] if (run.folder / "history.csv").is_file() else []
    prefix = "val_" if later and "val_loss" in later[0] else ""
    rows = [{name: row[f"{prefix}{name}"] for name in ("accuracy", "loss")} for row in later]
    if rows and (not progress.best or max(map(standing, rows)) > standing(progress.best)):
        progress.best = {}
        save(run, progress)


def remove(run: runs.Run) -> None:
    """Delete the state of a run that is finished."""
    _state(run).unlink(missing_ok=True)


def keep_range_test(run: runs.Run, number: int, phase: str, test) -> None:
    """Add a phase's range test to lr_range_test.json and draw it."""
    path = run.folder / "lr_range_test.json"
    entries = _range_tests(path) if path.is_file() else []
    # A phase that was cut in its first epoch runs its test again.
    entries = [*entries[:number], {"phase": phase, **test.result()}]
    runs.write_json(path, entries)
    test.plot(run.folder / ("lr_range_test.png" if number == 0 else f"lr_range_test_{number + 1}.png"))


def _range_tests(path) -> list[dict]:
    try:
        entries = json.loads(path.read_text())
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list):
        raise UserError(f"{path} is not what a run writes: start again with --overwrite.")
    return entries


def copy_weights(source, target, but: str) -> None:
    """Copy a network's weights into one of the same layers, except paths that match a pattern.

    Raises:
        UserError: the networks differ.
    """
    values = {weight.path: weight for weight in source.weights if not re.search(but, weight.path)}
    wanted = {weight.path: weight for weight in target.weights if not re.search(but, weight.path)}
    if {p: w.shape for p, w in values.items()} != {p: w.shape for p, w in wanted.items()}:
        raise UserError("The run to start from has another network than this one: start from a run like it.")
    for path, weight in wanted.items():
        weight.assign(values[path])


def _state(run: runs.Run):
    return run.folder / "state.npz"
