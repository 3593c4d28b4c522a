"""Writing a file or a folder completely, or not at all."""

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from datasets.errors import UserError

_COUNT = itertools.count()

# Libraries look at the end of a name, such as .weights.h5; a longer one is part of the name itself.
_LONGEST_ENDING = 16


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary name with the same ending to write to; it becomes the file's when the block ends.

    Where the block fails, the temporary file is removed, and what was there under the file's name stays. An ``OSError``
    gets the path: a full disk says only that it is full.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):  # a new file would take the place of /dev/null itself
        raise UserError(f"{path} is a pipe, a device or a socket: name a file.")
    partial = _unfinished(path)
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}.") from error
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


def unfinished(folder: Path) -> list[Path]:
    """Return what a process that was killed left half-written in a folder."""
    return sorted(Path(folder).glob(".*.part*"))


def _unfinished(path: Path) -> Path:
    # The name is short, as the file's own may be as long as any can be; and new, as threads may write at once.
    ending = "".join(path.suffixes[-2:])
    ending = ending if len(ending) <= _LONGEST_ENDING else ""
    return path.with_name(f".{os.getpid()}-{next(_COUNT)}.part{ending}")
