"""Putting new records in the place of old ones, and clearing up after a preparation that was killed.

While a set is prepared, next to it are ``.building`` with the new records, for a moment ``.replaced-VERSION``
with the old ones, and the lock of the process that prepares it.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from datasets.locked import NoLocksError, lock, no_locks_in

LOG = logging.getLogger(__name__)

_ABANDONED = 24 * 3600  # seconds without a change after which TFDS's own unfinished folder counts as left behind
_MOMENT = 0.05  # seconds; two renames take less


@contextlib.contextmanager
def alone(place: Path, what: str) -> Iterator[None]:
    """Let a second process that wants to do the same wait for the first; where nothing can be locked, say so."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as file:
        try:
            if not lock(file):
                LOG.info(f"Waiting for {what} to end.")
                lock(file, wait=True)
        except NoLocksError:
            LOG.warning(no_locks_in(place.parent, what))
        yield


def lock_of(target: Path) -> Path:
    """Return the lock of the process that prepares a set."""
    return target.parent / ".prepare.lock"


def building_place(target: Path) -> Path:
    """Return the folder that new records are built in; it is on the target's disk."""
    return target.parent / ".building"


def restore(target: Path) -> None:
    """Give a set its name back where a replacement was killed between its two renames; wait for one at work."""
    while _is_between_renames(target):
        try:
            undone = _undo(target)
        except OSError as error:
            raise OSError(
                f"{_replaced(target)} is a set that a killed preparation left aside, and it cannot get its name "
                f"back ({error}): make {target.parent} writable."
            ) from error
        if not undone:
            time.sleep(_MOMENT)


def _undo(target: Path) -> bool:
    """Give a set its name back, unless the process that replaces it is at work."""
    try:
        with if_free(target) as free:
            if free:
                _rename_back(target)
            return free
    except NoLocksError:
        time.sleep(20 * _MOMENT)  # a process at work has done its second rename by then
        _rename_back(target)
        return True


def clear(target: Path) -> None:
    """Remove what a killed preparation left, unless another one is at work or the folder cannot be written to."""
    if _leftovers(target):
        with contextlib.suppress(OSError), if_free(target) as free:
            if free:
                clear_alone(target)


def clear_alone(target: Path) -> None:
    """Undo and remove what a killed preparation left; the caller holds the lock."""
    _rename_back(target)
    for leftover in _leftovers(target):
        shutil.rmtree(leftover, ignore_errors=True)


def replace(target: Path, new: Path) -> None:
    """Put a complete set in the place of another, if there is one; the caller holds the lock."""
    if target.exists():
        target.rename(_replaced(target))
    new.rename(target)
    shutil.rmtree(_replaced(target), ignore_errors=True)


def _replaced(target: Path) -> Path:
    return target.with_name(f".replaced-{target.name}")


def _is_between_renames(target: Path) -> bool:
    return _replaced(target).exists() and not target.exists()


def _rename_back(target: Path) -> None:
    if _is_between_renames(target):
        _replaced(target).rename(target)


def _leftovers(target: Path) -> list[Path]:
    """List what is left of unfinished work next to a set.

    ``incomplete.*`` is TFDS's name for an unfinished folder. ``tfds.load`` may be writing it at this moment, so only
    old ones count.
    """
    old = [folder for folder in target.parent.glob("incomplete.*") if _last_touched(folder) < time.time() - _ABANDONED]
    return [place for place in (building_place(target), _replaced(target), *old) if place.exists()]


def _last_touched(folder: Path) -> float:
    times = []
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # removed while we look
            times.append(path.stat().st_mtime)
    return max(times, default=time.time())


@contextlib.contextmanager
def if_free(target: Path) -> Iterator[bool]:
    """Hold the lock, if nobody else does, and say whether we do."""
    with lock_of(target).open("wb") as file:
        yield lock(file)
