"""The files that trained weights come in, read without running anything they carry.

Each format first lists what is in a file, by name, type and shape. Then only the numbers that are wanted are read.
"""

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from bach_keras.network.h5 import plain_dataset, text_attribute
from bach_keras.network.safetensors_file import open_safetensors
from bach_keras.network.tensors import RefusedError, Tensors, TensorSpec, naming
from bach_keras.network.torch_file import open_legacy, open_zip
from datasets.errors import MissingError
from datasets.whole import whole

H5_FORMAT = "torchvision tensors"
H5_VERSION = 1

# Fifty times as many as ResNeXt-50 has, and ten times as long.
MAX_TENSORS = 20_000
MAX_NAME = 500

# What PyTorch's wrappers put before every name of the network inside: DataParallel, a training module, compile.
PREFIXES = ("module.", "model.", "_orig_mod.")

ADVICE = ": get it again"


class Checkpoint:
    """A file of weights of any suffix; its first bytes identify the format.

    Formats: safetensors, PyTorch's zip archive and its older pickle stream (``.pth``, ``.pt``, ``.bin``), and the
    ``.h5`` that ``write_h5`` writes. A state dict may stand under ``state_dict`` or ``model`` in a larger checkpoint,
    such as torchvision's training scripts write. What PyTorch's wrappers put before every name is removed.
    """

    def __init__(self, path):
        self.path = Path(path)
        with naming(self.path, ADVICE):
            self._tensors = self._open()
            self._names = _plain_names(self._tensors.specs)
        self.specs: dict[str, TensorSpec] = {name: self._tensors.specs[own] for name, own in self._names.items()}

    def read(self, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Return name -> array in the file's own layout, of all tensors or of some.

        Floating-point types of any width become float32; integers and booleans stay.
        """
        names = list(self.specs if names is None else names)
        with naming(self.path, ADVICE):
            # One storage may have many names.
            if sum(self.specs[name].bytes for name in names) > 2 * self.path.stat().st_size:
                raise RefusedError("gives its numbers so many names that they take more memory than the file")
            found = dict(self._tensors.read([self._names[name] for name in names]))
        return {name: found[self._names[name]] for name in names}

    def _open(self) -> Tensors:
        tensors = self._opener()(self.path)
        _check_count(tensors.specs)
        longest = max(map(len, tensors.specs), default=0)
        if longest > MAX_NAME:
            raise RefusedError(f"holds a tensor with a name of {longest:,} characters, more than {MAX_NAME}")
        return tensors

    def _opener(self):
        if not self.path.is_file():
            raise MissingError(f"There is no file of weights at {self.path}.")
        with self.path.open("rb") as file:
            head = file.read(9)
        if head.startswith(b"\x89HDF\r\n\x1a\n"):
            return _open_h5
        if head.startswith(b"PK\x03\x04"):
            return open_zip
        if head.startswith(b"\x80"):
            return open_legacy
        if head[8:] == b"{":
            return open_safetensors
        raise RefusedError("is not a file of weights: it is neither safetensors, .pth nor .h5")


def write_h5(path, tensors, **attributes):
    """Write named arrays to an HDF5 file, one data set per name, with text such as where they came from."""
    with whole(path) as partial, h5py.File(partial, "w") as file:
        file.attrs.update(attributes, format=H5_FORMAT, format_version=H5_VERSION)
        for name, tensor in tensors.items():
            file[name] = tensor


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


def _check_count(tensors) -> None:
    if len(tensors) > MAX_TENSORS:
        raise RefusedError(f"holds {len(tensors):,} tensors, more than any network that is read here")


def _plain_names(specs) -> dict[str, str]:
    """Return each name without the prefixes of wrappers -> the name in the file."""
    # `torch.compile` on a part of a network stands within the names, and the count of averaged weights is not a weight.
    plain = {
        name.replace("._orig_mod.", ".").removeprefix("_orig_mod."): name for name in specs if name != "n_averaged"
    }
    while prefix := next((prefix for prefix in PREFIXES if plain and all(n.startswith(prefix) for n in plain)), None):
        plain = {name.removeprefix(prefix): own for name, own in plain.items()}
    if len(plain) < len(specs) - ("n_averaged" in specs):
        raise RefusedError("has two tensors of the same name once the prefixes of PyTorch's wrappers are removed")
    return plain
