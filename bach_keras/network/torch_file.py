"""PyTorch's two kinds of files: the zip archive and the older stream of pickles."""

import struct
from pathlib import Path

import numpy as np

from bach_keras.fields import shown
from bach_keras.network.archive import members, open_archive, read_member
from bach_keras.network.tensors import DTYPES, MAX_NAME, MAX_TENSORS, RefusedError, Tensors, TensorSpec, decode
from bach_keras.network.torch_objects import Storage, TensorView
from bach_keras.network.torch_pickle import MAX_PICKLE, read_pickle
from datasets.errors import UserError

# The first object of a PyTorch checkpoint in the format from before the zip archives (PyTorch < 1.6).
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

# Of a checkpoint's dicts within dicts. An optimizer's state lies at the third.
MAX_DEPTH = 8


def open_zip(path: Path) -> Tensors:
    """List the tensors of an archive as ``torch.save`` writes it."""
    with path.open("rb") as file, open_archive(file) as archive:
        there = _members(archive)
        if "data.pkl" not in there:
            raise RefusedError("is a zip archive, but not a PyTorch checkpoint")
        _check_byte_order(read_member(archive, there["byteorder"], 16) if "byteorder" in there else b"little")
        found = read_pickle(read_member(archive, there["data.pkl"], MAX_PICKLE))
    views = _tensors(found.root)

    def numbers(archive, there, storage):
        member = there.get(f"data/{storage.key}")
        if member is None or member.file_size != _bytes(storage):
            raise _incomplete(storage.key)
        return archive.read(member)

    def read(names):
        with path.open("rb") as file, open_archive(file) as archive:
            again = _members(archive)
            yield from _read(views, names, lambda storage: numbers(archive, again, storage))

    return _as_tensors(views, read)


def open_legacy(path: Path) -> Tensors:
    """List the tensors of a stream of pickles with the numbers behind them."""
    with path.open("rb") as file:
        file_size = path.stat().st_size
        head = file.read(min(file_size, 2 * MAX_PICKLE))
        magic = read_pickle(head)
        if magic.root != LEGACY_MAGIC:
            raise RefusedError("is a pickle, but not a PyTorch checkpoint")
        # There was only one version of the protocol.
        version = read_pickle(head, magic.end)
        system = read_pickle(head, version.end)
        is_little = isinstance(system.root, dict) and system.root.get("little_endian") is True
        _check_byte_order(b"little" if is_little else b"big")
        found = read_pickle(head, system.end)
        views = _tensors(found.root)
        keys = read_pickle(head, found.end)
        places = _places(file, file_size, keys, found.storages)

    def numbers(file, storage):
        file.seek(places[storage.key])
        return file.read(_bytes(storage))

    def read(names):
        with path.open("rb") as file:
            yield from _read(views, names, lambda storage: numbers(file, storage))

    return _as_tensors(views, read)


def _places(file, file_size: int, keys, storages: dict[str, Storage]) -> dict[str, int]:
    """Return storage key -> where its numbers begin; each storage states its length again."""
    if type(keys.root) is not list or any(type(key) is not str for key in keys.root):
        raise UserError("it has no list of storages")
    places, place = {}, keys.end
    for key in keys.root:
        file.seek(place)
        (size,) = struct.unpack("<q", file.read(8))
        if key not in storages or key in places or size != storages[key].size:
            raise _incomplete(key)
        places[key] = place + 8
        place += 8 + _bytes(storages[key])
        if place > file_size:
            raise _incomplete(key)
    if len(places) < len(storages):
        raise UserError("the numbers of some storages are missing")
    return places


def _incomplete(key: str) -> UserError:
    return UserError(f"the numbers of storage {shown(key)} are incomplete")


def _members(archive) -> dict:
    """Return name -> member. All are in one folder, whose name is free."""
    found = {}
    for name, member in members(archive).items():
        inner = name.partition("/")[2]
        if inner in found:
            raise RefusedError(f"is a zip archive that holds {shown(inner)} twice, so it was not loaded")
        found[inner] = member
    return found


def _check_byte_order(order):
    if order != b"little":
        raise RefusedError("was written on a big-endian machine, which is not read here")


def _tensors(root) -> dict[str, TensorView]:
    """Return every tensor of a checkpoint by its name after those of the dicts that it is in, joined by dots."""
    if type(root) is not dict or not root:
        raise RefusedError("holds no state dict")
    found, seen, level = {}, {id(root)}, [("", root)]
    for _ in range(MAX_DEPTH):
        inner = []
        for prefix, held in level:
            for name, entry in held.items():
                if len(found) > MAX_TENSORS:
                    return found
                path = f"{prefix}{_shortened(str(name))}"
                # A dict may hold itself, or be held many times.
                if type(entry) is dict and id(entry) not in seen:
                    seen.add(id(entry))
                    inner.append((f"{path}.", entry))
                elif type(entry) is TensorView and path in found:
                    raise RefusedError(f"holds two tensors under the name {shown(path)}")
                elif type(entry) is TensorView:
                    found[path] = entry
        level = inner
    if not found:
        raise RefusedError(f"holds no state dict: {shown(next(iter(root)))} is not a tensor")
    return found


def _shortened(name: str) -> str:
    """Return a name that costs little to repeat, and that is still seen to be too long."""
    return name[: MAX_NAME + 1]


def _bytes(storage: Storage) -> int:
    return storage.size * np.dtype(DTYPES[storage.dtype]).itemsize


def _as_tensors(views, read) -> Tensors:
    def checked(names):
        names = list(names)
        for name in names:
            # Tensors that are not read may do that: an empty buffer, one number repeated for each weight.
            if not views[name].is_inside:
                raise UserError(f"{shown(name)} reaches outside its storage or repeats its numbers")
        return read(names)

    return Tensors({name: TensorSpec(view.storage.dtype, view.shape) for name, view in views.items()}, checked)


def _read(views, names, numbers):
    """Yield the named tensors, storage by storage, as arrays of their own."""
    by_storage = {}
    for name in names:
        by_storage.setdefault(views[name].storage, []).append(name)
    for storage, held in by_storage.items():
        needed = sum(TensorSpec(storage.dtype, views[name].shape).bytes for name in held)
        if _bytes(storage) > 4 * needed + 2**20:
            raise RefusedError(f"stores {_bytes(storage):,} bytes of numbers for tensors of {needed:,} bytes")
        elements = np.frombuffer(numbers(storage), DTYPES[storage.dtype])
        if len(elements) != storage.size:
            raise _incomplete(storage.key)
        for name in held:
            yield name, decode(_viewed(elements, views[name]), storage.dtype)


def _viewed(elements, view: TensorView):
    strides = [step * elements.itemsize for step in view.strides]
    return np.lib.stride_tricks.as_strided(elements[view.offset :], view.shape, strides).copy()
