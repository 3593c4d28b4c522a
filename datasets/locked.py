"""Locks on files, which a process holds until it closes the file or ends, however it ends."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from datasets.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOG = logging.getLogger(__name__)


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


@contextlib.contextmanager
def only_one(path: Path, refusal: str, what: str) -> Iterator[None]:
    """Hold a lock file, which is removed when the block ends.

    Raises:
        UserError: another process holds it; says ``refusal``. Where nothing can be locked, a warning says that ``what``
            must run alone.
    """
    while True:
        with path.open("wb") as file:
            try:
                if not lock(file):
                    raise UserError(refusal)
            except NoLocksError:
                LOG.warning(no_locks_in(path.parent, what))
            if not _is(file, path):  # its owner removed it when it had finished
                continue
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    path.unlink()
            return


def _is(file, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
