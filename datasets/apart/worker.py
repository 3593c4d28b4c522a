"""The process apart: it does one task of ``tasks`` after the other, within limits of memory and time.

It reads questions from its standard input and writes answers to what its standard output was. It can write no file,
and where the system lets it, it has no network.
"""

import contextlib
import ctypes
import math
import os
import signal
import time

from datasets.apart.frames import channels, receive, send
from datasets.apart.tasks import TASKS

try:
    import resource
except ImportError:  # on Windows, where whoever asks still limits the time
    resource = None

# Bytes of addresses. The largest strip that is read takes 1.3 GiB in all its copies, a window of a slide far less.
MEMORY = 2 * 2**30
# Bytes of a question: a TIFF is stored in at most twice its pixels, which are 302 MB.
_MAX_QUESTION = 2**30

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def main() -> None:
    """Answer until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    questions, answers = channels()
    has_left = _leave_the_network()
    _limit()
    send(answers, {"ready": True, "has_network": not has_left})
    while True:
        try:
            how, data = receive(questions, _MAX_QUESTION)
        except EOFError:
            return
        seconds = how.pop("seconds")
        _allow(seconds)
        send(answers, *_done(how.pop("task"), how, data))
        _allow(0)


def _done(task: str, how: dict, data: bytes) -> tuple[dict, bytes]:
    try:
        return TASKS[task](data, **how)
    except MemoryError:
        return {"error": "memory"}, b""
    except ImportError as error:
        return {"error": "import", "reason": str(error)}, b""
    except Exception as error:  # libraries have errors of every kind for damage
        return {"error": "refused", "reason": str(error)}, b""


def _limit() -> None:
    for name, most in (("RLIMIT_AS", MEMORY), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
        # macOS knows the first and does not take it.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (most, most))


def _allow(seconds: float) -> None:
    """End this process if it takes longer than so many seconds and one more, or as much of a processor; 0: never.

    The process that asks enforces the same limit, but may have died.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds + 1 if seconds else 0)
    with contextlib.suppress(AttributeError, ValueError, OSError):
        most = math.ceil(time.process_time() + seconds) if seconds else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def _leave_the_network() -> bool:
    """Move to a network of one's own, in which there is nothing; return whether the system let this happen."""
    try:
        unshare = ctypes.CDLL(None).unshare
    except (AttributeError, OSError, TypeError):  # elsewhere than on Linux
        return False
    # Only root may do so as it is, and only with CAP_SYS_ADMIN, which containers seldom give. Others get a name space
    # of users too, in which root could not read the slides of other users.
    return unshare(_CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWNET | _CLONE_NEWUSER) == 0


if __name__ == "__main__":
    main()
