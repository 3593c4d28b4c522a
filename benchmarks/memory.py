"""Peak memory of the tools: ``python -m benchmarks.memory [--size 96] [--members 3|10]`` or ``... --reproduce``.

Each form of ``export --tflite`` is made in a process of its own from ResNeXt-50 of random weights on one trunk, and its
own ru_maxrss is read at the end. ``--reproduce`` runs that command on phantoms instead, and prints the largest resident
size of each process that it started, and of all of them together, sampled ten times a second.
"""

import argparse
import logging
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.processes import take
from datasets.errors import UserError

COUNTS = {3: {"carci": 1, "norbe": 1, "invis": 1}, 10: {"carci": 4, "norbe": 3, "invis": 3}}
IMAGES = 36


def export(form: str, size: int, members: int, sender) -> None:
    """Make one form; send this process's peak in MB before the export and in all, its seconds, and how it ended."""
    import numpy as np

    from bach_keras.serving.tflite.convert import convert
    from benchmarks import tree

    logging.getLogger("bach_keras").setLevel(logging.ERROR)
    images = np.random.default_rng(1).integers(0, 256, (IMAGES, size, size, 3)).astype(np.uint8)
    made = tree.members(COUNTS[members], size, images[:8])
    before, started = _peak(), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        try:
            ended = str(convert(made, Path(place) / "tree.tflite", form, images))
        except UserError:  # random weights may round too far; all work is done by then
            ended = "refused"
    sender.send((before, _peak(), time.monotonic() - started, ended))


def _peak() -> float:
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def reproduce(words: list[str]) -> None:
    """Run ``reproduce`` on phantoms, and print the peaks of its processes."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "cli.py", "reproduce", "--config", "phantom", "--out", f"{place}/out", *words]
        taken = take(command)
    if taken.code:
        sys.exit(f"reproduce ended with exit code {taken.code}, so its memory says nothing")
    for number, size in enumerate(size for size in taken.peaks.values() if size > 100):
        print(f"process {number}: {size:.0f} MB")
    print(f"all together: {taken.peak:.0f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels (96)")
    parser.add_argument("--members", type=int, choices=COUNTS, default=3, help="3, or the competition's 10")
    parser.add_argument("--forms", nargs="+", default=["none", "float16", "dynamic", "int8"], help="(all four)")
    parser.add_argument("--reproduce", nargs=argparse.REMAINDER, help="measure reproduce, with the options that follow")
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if given.reproduce is not None:
        reproduce(given.reproduce)
        return
    spawn = multiprocessing.get_context("spawn")
    print("| form | MB before | MB at most | s | compared with the tree |\n|---|---|---|---|---|")
    for form in given.forms:
        receiver, sender = spawn.Pipe(duplex=False)
        child = spawn.Process(target=export, args=(form, given.size, given.members, sender))
        child.start()
        sender.close()
        before, peak, seconds, ended = receiver.recv()
        child.join()
        print(f"| {form} | {before:.0f} | {peak:.0f} | {seconds:.0f} | {ended} |", flush=True)


if __name__ == "__main__":
    main()
