"""The runs of a reproduction over its seeds: each one's validation accuracy, and their mean."""

import statistics
from pathlib import Path

from bach_keras.evidence.metrics import in_words

HEADS = ("protocol", "run", "seed", "validation accuracy")


def seed_rows(runs: list[dict]) -> list[list[str]]:
    """Return rows under ``HEADS``: every validated run by its seed, and after several seeds their mean.

    Args:
        runs: as results.json of a reproduction has them; runs of one name differ by their seed alone.
    """
    by_name = {}
    for run in runs:
        if "accuracy" in run:
            by_name.setdefault((run["protocol"], Path(run["run"]).name), []).append(run)
    rows = []
    for (protocol, name), several in by_name.items():
        rows += [[protocol, name, str(run.get("seed", "")), in_words(run)] for run in several]
        if len(several) > 1:
            rows.append([protocol, name, "mean", mean_in_words(several)])
    return rows


def mean_in_words(scores: list[dict]) -> str:
    """Return the mean accuracy over several seeds, and the spread."""
    accuracies = [score["accuracy"] for score in scores]
    mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies)
    return f"{mean:.3f}, standard deviation {spread:.3f} over {len(scores)} seeds"
