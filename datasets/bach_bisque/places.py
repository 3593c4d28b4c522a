"""A user's folder or zip as the files it holds, none of them read before it was checked.

Nothing is unpacked: the official BACH archive also holds ten gigabytes of whole slides.
"""

import contextlib
import os
import stat
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from datasets.errors import UserError
from datasets.images.folder import is_clutter, walk
from datasets.wording import in_short

# No file that is read is larger: BACH's have 9.4 MB, a scanner's colour profile has 13. Reading stops at what claims
# to have more or inflates to more.
MAX_BYTES = 128 << 20
_PIECE = 4096
# Characters of an entry's name; a damaged length makes what follows it a part of the name.
_MAX_NAME = 500
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}


@dataclass(frozen=True)
class Entry:
    """One file, not read yet."""

    name: str  # where it is, for sentences
    get_size: Callable[[], int]  # in bytes; refuses what is not a regular file: a pipe would be read for ever
    open: Callable[[], contextlib.AbstractContextManager[BinaryIO]]

    def check(self) -> None:
        """Refuse what cannot be read or is too large, without reading it."""
        size = self.get_size()
        if size > MAX_BYTES:
            raise UserError(f"{self.name} has {size:,} bytes; no image of this data set has more than {MAX_BYTES:,}.")

    def __call__(self) -> bytes:
        """Read it, never more than ``MAX_BYTES``."""
        self.check()
        content = bytearray()
        try:
            with self.open() as file:
                # In small pieces: of a zip's entry, each may inflate to thousands of times its size.
                while len(content) <= MAX_BYTES and (piece := file.read(_PIECE)):
                    content += piece
        except Exception as error:  # zipfile and its decoders raise errors of many kinds for a damaged entry
            raise UserError(f"{self.name} cannot be read ({in_short(error)}): fetch it again.") from error
        if len(content) > MAX_BYTES:
            raise UserError(f"{self.name} has more than {MAX_BYTES:,} bytes, so it is not an image of this data set.")
        return bytes(content)


@dataclass(frozen=True)
class Place:
    """A folder or zip."""

    path: Path
    files: dict[str, Entry]  # name relative to the path, with "/", -> file
    closed: list[Path] = field(default_factory=list)  # folders in it that cannot be listed


def open_folder(folder: Path) -> Place:
    """List a folder's files at any depth; a computer's own are passed over, and linked folders followed."""
    files, closed = walk(folder)
    return Place(folder, {path.relative_to(folder).as_posix(): _file_entry(path) for path in files}, closed)


def open_zip(path: Path, stack: contextlib.ExitStack) -> Place:
    """List a zip's files; the stack keeps it open. Refuse one that is damaged, or has a name twice or outside of it."""
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
    except OSError:
        raise
    except Exception as error:  # zipfile raises errors of many kinds for a damaged zip
        raise UserError(
            f"{path} is not a complete zip file ({in_short(error)}): remove it and fetch it again."
        ) from error
    # Some programs on Windows separate folders by backslashes, against the format.
    named = [(entry.filename.replace("\\", "/"), entry) for entry in archive.infolist()]
    held = [(name, entry) for name, entry in named if not name.endswith("/")]
    for name, entry in held:
        if len(name) > _MAX_NAME:
            raise UserError(
                f"{path} has an entry with a name of {len(name):,} characters ({name[:50]!r}...): it is damaged, or "
                "not what was published. Remove it and fetch it again."
            )
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise UserError(f"{path} has an entry that climbs out of it, {entry.filename!r}: do not trust this zip.")
    twice = [name for name, count in Counter(name for name, _ in held).items() if count > 1]
    if twice:
        raise UserError(f"{path} holds {twice[0]} twice under one name: make the zip again, with one of the two.")
    shown = [(name, entry) for name, entry in held if not any(map(is_clutter, PurePosixPath(name).parts))]
    lock = threading.Lock()
    return Place(path, {name: _zip_entry(archive, entry, path, lock) for name, entry in shown})


def _file_entry(path: Path) -> Entry:
    def get_size() -> int:
        try:
            found = path.stat()
        except OSError as error:  # a link that leads nowhere, for one
            raise OSError(f"{path} cannot be read: {error.strerror}.") from error
        return _regular(path, found)

    def open_file() -> BinaryIO:
        # It may have become a pipe since it was looked at, and opening one would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        file = os.fdopen(descriptor, "rb", buffering=1 << 20)
        with contextlib.ExitStack() as stack:
            stack.callback(file.close)
            _regular(path, os.fstat(descriptor))
            stack.pop_all()
        return file

    return Entry(str(path), get_size, open_file)


def _regular(path: Path, found: os.stat_result) -> int:
    """Return a file's size; refuse what is not a regular file."""
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path} is a pipe, a device or a socket under the name of an image: take it away.")
    return found.st_size


def _zip_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, lock: threading.Lock) -> Entry:
    name = f"{path}: {entry.filename}"

    def get_size() -> int:
        if entry.flag_bits & 1:
            raise UserError(f"{name} is encrypted: unpack the zip and name the folder.")
        if entry.compress_type not in _METHODS:
            raise UserError(f"{name} is compressed in a way that Python cannot undo: unpack it and name the folder.")
        return entry.file_size

    @contextlib.contextmanager
    def open_alone() -> Iterator[BinaryIO]:
        with lock, archive.open(entry) as file:  # zipfile does not promise that threads may open its entries at once
            yield file

    return Entry(name, get_size, open_alone)
