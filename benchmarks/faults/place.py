"""The folder in which a command is tried: made, filled up, made read-only, and compared."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

from datasets.digest import sha256_of

# Fields of JSON files that say when, how long, or where on this disk.
_OF_THE_MOMENT = {"seconds", "run", "created", "modified_ns", "started", "finished", "status", "files", "written"}


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

    def empty(self) -> None:
        _mount("-o", "remount,rw,size=2g", self._folder)

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


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def names_in(folder: Path) -> set[str]:
    """Return all files and folders, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def digests(folder: Path, name: str = ".") -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, or of one in it."""
    place = folder / name
    paths = place.rglob("*") if place.is_dir() else [place]
    return {str(path.relative_to(folder)): sha256_of(path) for path in paths if path.is_file()}


def contents(folder: Path, made: tuple[str, ...]) -> dict[str, str]:
    """Return a digest of each file that a command made; of what says when or where, all but that."""
    found = {}
    for name in made:
        place = folder / name
        paths = sorted(place.rglob("*")) if place.is_dir() else [place]
        found |= {str(path.relative_to(folder)): _digest(path) for path in paths if path.is_file()}
    return found


def _digest(path: Path) -> str:
    readers = {
        ".json": _json,
        ".keras": _zip,
        ".npz": _zip,
        ".h5": _numbers,
        ".parquet": _table,
        ".tflite": _lite,
        ".pb": _graph,
    }
    read = readers.get(path.suffix, _text if path.suffix in (".html", ".md", ".csv") else Path.read_bytes)
    try:
        return hashlib.sha256(read(path)).hexdigest()
    except Exception as error:  # of a damaged file, whose reader may raise nearly anything
        return f"unreadable: {error}"


def _json(path: Path) -> bytes:
    return json.dumps(_lasting(json.loads(path.read_text())), sort_keys=True).encode()


def _lasting(value):
    if isinstance(value, dict):
        return {name: _lasting(each) for name, each in value.items() if name not in _OF_THE_MOMENT}
    return [_lasting(each) for each in value] if isinstance(value, list) else value


def _text(path: Path) -> bytes:
    return re.sub(rb"\d+(\.\d+)? (s|seconds|minutes)\b", b"", path.read_bytes())


def _zip(path: Path) -> bytes:
    """Return the members of an archive but their times, and of HDF5 in it the numbers."""
    import io

    parts = []
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            data = archive.read(name)
            if name.endswith(".h5"):
                data = _numbers(io.BytesIO(data))
            elif name == "metadata.json":
                data = b""  # Keras writes the date
            parts.append(name.encode() + hashlib.sha256(data).digest())
    return b"".join(parts)


def _numbers(file) -> bytes:
    import h5py

    parts = []

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            parts.append(name.encode() + str(item.dtype).encode() + item[()].tobytes())

    with h5py.File(file) as opened:
        opened.visititems(add)
    return b"".join(sorted(parts))


def _table(path: Path) -> bytes:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    kept = [name for name in table.column_names if name not in _OF_THE_MOMENT]
    return repr(table.select(kept).to_pylist()).encode()


def _lite(path: Path) -> bytes:
    """Return what a TFLite file answers: the converter orders what is in it as it likes."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    for each in interpreter.get_input_details():
        interpreter.set_tensor(each["index"], (np.indices(each["shape"]).sum(0) % 256).astype(each["dtype"]))
    interpreter.invoke()
    outputs = sorted(interpreter.get_output_details(), key=lambda each: each["name"])
    return b"".join(interpreter.get_tensor(each["index"]).tobytes() for each in outputs)


def _graph(path: Path) -> bytes:
    return b""  # TensorFlow orders what is in a graph as it likes; the variables beside it are compared
