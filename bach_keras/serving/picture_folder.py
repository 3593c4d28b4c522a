"""A folder for pictures that ``predict`` writes: which one it may be, and how they are called there."""

import hashlib
import os
import re
from pathlib import Path

from datasets.errors import UserError

# A name keeps so much of the image's own.
_LONGEST_STEM = 60


def check_folder(option: str, out: Path, paths) -> None:
    """Refuse a place that is not a folder, or whose pictures would be answered for; ``paths`` are those that are."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{option} {out} is not a folder: name one for the pictures.")
    place = out.resolve()
    for path in map(Path, paths):
        if path.is_dir() and place.is_relative_to(path.resolve()):
            raise UserError(
                f"{option} {out} lies in {path}, whose images are answered for, so the pictures would be too the next "
                "time: name a folder outside it."
            )


def stem(path) -> str:
    """Return what can be kept of an image's own name, and a digest of its path."""
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', Path(path).stem)[:_LONGEST_STEM]}-{digest}"
