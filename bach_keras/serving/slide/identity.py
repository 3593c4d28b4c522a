"""Which slide a file holds, without reading all of it."""

import hashlib
import json
import os
from pathlib import Path

from datasets.slides.slide import Slide

# So much is read of a file, in so many places spread over it: a slide has gigabytes.
_PART, _PARTS = 2**16, 64
# A file that names those of a Hamamatsu slide has some hundred lines.
_MAX_INDEX = 2**20


def digest_of(slide: Slide) -> str:
    """Return a SHA-256 of a slide: its levels, and its file's size and 64 parts of it, first and last among them.

    It tells slides apart, and a file from one that was cut or written again; it is not proof against somebody who
    changes what lies between the parts. MRXS, VMS and VMU keep their pixels in files beside the one that is named: the
    names and sizes of these are in it.
    """
    digest = hashlib.sha256(json.dumps([[level.width, level.height] for level in slide.levels]).encode())
    size = slide.path.stat().st_size
    digest.update(f"{size}".encode())
    with slide.path.open("rb") as file:
        for part in range(_PARTS):
            file.seek(max(0, size - _PART) * part // (_PARTS - 1))
            digest.update(file.read(_PART))
    for path in _beside(slide.path):
        digest.update(os.fsencode(path.name) + f" {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _beside(path: Path) -> list[Path]:
    """Return the files beside a slide's own that hold its pixels, sorted."""
    if folder := data_folder(path):
        return sorted(folder.iterdir())
    if path.suffix.lower() not in (".vms", ".vmu"):
        return []
    with path.open("rb") as file:  # lines such as ImageFile=a.jpg
        values = {os.fsdecode(line.partition(b"=")[2].strip()) for line in file.read(_MAX_INDEX).splitlines()}
    named = (path.parent / value for value in values if value and os.path.basename(value) == value)
    return sorted(each for each in named if each.is_file())


def data_folder(path: Path) -> Path | None:
    """Return the folder in which MRXS keeps the pixels of a slide; None of another format."""
    folder = path.with_suffix("")
    return folder if path.suffix.lower() == ".mrxs" and folder.is_dir() else None
