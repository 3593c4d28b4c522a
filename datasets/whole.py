"""Writing a file or a folder completely, or not at all."""

import contextlib
import ctypes
import errno
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from datasets.errors import UserError
from datasets.processes import MACHINE, is_running

_COUNT = itertools.count()

# Folders in which this process has looked for what others left: once, as one may hold millions of files.
_CLEARED: set[Path] = set()
# Earlier versions left the machine out.
_OF_PROCESS = re.compile(r"\.(?:([0-9a-f]{6})\.)?(\d+)-\d+\.part(?:\.|$)")
_ABANDONED = 24 * 3600  # seconds without a change after which what another machine left counts as left behind

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux

# Libraries look at the end of a name, such as .weights.h5; a longer one is part of the name itself.
_LONGEST_ENDING = 16


@contextlib.contextmanager
def whole(path: Path, room: int = 0) -> Iterator[Path]:
    """Give a temporary name with the same ending to write to; it becomes the file's when the block ends.

    Where the block fails, the temporary file is removed, and what was there under the file's name stays. An ``OSError``
    gets the path: a full disk says only that it is full.

    Args:
        room: bytes that must be free before the block begins, for libraries that say a full disk in many lines.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):  # a new file would take the place of /dev/null itself
        raise UserError(f"{path} is a pipe, a device or a socket: name a file.")
    partial = _unfinished(path)
    try:
        if room:
            _take(partial, room)
        yield partial
        partial.replace(path)
    except OSError as error:
        # HDF5 has many words of its own for a number that says enough.
        raise OSError(f"{path} cannot be written: {os.strerror(error.errno) if error.errno else error}.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a new, empty folder to fill; it becomes ``path``, where nothing may be, when the block ends."""
    path = Path(path)
    partial = _unfinished(path)
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(path)
    except UserError:  # one of them is an OSError too
        raise
    except OSError as error:
        raise OSError(f"{path} cannot be made: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, value) -> None:
    """Write JSON for people to read, completely or not at all."""
    with whole(path) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n")


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change names in one step; return False where the system, or the file system, cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    return rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def unfinished(folder: Path) -> list[Path]:
    """Return what a process that was killed left half-written in a folder."""
    return sorted(path for path in Path(folder).glob(".*.part*") if _OF_PROCESS.match(path.name))


def _take(path: Path, room: int) -> None:
    """Take so many bytes of the disk; whoever opens the file to write gives them back."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, room)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # others say that this cannot be done here
                raise


def _unfinished(path: Path) -> Path:
    _clear(path.parent)
    # The name is short, as the file's own may be as long as any can be; and new, as threads may write at once.
    ending = "".join(path.suffixes[-2:])
    ending = ending if len(ending) <= _LONGEST_ENDING else ""
    return path.with_name(f".{MACHINE}.{os.getpid()}-{next(_COUNT)}.part{ending}")


def _clear(folder: Path) -> None:
    """Remove what processes that were killed left half-written in a folder."""
    folder = folder.absolute()
    if folder in _CLEARED:
        return
    _CLEARED.add(folder)
    for path in unfinished(folder):
        with contextlib.suppress(OSError):  # what cannot be removed disturbs nobody
            if _is_abandoned(path):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _is_abandoned(path: Path) -> bool:
    found = _OF_PROCESS.match(path.name)
    if found[1] == MACHINE:
        return not is_running(int(found[2]))
    return path.lstat().st_mtime < time.time() - _ABANDONED
