"""The places that are written to: whether they can be, and how much they still hold."""

import errno
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bach_keras.doctor.finding import Asked, Finding, failed, passed, warned
from datasets.data_root import data_root

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Place:
    """Where something is written, the gigabytes without which to FAIL, and those that it may take."""

    name: str
    path: Callable[[Asked], Path]
    least: float
    wanted: float
    what: str
    otherwise: str


PLACES = (
    # 4 GB are BACH's records; its archive, if it is fetched, takes 10.4 GB beside them.
    Place(
        "data", lambda asked: data_root(asked.data_dir), 0.5, 4, "the records of BACH take 4 GB",
        "name another place with --data-dir or TFDS_DATA_DIR",
    ),
    Place(
        "runs", lambda asked: Path("runs").absolute(), 1, 5, "the runs of a tree take up to 5 GB",
        "name another place with --run-dir",
    ),
    Place(
        "models", lambda asked: Path("saved_models").absolute(), 0.6, 1, "a tree takes 0.3 GB, and as much while it "
        "is written", "name another place with --out",
    ),
    Place(
        "caches", lambda asked: Path.home(), 0.1, 0.5, "weights and what was measured of this machine are kept there",
        "set HOME to a folder of yours",
    ),
    Place(
        "temporary", lambda asked: Path(tempfile.gettempdir()), 0.1, 0.5, "files are unpacked there for a moment",
        "set TMPDIR to a folder of yours",
    ),
)  # fmt: skip


def disk(asked: Asked) -> list[Finding]:
    return [_look_at(place, asked) for place in PLACES]


def _look_at(place: Place, asked: Asked) -> Finding:
    name = f"disk {place.name}"
    try:
        path = place.path(asked)
    except (OSError, RuntimeError) as error:  # there is no home, or no place for temporary files
        return failed(name, f"there is no such place: {str(error).rstrip('.')}", place.otherwise)
    try:
        there = _nearest(path)
    except OSError as error:
        fix = f"give yourself the right to enter that folder, or {place.otherwise}"
        return failed(name, f"{path} cannot be reached: {error.strerror}", fix)
    if error := _error_of_writing(there):
        mend = "make room" if error.errno in _FULL else "make it writable"
        return failed(name, f"{there} cannot be written to: {error.strerror}", f"{mend}, or {place.otherwise}")
    free = shutil.disk_usage(there).free / 1e9
    value = f"{free:.1f} GB free for {path}"
    if free < place.wanted:
        found = failed if free < place.least else warned
        return found(name, f"{value}, and {place.what}", f"make room, or {place.otherwise}")
    return passed(name, value)


def _nearest(path: Path) -> Path:
    """Return a path, or what there is of it."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _error_of_writing(folder: Path) -> OSError | None:
    """Try it, as permissions do not tell of a disk that is read-only or has no room; None where all is well."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"doctor")
            file.flush()
    except OSError as error:
        return error
    return None
