"""Runs killed at random moments and resumed: ``python -m benchmarks.kills [KILLS]``.

A tiny network is trained once without a stop. Then again and again: the process gets SIGKILL at a random moment, the
run is resumed, and everything it left is compared byte for byte, weights by value. Nearly all of so small a run is
start-up, so the moments alternate between its stages, start-up, each epoch and the end, and are random within a stage.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from bach_keras.wording import counted

# Seconds between two looks at how far a run is; an epoch takes some tenths.
POLL = 0.005


def campaign(kills: int, place: Path, seed: int = 0, specialist: bool = False, say=print) -> list[dict]:
    """Kill a run ``kills`` times, each time a new one, and compare each finished run with the undisturbed one.

    Args:
        kills: how many runs.
        place: an empty folder.
        seed: of the moments.
        specialist: train one from a finished carci instead of carci from random weights.
        say: prints a line a run.

    Returns:
        For each run the second it was killed at, whether it was (it may have ended just before), what ``reached``
        then said of it, and what differs at the end: an empty list where all is equal.
    """
    # Each child is forked from a process that has imported TensorFlow but not used it.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["benchmarks.kills_child"])
    parent, whole = None, place / "whole"
    if specialist:
        parent = place / "parent"
        train_whole(processes, parent, None)
    lengths = stage_lengths(processes, whole, parent)
    say("an undisturbed run takes " + " + ".join(f"{length:.2f}" for length in lengths) + " s, by stages")
    draw = random.Random(seed)
    rows = []
    for number in range(kills):
        folder = place / f"run-{number}"
        stage = number % len(lengths)
        started = time.monotonic()
        child = start(processes, folder, parent)
        while child.is_alive() and reached(folder)["epochs"] < stage:
            time.sleep(POLL)
        child.join(draw.uniform(0, lengths[stage]))
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
        moment = time.monotonic() - started
        child.join()
        state = {"killed": child.exitcode == -signal.SIGKILL, **reached(folder)}
        train_whole(processes, folder, parent)
        rows.append({"second": round(moment, 2), **state, "differs": compare(whole, folder)})
        say(f"{number + 1:3d}: {'killed' if state['killed'] else 'ended'} at {moment:5.2f} s, {in_words(rows[-1])}")
        shutil.rmtree(folder)
    return rows


def stage_lengths(processes, folder: Path, parent) -> list[float]:
    """Train once, and return the seconds of each stage: until the first epoch is over, each later one, what follows."""
    ends, started = [], time.monotonic()
    child = start(processes, folder, parent)
    while child.is_alive():
        ends += [time.monotonic() - started] * (reached(folder)["epochs"] - len(ends))
        time.sleep(POLL)
    check_ended(child, folder)
    ends.append(time.monotonic() - started)
    return [end - before for before, end in zip([0.0, *ends], ends, strict=False)]


def start(processes, folder, parent):
    from benchmarks.kills_child import train

    child = processes.Process(target=train, args=(str(folder), parent and str(parent)))
    child.start()
    return child


def train_whole(processes, folder, parent) -> None:
    """Train, or resume, to the end.

    Raises:
        RuntimeError: the process failed.
    """
    child = start(processes, folder, parent)
    child.join()
    check_ended(child, folder)


def check_ended(child, folder) -> None:
    if child.exitcode:
        raise RuntimeError(f"The training of {folder} ended with exit code {child.exitcode}.")


def reached(folder: Path) -> dict:
    """Return how far a run had come: the epochs of its history, and whether it was finished."""
    history = folder / "history.csv"
    return {
        "began": (folder / "config.json").is_file(),
        "epochs": len(history.read_text().splitlines()) - 1 if history.is_file() else 0,
        "finished": (folder / "metrics.json").is_file(),
    }


def compare(one: Path, other: Path) -> list[str]:
    """Name what differs between two finished runs; times, and the names of their folders, may."""
    import h5py
    import numpy as np

    from bach_keras.run_folder import Run

    left, right = ({path.relative_to(run) for path in run.rglob("*")} for run in (one, other))
    differs = [f"only one run has {path}" for path in sorted(left ^ right)]
    for name in ("config.json", "history.csv", "lr_range_test.json"):
        if (one / name).read_text() != (other / name).read_text():
            differs.append(name)
    metrics = [json.loads((run / "metrics.json").read_text()) | {"seconds": None} for run in (one, other)]
    if metrics[0] != metrics[1]:
        differs.append("metrics.json")

    def arrays(path):
        found = {}
        with h5py.File(path) as file:
            file.visititems(lambda key, item: found.update({key: item[()]}) if isinstance(item, h5py.Dataset) else None)
        return found

    for snapshot in sorted((one / "snapshots").glob("*.weights.h5")):
        pair = [arrays(run / "snapshots" / snapshot.name) for run in (one, other)]
        equal = pair[0].keys() == pair[1].keys() and all(np.array_equal(pair[0][key], pair[1][key]) for key in pair[0])
        if not equal:
            differs.append(snapshot.name)
    models = [Run.open(run).read_model().get_weights() for run in (one, other)]
    if not all(np.array_equal(*pair) for pair in zip(*models, strict=True)):
        differs.append("model.keras")
    return differs


def in_words(row: dict) -> str:
    """Return where a run was killed and how it ended."""
    where = "finished" if row["finished"] else f"after epoch {row['epochs']}" if row["began"] else "not started"
    return f"{where}: " + ("equal, bit for bit" if not row["differs"] else f"DIFFERS in {', '.join(row['differs'])}")


def at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a number of at least 1")
    return number


def main(words: list[str] | None = None) -> int:
    """Print the campaign's table; return how many runs differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__.splitlines()[0])
    parser.add_argument("kills", type=at_least_one, nargs="?", default=20, help="how many runs (20)")
    kills = parser.parse_args(words).kills
    rows = []
    for specialist in (False, True):
        print("a specialist from carci, rates by range tests" if specialist else "carci from random weights")
        with tempfile.TemporaryDirectory() as place:
            rows += campaign((kills + (not specialist)) // 2, Path(place), specialist=specialist)
    wrong = sum(bool(row["differs"]) for row in rows)
    killed = sum(row["killed"] for row in rows)
    print(
        f"{counted(killed, 'kill')}, {counted(kills - wrong, 'run')} finished equal to the undisturbed one, "
        f"{wrong} did not"
    )
    return wrong


if __name__ == "__main__":
    sys.exit(min(1, main()))
