"""The server under load as a process: started, watched, and stopped by a signal."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.processes import children_of, resident

# Seconds in which a server must say its address.
STARTS = 300

# The 97.5 % point of Student's distribution with BLOCKS - 2 degrees of freedom.
BLOCKS, _T = 10, 2.306


@dataclass(frozen=True)
class Sample:
    """What a process holds at a moment: resident MB, threads, open files."""

    when: float
    megabytes: float
    threads: int
    files: int


@dataclass(frozen=True)
class Ending:
    """How a process ended after a signal at a moment: seconds that it took, its exit code, what it left running."""

    when: float
    seconds: float
    code: int
    children: list[int]


class Process:
    """A server in a session of its own; a context manager that ends it, whatever happened."""

    def __init__(self, words: list[str], address: str, starts: float = STARTS):
        self.samples: list[Sample] = []
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed when the process has ended)
        self._running = subprocess.Popen(
            [sys.executable, "cli.py", *words],
            stdout=subprocess.PIPE, stderr=self._errors, text=True, start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONFAULTHANDLER": "1"},
        )  # fmt: skip
        too_late = threading.Timer(starts, self._kill)
        too_late.start()
        line = self._running.stdout.readline()  # what is killed has no more lines
        too_late.cancel()
        if not (found := re.search(address, line)):
            self._kill()
            self._running.wait()
            self._errors.seek(0)
            said = line.strip() or self._errors.read()[-2000:].strip() or "it said nothing"
            self._errors.close()
            self._running.stdout.close()
            raise SystemExit(f"{' '.join(words)} has not started: {said}")
        self.addresses = found.groups()
        self._is_watched = threading.Event()
        threading.Thread(target=self._running.stdout.read, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._is_watched.set()
        if self._running.poll() is None:
            self._kill()
            self._running.wait()
        self._errors.close()

    def _kill(self) -> None:
        """End the server and what it has started, which is all of its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._running.pid, signal.SIGKILL)

    def tracebacks(self) -> int:
        """Return how many errors of its own the server has shown so far."""
        self._errors.seek(0)
        return self._errors.read().count("Traceback")

    def _watch(self):
        process = Path(f"/proc/{self._running.pid}")
        while not self._is_watched.wait(0.5):
            try:
                threads, files = len(list((process / "task").iterdir())), len(list((process / "fd").iterdir()))
            except OSError:  # it has ended
                return
            self.samples.append(Sample(time.monotonic(), resident(self._running.pid), threads, files))

    def stop(self, number: signal.Signals, seconds: float) -> Ending:
        """Send a signal, and wait until the process has ended."""
        known = children_of(self._running.pid)
        began = time.monotonic()
        os.kill(self._running.pid, number)
        try:
            code = self._running.wait(seconds)
        except subprocess.TimeoutExpired:
            self._running.send_signal(signal.SIGABRT)  # it then says what each of its threads waits for
            code = self._running.wait()
            self._errors.seek(0)
            print(self._errors.read()[-20_000:], file=sys.stderr)
        left = [process for process in known if Path(f"/proc/{process}").exists()]
        return Ending(began, time.monotonic() - began, code, left)


def slope(samples: list[Sample]) -> tuple[float, float, float]:
    """Return the memory's slope in MB a minute, and its 95 % interval.

    Samples near each other are alike, so the line goes through the means of blocks.
    """
    parts = np.array_split(np.array([(each.when, each.megabytes) for each in samples]), BLOCKS)
    minutes, megabytes = np.array([part.mean(axis=0) for part in parts]).T
    minutes = (minutes - minutes.mean()) / 60
    rise = float(minutes @ megabytes / (minutes @ minutes))
    rest = megabytes - megabytes.mean() - rise * minutes
    error = _T * float(np.sqrt(rest @ rest / (BLOCKS - 2) / (minutes @ minutes)))
    return rise, rise - error, rise + error
