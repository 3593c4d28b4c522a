"""Locks on files, which a process holds until it closes the file or ends, however it ends."""

from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class NoLocksError(OSError):
    """The file system has no locks, as some network disks have none."""


def lock(file: BinaryIO, wait: bool = False) -> bool:
    """Lock an open file for this process, and say whether that succeeded: another process may hold it.

    Raises:
        NoLocksError: nothing can be locked here.
    """
    if fcntl is None:
        raise NoLocksError
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:  # each file system has a number of its own for that
        raise NoLocksError from error
    return True


def no_locks_in(folder, what: str) -> str:
    """Return the sentence that warns of a folder where nothing can be locked; ``what`` must then run alone."""
    return f"The disk of {folder} has no file locks, so this continues without one: run {what} only after it."
