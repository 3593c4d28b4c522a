"""Training from several starts, and keeping the better by validation (Koné & Boulmane 2018, section 3.3)."""

import json
import os
import shutil
from pathlib import Path

from bach_keras import run_folder as runs
from bach_keras.training import checkpoint as progress
from bach_keras.training.stops import Interrupted, writing
from bach_keras.training.train import check_start, node_files, train_or_go_on
from bach_keras.tree import get_node
from datasets.errors import UserError


def train_best(data, node: str, starts: dict, recipe, run_dir, overwrite=False, say=print, **options) -> dict:
    """Train one node from each of several starts, and keep the better run as ``run_dir``.

    Each is a run of its own, ``<run_dir>-from-<name>``, and is left for an ensemble. Those that are finished are
    not trained again, one that was cut goes on.

    Args:
        data: a ``SplitData`` with validation images.
        node: ``norbe`` or ``invis``.
        starts: name -> ``Start``.
        recipe: the numbers.
        run_dir: where the better run goes, its files shared with that run's own folder.
        overwrite: keep a run that is there as ``<run_dir>.previous``.
        say: prints a line of progress.
        options: what ``train`` takes beside.

    Returns:
        What the better run's ``metrics.json`` holds.

    Raises:
        UserError: no validation images, or a run that is there but was trained otherwise.
    """
    if not data.files.get("validation"):
        raise UserError(
            f"--init best chooses by validation images, and protocol {data.protocol} keeps none: "
            "choose another --protocol or --init."
        )
    run_dir = Path(run_dir)
    runs.check_destination(run_dir, overwrite)
    for start in starts.values():
        check_start(start, node_files(data, get_node(node)))
    folders = {name: run_dir.with_name(f"{run_dir.name}-from-{name}") for name in starts}
    try:
        results = {
            name: train_or_go_on(data, node, start, recipe, folders[name], say, **options)
            for name, start in starts.items()
        }
    except Interrupted as interrupted:
        interrupted.resume = "Resume by giving the same command again: what is finished is kept."
        raise
    validated = {name: _validated(folder) for name, folder in folders.items()}
    better = max(starts, key=lambda name: progress.standing(validated[name]))
    told = ", ".join(f"{name} {at['accuracy']:.3f} (loss {at['loss']:.4f})" for name, at in validated.items())
    say(f"by validation {better} is the better start: {told}; both runs are kept")
    chosen = {name: {"run": str(folders[name]), **at} for name, at in validated.items()}
    with writing(run_dir):
        _share(folders[better], run_dir, {"init": "best", "started_from": better, "candidates": chosen}, overwrite)
    return results[better]


def standing(folder: Path) -> tuple[float, float]:
    """Return what ranks finished runs: the higher the better."""
    return progress.standing(_validated(folder))


def _validated(folder: Path) -> dict[str, float]:
    """Return a finished run's validation accuracy and loss at its best epoch."""
    run = runs.open_run(folder)
    metrics, best = runs.read_metrics(run), runs.best_epoch(run)
    if not ("accuracy" in metrics and "val_loss" in best):
        raise UserError(f"{folder} kept no validation images, so it cannot be ranked: name another run.")
    return {"accuracy": metrics["accuracy"], "loss": float(best["val_loss"])}


def _share(source: Path, run_dir: Path, told: dict, overwrite: bool) -> None:
    """Make a run folder of another's files, whole or not at all."""
    partial = run_dir.with_name(f".{run_dir.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, copy_function=_link_or_copy)
    config = json.loads((partial / "config.json").read_text())
    (partial / "config.json").unlink()
    runs.write_json(partial / "config.json", config | told)
    runs.set_aside(run_dir, overwrite)
    partial.rename(run_dir)


def _link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
