"""When a set was last verified, kept beside its records as ``verified.json``."""

import datetime
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from datasets.bach_bisque.prepared import Prepared
from datasets.whole import write_json

LOG = logging.getLogger(__name__)

NAME = "verified.json"


@dataclass(frozen=True)
class Verified:
    """When every record was read and found as it was prepared, and which files have another size or time since."""

    at: str  # in UTC, as 2026-12-01 09:30
    changed: tuple[str, ...] = ()


def record_verification(prepared: Prepared) -> None:
    """Note that a set is as it was prepared; a folder that cannot be written to is no failure."""
    now = datetime.datetime.now(datetime.UTC)
    # A file that changed while the set was read, which takes minutes, has another size or time than before.
    files = prepared.measured or measure(prepared.folder)
    try:
        write_json(prepared.folder / NAME, {"at": f"{now:%Y-%m-%d %H:%M}", "files": files})
    except OSError as error:
        LOG.warning(f"When {prepared.config} was verified cannot be noted: {error}")


def last_verification(folder: Path) -> Verified | None:
    """Return when a set was last verified; None where it never was, or where that cannot be read."""
    try:
        said = json.loads((folder / NAME).read_text("utf-8"))
        at, files = said["at"], said["files"]
        datetime.datetime.strptime(at, "%Y-%m-%d %H:%M")
        then = {name: list(status) for name, status in files.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    now = measure(folder)
    return Verified(at, tuple(sorted(name for name in then | now if then.get(name) != now.get(name))))


def measure(folder: Path) -> dict[str, list[int]]:
    """Return the size and time of each file of a set, by which a changed one is noticed without reading it."""
    found = {path.name: path.stat() for path in folder.iterdir() if path.name != NAME and path.is_file()}
    return {name: [status.st_size, status.st_mtime_ns] for name, status in sorted(found.items())}
