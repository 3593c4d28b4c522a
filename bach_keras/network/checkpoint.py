"""The files that trained weights come in, read without running anything they carry.

Each format first lists what is in a file, by name, type and shape. Then only the numbers that are wanted are read.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from bach_keras.network.h5 import plain_dataset, room_of, text_attribute
from bach_keras.network.safetensors_file import open_safetensors
from bach_keras.network.tensors import MAX_NAME, MAX_TENSORS, RefusedError, Tensors, TensorSpec, naming
from bach_keras.network.torch_file import open_legacy, open_zip
from datasets.errors import MissingError
from datasets.whole import whole

H5_FORMAT = "torchvision tensors"
H5_VERSION = 1

# What `weights port` may say of the weights that it wrote.
SAID = ("origin", "source_sha256", "normalisation", "licence", "tensors_sha256")

ADVICE = ": get it again"


class Checkpoint:
    """A file of weights of any suffix; its first bytes identify the format.

    Formats: safetensors, PyTorch's zip archive and its older pickle stream (``.pth``, ``.pt``, ``.bin``), and the
    ``.h5`` that ``write_h5`` writes.

    Attributes:
        format: ``safetensors``, ``pytorch zip``, ``pytorch legacy`` or ``h5``.
        specs: the name of every tensor in the file -> its type and shape. What a training script saves as dicts within
            dicts has their names in front, as in ``model_ema.module.conv1.weight``.
        said: what a ``.h5`` says of its weights (``SAID``).
    """

    def __init__(self, path):
        self.path = Path(path)
        self.said: dict[str, str] = {}
        with naming(self.path, ADVICE):
            self.format, opener = self._opener()
            self._tensors = self._open(opener)
            if self.format == "h5":
                self.said = _said(self.path)
        self.specs: dict[str, TensorSpec] = self._tensors.specs

    def read(self, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Return name -> array in the file's own layout, of all tensors or of some.

        Floating-point types of any width become float32; integers and booleans stay.
        """
        names = list(self.specs if names is None else names)
        with naming(self.path, ADVICE):
            rows = self._tensors.read(names)
            # One storage may have many names.
            if sum(self.specs[name].bytes for name in names) > 2 * self.path.stat().st_size:
                raise RefusedError("gives its numbers so many names that they take more memory than the file")
            found = dict(rows)
        return {name: found[name] for name in names}

    def check_digest(self) -> bool:
        """Refuse a ``.h5`` whose numbers are not those that were written; return whether it says which those were."""
        written = self.said.get("tensors_sha256")
        with naming(self.path, ADVICE):
            if written and tensors_digest(self.read()) != written:
                raise RefusedError("holds other numbers than were written to it")
        return bool(written)

    def _open(self, opener) -> Tensors:
        tensors = opener(self.path)
        _check_count(tensors.specs)
        longest = max(map(len, tensors.specs), default=0)
        if longest > MAX_NAME:
            raise RefusedError(f"holds a tensor with a name of more than {MAX_NAME} characters")
        return tensors

    def _opener(self):
        if not self.path.is_file():
            raise MissingError(f"There is no file of weights at {self.path}.")
        with self.path.open("rb") as file:
            head = file.read(9)
        if head.startswith(b"\x89HDF\r\n\x1a\n"):
            return "h5", _open_h5
        if head.startswith(b"PK\x03\x04"):
            return "pytorch zip", open_zip
        if head.startswith(b"\x80"):
            return "pytorch legacy", open_legacy
        if head[8:] == b"{":
            return "safetensors", open_safetensors
        raise RefusedError("is not a file of weights: it is neither safetensors, .pth nor .h5")


def write_h5(path, tensors, **attributes):
    """Write named arrays to an HDF5 file, one data set per name, with text such as where they came from (``SAID``)."""
    with whole(path, room_of(tensors.values())) as partial, h5py.File(partial, "w") as file:
        file.attrs.update(attributes, format=H5_FORMAT, format_version=H5_VERSION)
        for name, tensor in tensors.items():
            file[name] = tensor


def tensors_digest(tensors) -> str:
    """Return the SHA-256 of named arrays, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array)
    return digest.hexdigest()


def _open_h5(path) -> Tensors:
    with h5py.File(path, "r") as file:
        if (text_attribute(file, "format"), text_attribute(file, "format_version")) != (H5_FORMAT, H5_VERSION):
            raise RefusedError("is an HDF5 file, but not one that `weights port` wrote")
        _check_count(file)
        specs = {name: plain_dataset(file, name).spec for name in file}

    def read(names):
        with h5py.File(path, "r") as file:
            for name in names:
                yield name, plain_dataset(file, name).read()

    return Tensors(specs, read)


def _said(path) -> dict[str, str]:
    with h5py.File(path, "r") as file:
        there = [name for name in SAID if name in file.attrs]
        said = {name: text_attribute(file, name) for name in there}
    for name, value in said.items():
        # What cannot be read must not pass for something that was never said.
        if not isinstance(value, str) or len(value) > MAX_NAME:
            raise RefusedError(f"says something of its {name} that is not a line of text")
    return said


def _check_count(tensors) -> None:
    if len(tensors) > MAX_TENSORS:
        raise RefusedError(f"holds {len(tensors):,} tensors, more than any network that is read here")
