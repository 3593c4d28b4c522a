"""A door's own process: it takes one input after the other and says on a line of JSON what became of each.

A crash, or a wait without an end, takes this process and not the campaign, which starts another behind that input.
"""

import contextlib
import json
import os
import shutil
import sys
import traceback
from pathlib import Path

from benchmarks.hostile import doors
from benchmarks.hostile.answer import ANSWERED, CRASHED, Answer
from benchmarks.hostile.tree import Tree
from benchmarks.hostile.watch import Guard
from benchmarks.processes import children_of


def family() -> list[Path]:
    """Return this process and those that it started, such as the ones that decode apart, by their folders."""
    return [Path(f"/proc/{number}") for number in (os.getpid(), *children_of(os.getpid()))]


def memory(field: str) -> float:
    """Return ``VmHWM``, the most memory that they had, or ``VmRSS``, what they have: in MB."""
    total = 0
    for process in family():
        with contextlib.suppress(OSError):
            lines = (process / "status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith(field))
    return total / 1024


def forget_peaks() -> None:
    """Let the peak of memory be counted from now on."""
    for process in family():
        with contextlib.suppress(OSError):
            (process / "clear_refs").write_text("5")


def processor() -> float:
    """Return the seconds of a processor that they have taken."""
    ticks = 0
    for process in family():
        with contextlib.suppress(OSError):
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # and of children that have ended
    return ticks / os.sysconf("SC_CLK_TCK")


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
    guard = Guard(place, place / f"{door}.noted")
    ask = doors.open_door(door, Tree(place / "tree"), place)
    for warm in doors.DOORS[door].warm:
        # What is loaded and made only once is not counted. A door that refuses even what is good would show nothing.
        answer = ask(0, place / warm)
        if answer.kind != ANSWERED or answer.faults:
            print(json.dumps({"good": str(warm), **answer.as_json()}), file=said)
            return
    clear(place / "out")
    print(json.dumps({"ready": memory("VmRSS")}), file=said)
    for number, name in enumerate(json.loads(listed.read_text())[start:], start):
        path = place / "inputs" / door / os.fsdecode(bytes.fromhex(name))
        forget_peaks()
        before = processor()
        guard.start()
        try:
            answer = ask(number, path)
        except Exception:
            answer = Answer(CRASHED, traceback.format_exc()[-3000:])
        guard.stop()
        answer.faults += guard.taken()
        row = {"number": number, "seconds": processor() - before, "peak": memory("VmHWM"), **answer.as_json()}
        print(json.dumps(row), file=said)
        clear(place / "out")
    said.flush()
    os._exit(0)  # without waiting for threads that an input may have left


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
