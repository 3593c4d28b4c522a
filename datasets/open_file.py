"""Opening a file that somebody named, without waiting for what is no file or never answers."""

import errno
import os
import select
import stat
from pathlib import Path
from typing import BinaryIO


def open_file(path: Path) -> BinaryIO:
    """Open a file to read its bytes; an ``OSError`` says of a pipe, a device or a silent file that there are none.

    It may have become a pipe since it was looked at, and what the system shows as a file may wait for events.
    """
    file = open(path, "rb", opener=_at_once)  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode) or not _has_bytes(file):
        file.close()
        words = "it is a pipe or a device, or waits for somebody to write into it"
        raise OSError(errno.EINVAL, words, str(path))
    return file


def _at_once(path, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _has_bytes(file: BinaryIO) -> bool:
    """Say whether reading answers at once, as that of every file on a disk does, at its end too."""
    if not hasattr(select, "poll"):  # Windows
        return True
    asked = select.poll()
    asked.register(file, select.POLLIN)
    return bool(asked.poll(0))
