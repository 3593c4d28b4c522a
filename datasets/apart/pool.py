"""Processes that decode apart from this one, so that a file which breaks a library in C breaks nothing else."""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from datasets.apart import worker
from datasets.apart.frames import FrameError, receive, send
from datasets.errors import WorkError
from datasets.images.admission import NotTakenError

# A strip of 300 MB is unpacked in three seconds; the rest is for slow and busy machines.
SECONDS = 60.0
# Seconds that a process may take to start.
_START = 60.0

# Bytes that a pipe holds, where the system lets it: each fill costs a change of processes.
_PIPE = 2**20

# Of glibc, and passed over by others: up to so many bytes are kept for the next picture when they are freed. Otherwise
# the system clears new ones for each, which takes longer than to decode it.
_KEPT = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20)}

_ROOT = Path(__file__).parents[2]
_LATE = (signal.SIGALRM, signal.SIGXCPU) if hasattr(signal, "SIGXCPU") else ()
# Ctrl-C at a terminal goes to a group of processes. It is for this one alone, which then ends the others.
_OWN_GROUP = {"process_group": 0} if os.name == "posix" else {}

_POOLS = weakref.WeakSet()


class RefusedError(Exception):
    """The library that did the work says that the bytes are not what it takes."""


class AbsentError(Exception):
    """The library that is to do the work is not installed, or cannot be loaded."""


class _LateError(Exception):
    """A work took longer than it may."""


class Pool:
    """Processes that do the works of ``datasets.apart.works``: as many as there are threads that ask at once.

    They start when they are needed, are used again, and end with this process.

    Args:
        module: what they run.
        seconds: that a work may take.
    """

    def __init__(self, module: str = worker.__name__, seconds: float = SECONDS):
        self._module, self.seconds = module, seconds
        self._idle, self._lock = [], threading.Lock()
        _POOLS.add(self)

    def ask(self, work: str, *data, most: int, until: float | None = None, **said) -> tuple[dict, bytes]:
        """Have a work done on bytes, and return what it answers, at most so many bytes.

        It may take until a time of ``time.monotonic``, where several works are one to who reads the file.

        A ``NotTakenError`` is raised where the process ended, took too long or needed too much memory, a
        ``RefusedError`` where the library refused the bytes.
        """
        process = self._take()
        try:
            seconds = self.seconds if until is None else max(until - time.monotonic(), 0.1)
            answer, pixels = process.ask({"work": work, "seconds": seconds, **said}, data, most, seconds)
        except _LateError:
            process.end()
            raise NotTakenError(
                f"was not decoded within {self.seconds:g} s: it is damaged, or made to keep a program busy"
            ) from None
        except BaseException:
            process.end()
            raise
        self._give_back(process)
        match answer.get("error"):
            case None:
                return answer, pixels
            case "memory":
                raise NotTakenError(
                    f"needs more memory to be decoded than the {worker.MEMORY / 2**30:g} GiB it may have"
                )
            case "import":
                raise AbsentError(str(answer.get("reason")))
        raise RefusedError(str(answer.get("reason")))

    def close(self) -> None:
        """End the processes that nobody is waiting for."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()

    def forget(self) -> None:
        """Leave the processes to the one that this was forked from."""
        idle, self._idle, self._lock = self._idle, [], threading.Lock()
        for process in idle:
            process.forget()

    def _give_back(self, process: "_Process") -> None:
        with self._lock:
            self._idle.append(process)

    def _take(self) -> "_Process":
        while True:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            if process is None:
                return _Process(self._module)
            if process.is_there():
                return process
            process.end()  # the system ended it meanwhile, as it does where memory is short


class _Process:
    def __init__(self, module: str):
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            # Without -P, modules of the folder that this runs in would come before all others, and may be anybody's.
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_KEPT | os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            **_OWN_GROUP,
        )
        self._is_late = False
        for file in (self._process.stdin, self._process.stdout):
            _widen(file)
        try:
            self._receive(_START, 0)
        except (EOFError, OSError, FrameError):
            self.end()
            raise WorkError(
                "The process that decodes images did not start: is there memory for it? To see why, run "
                f"{sys.executable} -P -m {module} in {_ROOT}."
            ) from None

    def ask(self, said: dict, data: tuple, most: int, seconds: float) -> tuple[dict, bytes]:
        """Return the answer to a question; a ``NotTakenError`` or a ``_LateError`` says why there is none."""
        try:
            with self._ended_after(seconds):
                send(self._process.stdin, said, *data)
                return receive(self._process.stdout, most)
        except FrameError:
            raise NotTakenError("misled the process that decoded it: it is damaged, or made to do harm") from None
        except (EOFError, OSError):
            code = self._process.wait()
            if self._is_late or -code in _LATE:
                raise _LateError from None
            how = f"exit code {code}" if code >= 0 else f"signal {-code}"
            raise NotTakenError(
                f"ended the process that decoded it ({how}): it is damaged, or made to do harm"
            ) from None

    def is_there(self) -> bool:
        return not self._is_late and self._process.poll() is None

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._close()

    def forget(self) -> None:
        self._process.returncode = 0  # it is no child of this process
        self._close()

    def _close(self) -> None:
        for file in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                file.close()

    def _receive(self, seconds: float, most: int) -> tuple[dict, bytes]:
        with self._ended_after(seconds):
            return receive(self._process.stdout, most)

    @contextlib.contextmanager
    def _ended_after(self, seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, self._end_late)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end_late(self) -> None:
        self._is_late = True
        self._process.kill()


def _widen(file: BinaryIO) -> None:
    # The system lets a user have so many pages in pipes, and other systems have no such call.
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(file.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)


SHARED = Pool()


@atexit.register
def _close_all() -> None:
    for pool in list(_POOLS):
        pool.close()


def _forget_all() -> None:
    for pool in list(_POOLS):
        pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
