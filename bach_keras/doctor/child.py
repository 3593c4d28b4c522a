"""Runs ``inside`` as a process of its own, and says what it found or how it ended."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property

from bach_keras.doctor.finding import ROOT

PATIENCE = 120.0  # seconds; on a machine that is well it takes ten
_ARGUMENTS = [sys.executable, "-m", "bach_keras.doctor.inside"]


class Inside:
    """What each step found, once the process has ended."""

    def __init__(self, process: subprocess.Popen | None, reason: str = ""):
        self._process, self._reason = process, reason

    @cached_property
    def _found(self) -> dict[str, dict]:
        if self._process is None:
            return {}
        try:
            output, errors = self._process.communicate(timeout=PATIENCE)
            self._reason = _last_words(self._process.returncode, errors)
        except subprocess.TimeoutExpired:
            self._process.kill()
            output, _ = self._process.communicate()
            self._reason = f"it did not end within {PATIENCE:.0f} s"
        return {line["step"]: line for line in _json_lines(output)}

    def step(self, name: str) -> tuple[dict | None, str]:
        """Return what a step found; or None, and why it did not end."""
        found = self._found.get(name)
        if found is None:
            return None, self._reason
        return (None, found["error"]) if "error" in found else (found, "")


def _last_words(code: int, errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    last = f": {lines[-1][:300]}" if lines else ""
    return f"the process {f'was ended by {_signal(-code)}' if code < 0 else f'ended with {code}'}{last}"


@contextlib.contextmanager
def inside(sets: dict[str, list[str]], model: str | None) -> Iterator[Inside]:
    """Start the process; what it found is there when it is asked for. It does not outlast the block."""
    try:
        process = subprocess.Popen(
            [*_ARGUMENTS, json.dumps({"sets": sets, "model": model})],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        yield Inside(None, f"no process could be started ({error.strerror or error})")
        return
    try:
        yield Inside(process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def _json_lines(output: str) -> Iterator[dict]:
    for line in output.splitlines():
        with contextlib.suppress(ValueError):  # a line that another library printed
            found = json.loads(line)
            if isinstance(found, dict) and "step" in found:
                yield found


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
