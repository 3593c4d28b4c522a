"""The answers of a slide that is not finished, kept batch by batch, so that killed work continues where it was."""

import contextlib
import json
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from datasets.errors import UserError
from datasets.locked import NoLocksError, lock, no_locks_in

LOG = logging.getLogger(__name__)

NAME = ".answers.jsonl"


class Journal:
    """The answers of one slide for one set of settings; each phase of the work has its own.

    A line is a checksum and JSON. What a killed process, or a full disk, left half-written is dropped, with all that
    follows it. The file is locked as long as it is open.
    """

    def __init__(self, file, path: Path, settings: dict):
        self._file, self._path, self._rows = file, path, {}
        self.other = None  # the settings of what it held, where they are other than these
        lines = self._lines()
        head = next(lines, None)
        if head is not None and head.get("settings") == settings:
            for line in lines:
                self._rows.setdefault(line["phase"], []).extend(line["rows"])
            self._file.truncate()  # behind the last line that is whole
            return
        self.other = head and head.get("settings")
        self._file.seek(0)
        self._file.truncate()
        self._write({"settings": settings})

    def rows(self, phase: str) -> list[dict]:
        """Return the rows of a phase that were answered already, in order."""
        return list(self._rows.get(phase, ()))

    def add(self, phase: str, rows: list[dict]) -> None:
        """Keep the next rows of a phase; they are on the disk when this returns."""
        self._write({"phase": phase, "rows": rows})

    def remove(self) -> None:
        self._path.unlink()

    def _write(self, value) -> None:
        text = json.dumps(value).encode()
        try:
            self._file.write(b"%08x " % zlib.crc32(text) + text + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OSError(f"{self._path} cannot be written: {error.strerror or error}.") from error

    def _lines(self) -> Iterator[dict]:
        """Yield each whole line; the file then stands behind it."""
        end = 0
        self._file.seek(0)
        for line in self._file:
            digits, _, text = line.partition(b" ")
            if not line.endswith(b"\n") or digits != b"%08x" % zlib.crc32(text[:-1]):
                break
            end += len(line)
            yield json.loads(text)
        self._file.seek(end)


@contextlib.contextmanager
def open_journal(folder: Path, settings: dict) -> Iterator[Journal]:
    """Open the journal in a slide's folder; a ``UserError`` is raised while another process has it open."""
    path = folder / NAME
    while True:
        with _opened(path) as file:
            try:
                if not lock(file):
                    raise UserError(f"Another process writes {folder} now: wait for it, or choose another --out.")
            except NoLocksError:
                LOG.warning(no_locks_in(folder, "another slide into it"))
            if _is(file, path):  # and not one that its owner removed when it had finished
                yield Journal(file, path, settings)
                return


@contextlib.contextmanager
def _opened(path: Path):
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):  # what cannot be written was said when it was to be
            file.close()


def _is(file, path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
