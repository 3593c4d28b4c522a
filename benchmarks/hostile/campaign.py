"""Inputs given to one door after the other; what became of each is counted."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.hostile.answer import ANSWERED, CRASHED, HUNG, REFUSED
from benchmarks.hostile.doors import DOORS, Door
from benchmarks.hostile.inputs import Inputs
from benchmarks.hostile.pictures import good
from benchmarks.hostile.tree import make
from benchmarks.hostile.watch import ROOT, Canaries, tree_of
from tests.network.layout_files import write as write_weights
from tests.network.small_network import torchvision_shapes

# Seconds in which a door must be open, and what of a fault is shown.
_OPENING = 300
# Seconds by the clock after which an input counts as a hang, on a machine that may have much else to do.
WAIT = 300
_SHOWN = 600


@dataclass
class Tally:
    """What became of the inputs of a door."""

    door: str
    kinds: Counter = field(default_factory=Counter)
    hangs: int = 0
    escapes: int = 0
    slowest: float = 0.0
    memory: float = 0.0
    said: list[str] = field(default_factory=list)  # a sentence for each input that did what it must not

    @property
    def wrong(self) -> int:
        return len(self.said)

    def cells(self) -> list[str]:
        inputs = sum(self.kinds.values()) + self.hangs
        counts = (inputs, self.kinds[ANSWERED], self.kinds[REFUSED], self.kinds[CRASHED], self.hangs)
        return [self.door, *map(str, counts), f"{self.slowest:.1f}", f"{self.memory:.0f}", str(self.escapes)]


class Campaign:
    """The doors' inputs and models, below a folder of its own."""

    def __init__(self, place: Path, count: int, seed: int, files: Path | None):
        self._place = place
        for name in ("out", "home", "tmp", "warm", "work", "inputs"):
            (place / name).mkdir(exist_ok=True)
        _write_good(place / "warm")
        self._canaries = Canaries(place)
        self._inputs = Inputs(place, make(place / "tree"), count, seed, files)

    def run(self, name: str) -> Tally:
        """Give a door all of its inputs.

        Raises:
            RuntimeError: it cannot be opened, or does not answer what is good.
        """
        door, tally = DOORS[name], Tally(name)
        listed = self._inputs.write(name, door.inputs)
        names, start = json.loads(listed.read_text()), 0
        self._work = tree_of(self._place / "work")
        self._canaries.touched()
        with (self._place / f"{name}.jsonl").open("w") as log:
            while start < len(names):
                for row in self._rows(name, door, listed, start):
                    row["name"] = repr(os.fsdecode(bytes.fromhex(names[row["number"]])))[:120]
                    self._count(tally, door, row)
                    print(json.dumps(row), file=log, flush=True)
                    start = row["number"] + 1
        after = self._escapes()
        tally.escapes += bool(after)
        shown = (self._place / f"{name}.err").read_text(errors="replace").count("Traceback (most")
        after += [f"{shown} tracebacks in {name}.err"] * bool(shown)
        tally.said += [f"{name}, after its last input: {words}" for words in after]
        return tally

    def _escapes(self) -> list[str]:
        """Return what was done to the canaries, and in the folder in which the doors are, since this was last asked.

        The door is at its next input by then, so it may be that one's.
        """
        before, self._work = self._work, tree_of(self._place / "work")
        changed = sorted(path for path in before.keys() | self._work.keys() if before.get(path) != self._work.get(path))
        return [
            *(f"canary {words}" for words in self._canaries.touched()),
            *(f"changes work/{path}" for path in changed),
        ]

    def _last(self, name: str, number: int, kind: str, words: str = "", seconds: float = 0) -> dict:
        """Return a row of an input at which the door's process ended, or was ended."""
        noted = (self._place / f"{name}.noted").read_text(errors="replace").splitlines()
        faults = [*self._escapes(), *sorted(set(noted))]
        return {"number": number, "kind": kind, "words": words, "faults": faults, "seconds": seconds, "peak": 0}

    def _rows(self, name, door: Door, listed: Path, start: int):
        """Yield what a door's process says of each input; where it ends or is silent, a last row says so."""
        with self._process(name, listed, start) as process:
            number, before, lines = start, None, _lines(process.stdout)
            while True:
                line = _next(lines, _OPENING if before is None else WAIT)
                if not line and before is None:
                    raise RuntimeError(f"{name} cannot be opened: {self._errors(name)}")
                if line is None:
                    yield self._last(name, number, HUNG, f"nothing is said for {WAIT} s", WAIT)
                    return
                if not line:
                    code = process.wait()
                    if code or number < len(json.loads(listed.read_text())):
                        yield self._last(name, number, CRASHED, f"the process ended with {code}: {self._errors(name)}")
                    return
                row = json.loads(line)
                if "good" in row:
                    raise RuntimeError(
                        f"{name} does not answer {row['good']}: {row['kind']}, {row['words']} {row['faults']}"
                    )
                if "ready" in row:
                    before = row["ready"]
                    continue
                row["peak"] -= before
                row["faults"] += self._escapes()
                number = row["number"] + 1
                yield row

    @contextlib.contextmanager
    def _process(self, name, listed, start):
        place = self._place
        environment = os.environ | {
            "HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3", "TFDS_DATA_DIR": str(place / "home" / "tensorflow_datasets"),
        }  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.hostile.child", name, place, listed, start]
        with (place / f"{name}.err").open("ab") as errors:
            process = subprocess.Popen(
                [str(word) for word in command], cwd=place / "work", env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def _errors(self, name) -> str:
        return (self._place / f"{name}.err").read_bytes()[-800:].decode(errors="replace")

    def _count(self, tally: Tally, door: Door, row: dict) -> None:
        tally.slowest = max(tally.slowest, row["seconds"])
        tally.memory = max(tally.memory, row["peak"])
        faults = list(row["faults"])
        if row["kind"] == HUNG:
            tally.hangs += 1
            faults.append(f"hangs: {row['words']}")
        else:
            tally.kinds[row["kind"]] += 1
            if row["seconds"] > door.seconds:
                faults.append(f"takes {row['seconds']:.1f} s of a processor")
        tally.escapes += bool(row["faults"])
        if row["kind"] == CRASHED:
            faults.append(row["words"][-_SHOWN:])
        if row["peak"] > door.megabytes:
            faults.append(f"takes {row['peak']:.0f} MB")
        if faults:
            tally.said.append(f"{tally.door}, {row['name']}: {'; '.join(faults)}")


def _write_good(folder: Path) -> None:
    """Write inputs that a door must answer: a picture, a list of it, and weights of ResNeXt-50."""
    (folder / "warm.png").write_bytes(good()["rgb.png"])
    (folder / "list.txt").write_text(f"{folder / 'warm.png'}\n")
    shapes = torchvision_shapes((3, 4, 6, 3), stem=64, cardinality=32, base_width=4, classes=1000)
    drawn = np.random.default_rng(0).uniform(0.5, 1.5, 2**20).astype(np.float32)
    write_weights(folder / "weights.pth", {name: np.resize(drawn, shape) for name, shape in shapes.items()})


def _lines(stream) -> queue.SimpleQueue:
    """Return a queue that gets the lines of a stream as they come, and at its end b""."""
    lines: queue.SimpleQueue = queue.SimpleQueue()

    def read():
        with stream:
            for line in stream:
                lines.put(line)
        lines.put(b"")

    threading.Thread(target=read, daemon=True).start()
    return lines


def _next(lines: queue.SimpleQueue, seconds: float) -> bytes | None:
    """Return the next line, b"" at the end, and None if none comes for so long."""
    try:
        return lines.get(timeout=seconds)
    except queue.Empty:
        return None
