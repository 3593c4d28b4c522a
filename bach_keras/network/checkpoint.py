"""The files that trained weights come in, read without running anything they carry.

A PyTorch checkpoint is a pickle, and a pickle may name any function to be
called while it is read. The reader here knows the few names that a state dict
needs and refuses every other one; PyTorch itself is not needed.
"""

import io
import math
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from safetensors import deserialize

# Element types by their names in safetensors. NumPy has no bfloat16: its bits are read as integers.
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip
STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip

# The first object of a PyTorch checkpoint in the format from before the zip archives (PyTorch < 1.6).
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

H5_FORMAT = "torchvision tensors"
H5_VERSION = 1


class _RefusedError(ValueError):
    """The file can be read, but must not be or holds something else; the message says which."""


def read_tensors(path) -> dict[str, np.ndarray]:
    """Read a file of weights, whatever its suffix: the format is told by the first bytes.

    Formats: safetensors, PyTorch's zip archive and its older pickle stream
    (``.pth``, ``.pt``, ``.bin``), and the ``.h5`` that ``write_h5`` writes. A
    state dict may stand under ``state_dict`` or ``model`` in a larger
    checkpoint, and a ``module.`` before every name (a network saved through
    ``DataParallel``) is taken off.

    Returns:
        Name -> array in the file's own layout. Floating-point types of any
        width become float32; integers and booleans stay.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is cut short, is no checkpoint, or asks for code to be run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of weights at {path}.")
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        read = _read_h5
    elif head.startswith(b"PK\x03\x04"):
        read = _read_zip
    elif head.startswith(b"\x80"):
        read = _read_legacy
    elif head[8:] == b"{":
        read = _read_safetensors
    else:
        raise ValueError(f"{path} is not a file of weights: it is neither safetensors, .pth nor .h5.")
    try:
        tensors = read(path)
    except _RefusedError as error:
        raise ValueError(f"{path} {error}.") from error
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(f"{path} is cut short or damaged ({error}): get it again.") from error
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def write_h5(path, tensors, **attributes):
    """Write named arrays to an HDF5 file, one dataset a name, under a temporary name first.

    Args:
        path: the file to write; one that is there is replaced.
        tensors: name -> array.
        attributes: text to keep with them, such as where they came from.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with h5py.File(temporary, "w") as file:
            file.attrs.update(attributes, format=H5_FORMAT, format_version=H5_VERSION)
            for name, tensor in tensors.items():
                file[name] = tensor
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_h5(path):
    with h5py.File(path, "r") as file:
        if (file.attrs.get("format"), file.attrs.get("format_version")) != (H5_FORMAT, H5_VERSION):
            raise _RefusedError("is an HDF5 file, but not one that `weights port` wrote")
        return {name: dataset[()] for name, dataset in file.items()}


def _read_safetensors(path):
    entries = deserialize(path.read_bytes())
    return {name: _decode(entry["data"], entry["dtype"]).reshape(entry["shape"]) for name, entry in entries}


def _decode(data, dtype):
    """Return bytes as a flat array, floating-point types as float32."""
    array = np.frombuffer(data, DTYPES[dtype])
    if dtype == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


@dataclass(frozen=True)
class _Storage:
    """A block of numbers that tensors point into; the numbers are read later."""

    key: str
    dtype: str
    size: int


@dataclass(frozen=True)
class _Tensor:
    """What a checkpoint says of one tensor: offset and strides count elements of the storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, elements):
        """Return the tensor as an array of its own, given its storage's flat array."""
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if min((self.offset, *self.shape, *self.strides)) < 0 or max(last + 1, math.prod(self.shape)) > len(elements):
            raise IndexError("a tensor reaches outside its storage")
        strides = [step * elements.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(elements[self.offset :], self.shape, strides).copy()


def _rebuild_tensor(storage, offset, shape, strides, *_autograd):
    return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor, *_autograd):
    return tensor


# Every name a pickle may use. A storage's type stands for its element type, and is never called.
KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", storage): dtype for storage, dtype in STORAGES.items()},
}


class _WholeLines:
    """A file that raises where its last line is cut: the unpickler would take it for a whole name."""

    def __init__(self, file):
        self.file = file
        self.read = file.read

    def readline(self):
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise EOFError("a name is cut")
        return line


class _Unpickler(pickle._Unpickler):
    """Turns a pickled state dict into ``_Tensor`` objects, and keeps the storages they point into.

    Built on the unpickler in Python, not the one in C, which allocates as much
    memory as a damaged or hostile memo number asks for.
    """

    def __init__(self, file):
        super().__init__(_WholeLines(file))
        self.storages = {}

    def find_class(self, module, name):
        if (module, name) not in KNOWN:
            raise _RefusedError(f"asks for {module}.{name}, which no state dict needs, so it was not loaded")
        return KNOWN[module, name]

    def persistent_load(self, reference):
        tag, dtype, key, _device, size, *view = reference
        if tag != "storage" or dtype not in DTYPES or any(view):
            raise pickle.UnpicklingError(f"unknown reference {reference}")
        return self.storages.setdefault(key, _Storage(key, dtype, size))


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        # All members stand in one folder, whose name is free.
        members = {member.filename.partition("/")[2]: member for member in archive.infolist()}
        if "data.pkl" not in members:
            raise _RefusedError("is a zip archive, but not a PyTorch checkpoint")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise _RefusedError("is a compressed archive, which PyTorch never writes, so it was not loaded")
        _check_byte_order(archive.read(members["byteorder"]) if "byteorder" in members else b"little")
        unpickler = _Unpickler(io.BytesIO(archive.read(members["data.pkl"])))
        checkpoint = unpickler.load()
        data = {
            key: _decode(archive.read(members[f"data/{key}"]), storage.dtype)
            for key, storage in unpickler.storages.items()
        }
    return _state_dict(checkpoint, data)


def _read_legacy(path):
    with path.open("rb") as file:
        if _Unpickler(file).load() != LEGACY_MAGIC:
            raise _RefusedError("is a pickle, but not a PyTorch checkpoint")
        _Unpickler(file).load()  # the protocol's version: there was only one
        _check_byte_order(b"little" if _Unpickler(file).load()["little_endian"] else b"big")
        unpickler = _Unpickler(file)
        checkpoint = unpickler.load()
        data = {}
        for key in _Unpickler(file).load():
            storage = unpickler.storages[key]
            (size,) = struct.unpack("<q", file.read(8))
            content = file.read(size * np.dtype(DTYPES[storage.dtype]).itemsize)
            data[key] = _decode(content, storage.dtype)
            if not len(data[key]) == size == storage.size:
                raise EOFError(f"{len(data[key])} of {storage.size} numbers of a storage")
    return _state_dict(checkpoint, data)


def _check_byte_order(order):
    if order != b"little":
        raise _RefusedError("was written on a big-endian machine, which is not read here")


def _state_dict(checkpoint, data):
    """Return the arrays of a state dict, bare or wrapped, given every storage's numbers."""
    for wrapper in ("state_dict", "model"):
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(wrapper), dict):
            checkpoint = checkpoint[wrapper]
    if not isinstance(checkpoint, dict) or not checkpoint:
        raise _RefusedError("holds no state dict")
    for name, entry in checkpoint.items():
        if not (isinstance(name, str) and isinstance(entry, _Tensor)):
            raise _RefusedError(f"holds no state dict: {name!r} is not a tensor")
    return {name: entry.read(data[entry.storage.key]) for name, entry in checkpoint.items()}
