"""Processes that decode apart from this one, so that a file which breaks a library in C breaks nothing else."""

import atexit
import os
import signal
import subprocess
import threading
import time
import weakref

from datasets.apart import worker
from datasets.apart.child import Child, ending
from datasets.apart.frames import FrameError
from datasets.images.admission import NotTakenError

# A strip of 300 MB is unpacked in three seconds; the rest is for slow and busy machines.
SECONDS = 60.0

_TIMEOUTS = (signal.SIGALRM, signal.SIGXCPU) if hasattr(signal, "SIGXCPU") else ()
_MISLED = "misled the process that decoded it: it is damaged, or made to do harm"

_POOLS = weakref.WeakSet()


class RefusedError(Exception):
    """The library that did the work says that the bytes are not what it takes."""


class AbsentError(Exception):
    """The library that is to do the work is not installed, or cannot be loaded."""


class _TimeoutError(Exception):
    """A task took longer than it may."""


class Pool:
    """Processes that do the tasks of ``datasets.apart.works``: one for each thread that asks.

    They start when they are needed, are used again, and end with this process.

    Args:
        module: what they run.
        seconds: that a task may take.
    """

    def __init__(self, module: str = worker.__name__, seconds: float = SECONDS):
        self._module, self.seconds = module, seconds
        self._idle, self._lock = [], threading.Lock()
        _POOLS.add(self)

    def ask(self, task: str, *data, exactly: int, until: float | None = None, **how) -> tuple[dict, bytes]:
        """Have a task done on bytes, and return its answer, which has exactly so many bytes.

        It may take until a time of ``time.monotonic``, by which several tasks of one file share its time.

        A ``NotTakenError`` is raised where the process ended, took too long or needed too much memory, a
        ``RefusedError`` where the library refused the bytes.
        """
        child = self._take()
        try:
            seconds = self.seconds if until is None else max(until - time.monotonic(), 0.1)
            answer, pixels = _ask(child, {"task": task, "seconds": seconds, **how}, data, exactly, seconds)
        except _TimeoutError:
            child.end()
            raise NotTakenError(
                f"was not decoded within {self.seconds:g} s: it is damaged, or made to keep a program busy"
            ) from None
        except BaseException:
            child.end()
            raise
        self._give_back(child)
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
        for child in idle:
            child.end()

    def detach(self) -> None:
        """Leave the processes to the one that this was forked from."""
        idle, self._idle, self._lock = self._idle, [], threading.Lock()
        for child in idle:
            child.detach()

    def _give_back(self, child: Child) -> None:
        with self._lock:
            self._idle.append(child)

    def _take(self) -> Child:
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is None:
                return Child(self._module, stderr=subprocess.DEVNULL)
            if not child.is_late and child.is_running():
                return child
            child.end()  # the system ended it meanwhile, as it does where memory is short


def _ask(child: Child, header: dict, data: tuple, exactly: int, seconds: float) -> tuple[dict, bytes]:
    """Return the answer to a question; a ``NotTakenError`` or a ``_TimeoutError`` says why there is none."""
    try:
        with child.ended_after(seconds):
            child.send(header, *data)
            answer, found = child.receive(exactly)
    except FrameError:
        raise NotTakenError(_MISLED) from None
    except (EOFError, OSError):
        code = child.exit_code()
        if child.is_late or -code in _TIMEOUTS:
            raise _TimeoutError from None
        raise NotTakenError(
            f"ended the process that decoded it ({ending(code)}): it is damaged, or made to do harm"
        ) from None
    if answer.get("error") is None and len(found) != exactly:
        raise NotTakenError(_MISLED)
    return answer, found


SHARED = Pool()


@atexit.register
def _close_all() -> None:
    for pool in list(_POOLS):
        pool.close()


def _detach_all() -> None:
    for pool in list(_POOLS):
        pool.detach()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_detach_all)
