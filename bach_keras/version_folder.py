"""Folders of exports: a version folder, or one above several."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from datasets.errors import UserError


def is_version(name: str) -> bool:
    """Return whether a folder's name is a version number: ASCII digits that fit TF Serving's 64 bits."""
    return name.isascii() and name.isdigit() and len(name) <= 18


def is_plain(path) -> bool:
    """Return whether TensorFlow can load from a path: it looks up a model's variables by a pattern in UTF-8."""
    try:
        return not set("[\\") & set(str(path).encode().decode())
    except UnicodeEncodeError:
        return False


def version_folder(folder: Path) -> Path:
    """Return an export's version folder; of a folder above several it is the highest version."""
    found = versions(folder)
    if not found:
        raise UserError(f"{folder} is not an export: it holds no saved_model.pb. Make one with 'export --out'.")
    return found[0] if len(found) == 1 else max(found, key=lambda path: int(path.name))


@contextlib.contextmanager
def loadable(folder: Path) -> Iterator[Path]:
    """Give a path to a folder that TensorFlow can load from: its own, or where it would be a pattern a link."""
    if is_plain(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        link = Path(place) / "export"
        link.symlink_to(folder.resolve())
        yield link


def versions(folder: Path) -> list[Path]:
    """Return the folder itself if it is an export, else the version folders in it; empty where there are none."""
    if (folder / "saved_model.pb").is_file():
        return [folder]
    inside = folder.iterdir() if folder.is_dir() else ()
    return [path for path in inside if is_version(path.name) and (path / "saved_model.pb").is_file()]
