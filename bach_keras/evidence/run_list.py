"""The runs below a folder, with their settings and scores."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from bach_keras.evidence.metrics import both_in_words
from bach_keras.run_folder import Run
from bach_keras.run_place import is_finished
from datasets.errors import MissingError, UserError, in_words
from datasets.escape import csv_line, for_terminal

FIELDS = (
    "run", "state", "node", "config", "protocol", "init", "image_size", "epochs", "precision", "seed", "best_epoch",
    "accuracy", "accuracy_low", "accuracy_high", "n", "groups", "effective_n", "groups_at_most", "balanced_accuracy",
    "balanced_low", "balanced_high", "error",
)  # fmt: skip


def list_runs(root: Path) -> list[dict]:
    """Return a row of ``FIELDS`` for each run folder below a folder, itself included, sorted by path.

    ``state`` is finished, unfinished or damaged. What a row does not know is None: the scores of a run that has not
    finished or kept no validation images, all but ``run`` and ``error`` of a damaged one.
    """
    if not root.is_dir():
        raise MissingError(f"There is no folder {root}: name one that holds runs, or train one with 'train'.")
    return [dict.fromkeys(FIELDS) | {"run": str(folder)} | _row(folder) for folder in _run_folders(root)]


def _run_folders(root: Path) -> list[Path]:
    found = []
    for folder, inside, files in os.walk(root):
        # A run without its config.json is damaged; only runs have these two.
        if "config.json" in files or "history.csv" in files or "snapshots" in inside:
            found.append(Path(folder))
        # Hidden folders are unfinished ones that a killed process left.
        inside[:] = [name for name in inside if name != "snapshots" and not name.startswith(".")]
    return sorted(found)


def _row(folder: Path) -> dict:
    try:
        run = Run.open(folder)
        recipe = run.recipe
        row = {name: run.settings[name] for name in ("node", "config", "protocol", "init")}
        row |= {name: getattr(recipe, name) for name in ("image_size", "precision", "seed")}
        if not is_finished(folder):
            return row | {"state": "unfinished", "epochs": len(run.history()) if run.has_history else 0}
        metrics = run.metrics()
    except (UserError, OSError) as error:
        return {"state": "damaged", "error": " ".join(in_words(error).split())}
    row |= {"state": "finished", "epochs": metrics["epochs"], "best_epoch": metrics["best_epoch"]}
    if "accuracy" in metrics:
        low, high = metrics["accuracy_ci95"]
        row |= {"accuracy": metrics["accuracy"], "accuracy_low": low, "accuracy_high": high, "n": metrics["n"]}
        low, high = metrics["balanced_accuracy_ci95"]
        row |= {"balanced_accuracy": metrics["balanced_accuracy"], "balanced_low": low, "balanced_high": high}
        # What earlier versions did not count.
        row |= {name: metrics.get(name) for name in ("groups", "effective_n")}
        # Images of unknown patients may share them, so both are counted too high.
        row["groups_at_most"] = "groups" in metrics["why"] if "why" in metrics else None
    return row


def as_table(rows: list[dict]) -> Iterator[str]:
    """Yield a line for each run, in columns, below a line of heads."""
    heads = ("run", "state", "node", "config", "protocol", "init", "size", "epochs", "precision", "seed", "best")
    names = ("run", "state", "node", "config", "protocol", "init", "image_size", "epochs", "precision", "seed",
             "best_epoch")  # fmt: skip
    cells = [heads] + [tuple("" if row[name] is None else for_terminal(row[name]) for name in names) for row in rows]
    # What is wrong with a damaged run takes the place of its settings.
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    ends = ["validation accuracy", *map(_end, rows)]
    for row, line, end in zip([None, *rows], cells, ends, strict=True):
        kept = 2 if row and row["error"] else len(line)
        columns = (cell.ljust(width) for cell, width in zip(line[:kept], widths[:kept], strict=True))
        yield "  ".join([*columns, end]).rstrip()


def _end(row: dict) -> str:
    if row["error"]:
        return for_terminal(row["error"])
    if row["accuracy"] is None:
        return ""
    known = {name: value for name, value in row.items() if value is not None}
    intervals = {"accuracy_ci95": "accuracy", "balanced_accuracy_ci95": "balanced"}
    ends = {name: [row[f"{start}_low"], row[f"{start}_high"]] for name, start in intervals.items()}
    if row["groups_at_most"] is not None:
        known["why"] = {"groups": ""} if row["groups_at_most"] else {}
    return both_in_words(known | ends)


def as_json(rows: list[dict]) -> Iterable[str]:
    """Return one JSON object a run."""
    return map(json.dumps, rows)


def as_csv(rows: list[dict]) -> Iterator[str]:
    """Yield a line of heads and one for each run."""
    yield csv_line(FIELDS)
    for row in rows:
        yield csv_line(row.values())


LINES = {"table": as_table, "json": as_json, "csv": as_csv}
