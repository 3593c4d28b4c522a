"""What sets of the user's own images are called, and the names by which their images are drawn and ordered."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from datasets.errors import UserError
from datasets.images.folder import SUFFIXES

# The CSV file of a folder that has one.
SHEET = "labels.csv"

_PREFIX = "own-"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def is_own(config: str) -> bool:
    """Say whether this is the name of a config of own images, prepared or not."""
    return config.startswith(_PREFIX) and bool(_NAME.fullmatch(config.removeprefix(_PREFIX)))


def config_of(name: str) -> str:
    """Return the config of a set that the user names; refuse a name that could not be a folder's everywhere."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--name {name!r} cannot name a data set: choose at most 40 small letters, digits, hyphens and "
            "underscores, the first a letter or digit (--name clinic-a)."
        )
    return _PREFIX + name


def name_for(source: Path) -> str:
    """Return the name of a set that the user gave none: its folder's, or its CSV file's, in the letters of a name."""
    source = Path(os.path.abspath(os.path.expanduser(source)))
    place = source.parent if source.name == SHEET else source
    called = place.stem if place.suffix.lower() == ".csv" else place.name
    name = re.sub(r"[^a-z0-9_-]+", "-", called.lower()).strip("-_")
    if not _NAME.fullmatch(name):
        raise UserError(f"{source} has no name that could be the set's: give one with --name (--name clinic-a).")
    return name


def options_of(config: str) -> str:
    """Return the options without which ``data prepare`` cannot make a config."""
    return (
        f"--config own --name {config.removeprefix(_PREFIX)} --source DIR" if is_own(config) else f"--config {config}"
    )


def drawn_names(filenames: Iterable[str]) -> dict[str, str]:
    """Return file name -> the name that an image is drawn and ordered by, which neither its folder nor format changes.

    That is its bare name ending in ``.tif``, so that BISQUE as a folder of PNGs gives BISQUE's own order. Where images
    would share it, it is their path in the set with that ending, and if that is shared too, their path as it is.
    """
    paths = {filename: PurePosixPath(filename.partition("/")[2]) for filename in filenames}
    named = {filename: (_as_tif(path.name), _as_tif(str(path)), str(path)) for filename, path in paths.items()}
    counts = [Counter(names[place] for names in named.values()) for place in (0, 1)]
    return {
        filename: next((name for name, count in zip(names, counts, strict=False) if count[name] == 1), names[-1])
        for filename, names in named.items()
    }


def _as_tif(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix(".tif") if path.suffix.lower() in SUFFIXES else path)
