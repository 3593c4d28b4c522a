"""Whole slides: ``python -m benchmarks.slides --model EXPORT [--side 40000] [--rounds 3] [--place DIR]``.

A phantom slide is drawn (`datasets.phantom_slide`), with JPEG tiles in a pyramid, and kept in ``--place`` where one is
given. What is printed, in Markdown:

- **the work**: `slide` on it, in a process of its own: its tiles, the time from opening the slide to its last answer
  and that of the complete command, the largest memory of all its processes together, and the time of the network alone
  on the same tiles: in a process of its own, all pixels ready in memory, the same batches and routing. Both alternate,
  the network first and last. Processor time stands beside wall time, as other work on the machine adds less to it.
- **--quick**: the tiles saved, and the labels that differ from a complete run's, which its own report estimates.
- **readers**: random windows of 1536 pixels at full resolution by ours, tifffile with zarr, openslide and Pillow, each
  in a new process, alternating; their pixels are compared. On a slide of 12,288 pixels, as Pillow holds all of it.
"""

import argparse
import csv
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.processes import Taken, take
from benchmarks.slide_readers import READERS, reading, windows
from datasets.phantom_slide import write_phantom_slide

PARTS = ("work", "quick", "readers")
# So many of a slide's tiles are kept in memory for the network alone, spread over all; its time is then of all of them.
MOST_KEPT = 4000
LARGEST_FOR_PILLOW = 12_288


@dataclass(frozen=True)
class Slided:
    """A run of the command."""

    taken: Taken
    again: Taken  # of the same command when the slide is finished: starting, and loading the model
    summary: dict
    tiles: list[dict]  # the rows of tiles.csv

    @property
    def answering(self) -> float:
        """Seconds from opening the slide to its last answer."""
        seconds = self.summary["run"]["seconds"]
        return seconds["tissue"] + seconds["tiles"]


def slide(model: Path, path: Path, options: list[str]) -> Slided:
    """Run the command in a new folder, and once more, when all is done already."""
    with tempfile.TemporaryDirectory() as out:
        words = [sys.executable, "cli.py", "slide", "--model", str(model), "--out", out, *options, str(path)]
        taken, again = (take(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2))
        if taken.code or again.code:
            sys.exit(f"slide ended with exit code {taken.code or again.code}, so its time says nothing")
        folder = Path(out) / path.stem
        with (folder / "tiles.csv").open(newline="", encoding="utf-8") as file:
            return Slided(taken, again, json.loads((folder / "summary.json").read_text()), list(csv.DictReader(file)))


def network(model: Path, path: Path, corners: list[tuple[int, int]], side: int) -> tuple[float, float]:
    """Return the wall and processor seconds of the network alone on tiles whose pixels are ready, in a new process."""
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_network, args=(str(model), path, corners, side, sender))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        sys.exit("the network alone failed: see above")
    finally:
        child.join()


def _network(model, path, corners, side, sender):
    from bach_keras.packed_kernels import keep_packed_kernels

    keep_packed_kernels()
    from bach_keras.serving.exported import Export
    from bach_keras.serving.predict import BATCH
    from bach_keras.serving.slide.reading import read_tile
    from datasets.slides.open import open_slide

    export = Export(model)
    kept = corners[:: -(-len(corners) // MOST_KEPT)]
    with open_slide(path) as opened:
        squares = np.stack([export.prepared(read_tile(opened, corner, side, export.side)) for corner in kept])
    batches = [squares[start : start + BATCH] for start in range(0, len(squares), BATCH)]
    for batch in (batches[0], batches[-1]):  # each size of a batch is traced and packed once
        export.images(batch, "routed")
    started, used = time.perf_counter(), time.process_time()
    for batch in batches:
        export.images(batch, "routed")["probabilities"].numpy()
    took, processor = time.perf_counter() - started, time.process_time() - used
    sender.send((took * len(corners) / len(kept), processor * len(corners) / len(kept)))


def work(model: Path, path: Path, rounds: int, options: list[str]) -> Slided:
    """Print what the command takes, and the network alone; return the last run."""
    first = slide(model, path, options)  # also fills the cache of the disk for all that follow
    corners = [(int(row["minx"]), int(row["miny"])) for row in first.tiles]
    side = int(first.tiles[0]["width"])
    runs, alone = [], [network(model, path, corners, side)]
    for _ in range(rounds):
        runs.append(slide(model, path, options))
        alone.append(network(model, path, corners, side))
    print(f"\n{len(corners)} tiles of {side} pixels, {len(runs)} rounds\n")
    print("| run | wall, s | processor, s | of these to start | to the last answer, wall | MiB at most |")
    print("|---|---|---|---|---|---|")
    for number, run in enumerate([first, *runs]):
        seconds, taken, again = run.answering, run.taken, run.again
        started = f"{again.seconds:.1f}, {again.processor:.1f}"
        print(
            f"| {number} | {taken.seconds:.1f} | {taken.processor:.1f} | {started} | {seconds:.1f} | {taken.peak:.0f} |"
        )
    print("\n| the network alone | wall, s | processor, s |\n|---|---|---|")
    for number, (took, processor) in enumerate(alone):
        print(f"| {number} | {took:.1f} | {processor:.1f} |")
    # Each run is compared with the mean of the network before and after it.
    between = [(np.array(before) + after) / 2 for before, after in itertools.pairwise(alone)]
    pairs = list(zip(runs, between, strict=True))
    print("\n| of the network's time | min - median - max |\n|---|---|")
    for what, ratios in (
        ("wall, to the last answer", [run.answering / base[0] for run, base in pairs]),
        ("wall, all but the start", [(run.taken.seconds - run.again.seconds) / base[0] for run, base in pairs]),
        (
            "processor, all but the start",
            [(run.taken.processor - run.again.processor) / base[1] for run, base in pairs],
        ),
        ("wall, complete command", [run.taken.seconds / base[0] for run, base in pairs]),
    ):
        print(f"| {what} | {spread(ratios)} |")
    return first


def quick(model: Path, path: Path, complete: Slided, options: list[str]) -> None:
    """Print what ``--quick`` saves and changes."""
    run = slide(model, path, [*options, "--quick"])
    labels = {(row["minx"], row["miny"]): row["label"] for row in complete.tiles}
    changed = [labels[row["minx"], row["miny"]] != row["label"] for row in run.tiles]
    report = run.summary["quick"]
    seconds = [each.answering for each in (run, complete)]
    print("\n| --quick | |\n|---|---|")
    for what, value in (
        ("tiles", len(run.tiles)),
        ("tiles saved", f"{report['tiles_saved']} ({report['tiles_saved'] / len(run.tiles):.0%})"),
        ("labels that differ from the complete run's", f"{sum(changed)} ({sum(changed) / len(changed):.1%})"),
        ("its own report of the squares it was sure of", json.dumps(report["checked"])),
        ("seconds to the last answer, and the complete run's", "{:.1f}, {:.1f}".format(*seconds)),
    ):
        print(f"| {what} | {value} |")


def readers(path: Path, side: int, rounds: int) -> None:
    """Print what each reader takes for random windows."""
    found = {name: [] for name in READERS}
    for number in range(rounds + 1):  # the first one fills the cache of the disk
        corners = windows(side, side, number)
        for name in sorted(READERS, key=lambda name: (list(READERS).index(name) + number) % len(READERS)):
            found[name].append(reading(name, path, corners))
    print(f"\n| reader | windows/s: min - median - max, {rounds} rounds | processor ms a window | MB | pixels |")
    print("|---|---|---|---|---|")
    reference = next(iter(found.values()))
    for name, results in found.items():
        if refused := [each for each in results if isinstance(each, str)]:
            print(f"| {name} | {refused[0]} | | | |")
            continue
        rates = [len(each.pixels) / each.seconds for each in results[1:]]
        used = statistics.median(each.processor / len(each.pixels) * 1000 for each in results[1:])
        are_equal = all(np.array_equal(one.pixels, other.pixels) for one, other in zip(results, reference, strict=True))
        mb = max(each.mb for each in results)
        print(f"| {name} | {spread(rates)} | {used:.0f} | {mb:.0f} | {'equal' if are_equal else 'differ'} |")


def spread(values) -> str:
    return f"{min(values):.2f} - **{statistics.median(values):.2f}** - {max(values):.2f}"


def drawn(place: Path, side: int) -> Path:
    """Return a phantom slide of a side, drawn if it is not there."""
    path = place / f"phantom-{side}.tiff"
    if not path.is_file():
        started = time.monotonic()
        write_phantom_slide(path, side, side)
        print(f"drawn in {time.monotonic() - started:.0f} s: {path.stat().st_size / 2**20:.0f} MB, {side} x {side}")
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="an export of a tree (not for readers alone)")
    parser.add_argument("--side", type=int, default=40_000, help="width and height of the slide in pixels (40000)")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--place", type=Path, help="a folder that keeps the slide (none)")
    parser.add_argument("--um-per-pixel", metavar="X", help="take the pixels for so large: 0.42 as in BACH (their own)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="(all)")
    given = parser.parse_args()
    if given.model is None and set(given.parts) != {"readers"}:
        parser.error("--model is needed for the work and --quick")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options = ["--um-per-pixel", given.um_per_pixel] if given.um_per_pixel else []
    with tempfile.TemporaryDirectory() as folder:
        place = given.place or Path(folder)
        if given.model:
            path = drawn(place, given.side)
        if "work" in given.parts:
            complete = work(given.model, path, given.rounds, options)
        if "quick" in given.parts:
            if "work" not in given.parts:
                complete = slide(given.model, path, options)
            quick(given.model, path, complete, options)
        if "readers" in given.parts:
            side = min(given.side, LARGEST_FOR_PILLOW)
            readers(drawn(place, side), side, given.rounds)


if __name__ == "__main__":
    main()
