"""What a command takes: wall and processor time, and the memory of it and of all that it starts."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Taken:
    """What a command took."""

    seconds: float
    processor: float  # seconds of all its processes that it waited for
    peaks: dict[int, float]  # process -> largest resident size in MiB
    peak: float  # largest sum of them at one moment
    code: int


def take(command: list[str], every: float = 0.1, **how) -> Taken:
    """Run a command, and look at its memory so many seconds apart."""
    started = time.monotonic()
    running = subprocess.Popen(command, **how)
    peaks, together = {}, 0.0
    while True:
        sizes = {process: resident(process) for process in _tree(running.pid)}
        together = max(together, sum(sizes.values()))
        peaks |= {process: max(size, peaks.get(process, 0)) for process, size in sizes.items()}
        done, status, used = os.wait4(running.pid, os.WNOHANG)
        if done:
            break
        time.sleep(every)
    running.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    return Taken(seconds, used.ru_utime + used.ru_stime, peaks, together, running.returncode)


def children_of(process: int) -> list[int]:
    """Return what a process has started, and what that has, as far as it runs."""
    return _tree(process)[1:]


def _tree(process: int) -> list[int]:
    found = [process]
    try:
        for thread in Path(f"/proc/{process}/task").iterdir():  # a child belongs to the thread that started it
            found += [each for child in (thread / "children").read_text().split() for each in _tree(int(child))]
    except OSError:  # it ended meanwhile
        pass
    return found


def resident(process: int) -> float:
    """Return the memory of a process in MiB, and 0 where it has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
    except OSError:
        return 0.0
