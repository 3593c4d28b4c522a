"""The folder in which a command is tried: filled up, made read-only, and listed."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from datasets.digest import sha256_of

# Bytes of room that a full disk may still have: of its last page, and of a file that was started and taken away.
_NOTHING = 2**16


def can_mount() -> bool:
    """Say whether this process may mount a file system of its own."""
    return os.geteuid() == 0 and shutil.which("mount") is not None and _mounts(Path("/proc/self/mounts"))


def _mounts(mounts: Path) -> bool:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(["mount", "-t", "tmpfs", "none", place], capture_output=True, check=False)
        if done.returncode == 0:
            subprocess.run(["umount", place], check=True)
        return done.returncode == 0 and mounts.exists()


class Disk:
    """A small disk at a folder, for as long as the block lasts; what is on it then stays in the folder."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __enter__(self):
        self._folder.mkdir()
        _mount("-t", "tmpfs", "-o", "size=2g", "none", self._folder)
        return self

    def __exit__(self, *exception):
        beside = self._folder.with_name(f"{self._folder.name}.kept")
        shutil.copytree(self._folder, beside, symlinks=True)
        subprocess.run(["umount", "--lazy", self._folder], check=True)
        self._folder.rmdir()
        beside.rename(self._folder)

    def leave(self, room: int) -> None:
        """Leave room for so many bytes more."""
        found = os.statvfs(self._folder)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        _mount("-o", f"remount,size={used + room}", self._folder)

    @property
    def is_full(self) -> bool:
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize < _NOTHING

    def protect(self) -> None:
        _mount("-o", "remount,ro", self._folder)


def _mount(*words) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


@contextlib.contextmanager
def protected(folder: Path) -> Iterator[None]:
    """Take the right to write away from all of a folder; the superuser does not notice."""
    paths = [folder, *(path for path in folder.rglob("*") if not path.is_symlink())]
    modes = {path: path.stat().st_mode for path in paths}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def is_protected(folder: Path) -> bool:
    """Say whether nothing can be written into a folder, by trying it."""
    probe = folder / ".probe"
    try:
        probe.touch()
    except OSError:
        return True
    probe.unlink()
    return False


def names_in(folder: Path) -> set[str]:
    """Return all files and folders, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def digests(folder: Path, name: str = ".") -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, or of one in it."""
    place = folder / name
    paths = place.rglob("*") if place.is_dir() else [place]
    return {str(path.relative_to(folder)): sha256_of(path) for path in paths if path.is_file()}
