"""A door's own process: it takes one input after the other and says on a line of JSON what became of each.

A crash, or a wait without an end, takes this process and not the campaign, which starts another behind that input.
"""

import json
import os
import shutil
import sys
import time
import traceback
from pathlib import Path

from benchmarks.hostile import doors
from benchmarks.hostile.answer import CRASHED, Answer
from benchmarks.hostile.tree import Tree
from benchmarks.hostile.watch import Guard

CLEAR = Path("/proc/self/clear_refs")


def memory(field: str) -> float:
    """Return ``VmHWM``, the most memory that this process had, or ``VmRSS``, what it has: in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def clear(folder: Path) -> None:
    """Remove what a door wrote."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def main(door: str, place: Path, listed: Path, start: int) -> None:
    """Take the inputs that a file lists, from one on; the first line said is that of the open door."""
    # What the libraries write on stdout goes elsewhere.
    said = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    guard = Guard(place)
    ask = doors.open_door(door, Tree(place / "tree"), place)
    for warm in doors.DOORS[door].warm:
        ask(0, place / warm)  # what is loaded and made only once is no matter of an input
    clear(place / "out")
    print(json.dumps({"ready": memory("VmRSS")}), file=said)
    for number, name in enumerate(json.loads(listed.read_text())[start:], start):
        path = place / "inputs" / door / os.fsdecode(bytes.fromhex(name))
        CLEAR.write_text("5")  # the peak is that of this input
        guard.start()
        began = time.process_time()
        try:
            answer = ask(number, path)
        except Exception:
            answer = Answer(CRASHED, traceback.format_exc()[-3000:])
        taken = time.process_time() - began
        answer.faults += guard.taken()
        guard.stop()
        clear(place / "out")
        row = {"number": number, "seconds": taken, "peak": memory("VmHWM"), **answer.as_json()}
        print(json.dumps(row), file=said)
    said.flush()
    os._exit(0)  # without waiting for threads that an input may have left


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
