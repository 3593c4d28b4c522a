"""Opening a file that somebody named, without waiting for what is no file or never answers."""

import contextlib
import errno
import io
import os
import select
import stat
from pathlib import Path
from typing import BinaryIO


def open_file(path: Path) -> BinaryIO:
    """Open a file to read its bytes; an ``OSError`` says of a pipe, a device or a silent file that there are none.

    It may have become a pipe since it was looked at, and what the system shows as a file may wait for events. Errors of
    reading name the file, as those of opening it do.
    """
    file = io.BufferedReader(_Named(path, opener=_at_once))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode) or not _has_bytes(file):
        file.close()
        words = "it is a pipe or a device, or waits for somebody to write into it"
        raise OSError(errno.EINVAL, words, str(path))
    return file


class _Named(io.FileIO):
    def readinto(self, buffer):
        with self._naming():
            return super().readinto(buffer)

    def readall(self):
        with self._naming():
            return super().readall()

    @contextlib.contextmanager
    def _naming(self):
        try:
            yield
        except OSError as error:  # the system says only what is wrong with it, as of a disk that fails
            raise OSError(error.errno, error.strerror, str(self.name)) from error


def _at_once(path, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _has_bytes(file: BinaryIO) -> bool:
    """Say whether reading answers at once, as that of every file on a disk does, at its end too."""
    if not hasattr(select, "poll"):  # Windows
        return True
    asked = select.poll()
    asked.register(file, select.POLLIN)
    return bool(asked.poll(0))
