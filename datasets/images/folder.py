"""Which images a folder holds."""

from collections.abc import Iterable
from pathlib import Path

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")


def find_images(paths: Iterable) -> list[Path]:
    """List the files to read: named ones as they are, folders walked in sorted order for image suffixes.

    Raises:
        FileNotFoundError: a folder holds no image.
    """
    found = []
    for path in map(Path, paths):
        if not _is_folder(path):
            found.append(path)
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and _may_be_file(p))
        if not inside:
            raise FileNotFoundError(f"The folder {path} holds no image ({', '.join(SUFFIXES)}).")
        found += inside
    return found


def _is_folder(path) -> bool:
    """Say so of a folder; a name that cannot be looked up is left to ``read_rgb``, which tells why."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _may_be_file(path) -> bool:
    """Say so of a file, and of a name that cannot be looked up, as ``read_rgb`` tells why."""
    try:
        return path.is_file()
    except OSError:
        return True
