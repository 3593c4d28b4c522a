"""A process that runs a module of this project, and answers what it is asked by pipes."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from datasets.apart import frames
from datasets.errors import WorkError

# Seconds that a process may take to start, and to end once it has closed its pipe.
_START = 60.0
_END = 5.0

# Bytes that a pipe holds, where the system lets it: each fill costs a change of processes.
_PIPE = 2**20

# Settings of glibc's malloc, which others ignore: up to so many bytes are kept for the next picture when they are
# freed. Otherwise the system clears new ones for each, which takes longer than to decode it.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20)}

_ROOT = Path(__file__).parents[2]
# Ctrl-C at a terminal goes to a group of processes. It is for this one alone, which then ends the others.
_OWN_GROUP = {"process_group": 0} if os.name == "posix" else {}


class Child:
    """A process of a module that reads and writes by ``frames.channels``, and says first that it is ready.

    A ``WorkError`` is raised where it does not start.

    Args:
        folder: where it works; by default where this process does.
        stderr: as ``subprocess.Popen`` takes it.
    """

    def __init__(self, module: str, folder: str | None = None, stderr: int | None = None):
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        # Without -P, modules of the folder that it works in would come before all others, and may be anybody's.
        command = [sys.executable, "-P", "-m", module]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=folder,
                env=_MALLOC | os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                **_OWN_GROUP,
            )
        except OSError as error:
            raise _not_started(command, f" ({error.strerror})") from error
        self.pid, self.answers = self._process.pid, self._process.stdout
        self.is_late = False
        for file in (self._process.stdin, self._process.stdout):
            _widen(file)
        try:
            with self.ended_after(_START):
                self.hello, _ = self.receive(0)
        except (EOFError, OSError, frames.FrameError):
            self.end()
            raise _not_started(command) from None
        except BaseException:
            self.end()
            raise

    def send(self, header: dict, *data) -> None:
        """Send a message; see ``frames.send``."""
        frames.send(self._process.stdin, header, *data)

    def receive(self, max_bytes: int) -> tuple[dict, bytes]:
        """Return an answer; see ``frames.receive``."""
        return frames.receive(self.answers, max_bytes)

    @contextlib.contextmanager
    def ended_after(self, seconds: float) -> Iterator[None]:
        """End the process if the block takes longer than so many seconds; it is then ``is_late``."""
        timer = threading.Timer(seconds, self._end_late)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def exit_code(self) -> int:
        """Return the exit code, or minus the signal, of a process that has closed its pipe."""
        try:
            return self._process.wait(_END)
        except subprocess.TimeoutExpired:  # code that a file brought in may close the pipe and stay
            self._process.kill()
            return self._process.wait()

    def is_running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._close()

    def detach(self) -> None:
        """Leave the process to the one that this was forked from."""
        self._process.returncode = 0  # it is no child of this process
        self._close()

    def _close(self) -> None:
        for file in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                file.close()

    def _end_late(self) -> None:
        self.is_late = True
        self._process.kill()


def _not_started(command: list[str], reason: str = "") -> WorkError:
    return WorkError(
        f"The process that decodes images did not start{reason}: is there memory for it? To see why, run "
        f"{' '.join(command)} in {_ROOT}."
    )


def ending(code: int) -> str:
    """Say how a process ended."""
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def _widen(file: BinaryIO) -> None:
    # The system lets a user have so many pages in pipes, and other systems have no such call.
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(file.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)
