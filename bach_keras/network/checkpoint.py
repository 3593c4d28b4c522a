"""The files that trained weights come in, read without running anything they carry.

Each format says first what is in a file, by name, type and shape; the numbers that are wanted are read after that.
"""

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from bach_keras.fields import plain
from bach_keras.network.h5 import plain_dataset, text_attribute
from bach_keras.network.safetensors_file import open_safetensors
from bach_keras.network.tensors import RefusedError, Tensors, TensorSpec
from bach_keras.network.torch_file import LEGACY_MAGIC, open_legacy, open_zip
from datasets.errors import MissingError, UserError
from datasets.whole import whole

__all__ = ["LEGACY_MAGIC", "Checkpoint", "read_tensors", "write_h5"]

H5_FORMAT = "torchvision tensors"
H5_VERSION = 1

# Fifty times as many as ResNeXt-50 has, and ten times as long.
MAX_TENSORS = 20_000
MAX_NAME = 500

# What PyTorch's wrappers put before every name of the network inside: DataParallel, a training module, compile.
PREFIXES = ("module.", "model.", "_orig_mod.")


class Checkpoint:
    """A file of weights, whatever its suffix: the format is told by the first bytes.

    Formats: safetensors, PyTorch's zip archive and its older pickle stream
    (``.pth``, ``.pt``, ``.bin``), and the ``.h5`` that ``write_h5`` writes. A
    state dict may stand under ``state_dict`` or ``model`` in a larger
    checkpoint, such as torchvision's training scripts write. What PyTorch's wrappers
    put before every name (``module.``, ``model.``, ``_orig_mod.``, one behind the other) is taken off.

    Args:
        path: the file.

    Attributes:
        specs: name -> type and shape.

    Raises:
        UserError: there is no such file.
        UserError: the file is cut short, is no checkpoint, asks for code to be run, or costs more than its size.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._tensors = self._told(self._open)
        self._names = self._told(lambda: _plain_names(self._tensors.specs))
        self.specs: dict[str, TensorSpec] = {name: self._tensors.specs[own] for name, own in self._names.items()}

    def read(self, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Return name -> array in the file's own layout, of all tensors or of some.

        Floating-point types of any width become float32; integers and booleans stay.

        Raises:
            UserError: the numbers are damaged.
        """
        names = list(self.specs if names is None else names)

        def numbers():
            # One storage may have many names.
            if sum(self.specs[name].bytes for name in names) > 2 * self.path.stat().st_size:
                raise RefusedError("shows its numbers under so many names that they are more than the file")
            return dict(self._tensors.read([self._names[name] for name in names]))

        found = self._told(numbers)
        return {name: found[self._names[name]] for name in names}

    def _open(self) -> Tensors:
        tensors = self._opener()(self.path)
        if len(tensors.specs) > MAX_TENSORS:
            raise RefusedError(f"holds {len(tensors.specs):,} tensors, more than any network that is read here")
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

    def _told(self, work):
        """Do something with the file; what is wrong with it becomes one sentence."""
        try:
            return work()
        except FileNotFoundError:
            raise
        except RefusedError as error:
            raise UserError(f"{self.path} {error}.") from error
        except MemoryError:
            raise UserError(f"{self.path} needs more memory than there is.") from None
        except Exception as error:  # a damaged file can raise nearly anything
            reason = plain(str(error), 200)
            raise UserError(f"{self.path} is cut short or damaged ({reason}): get it again.") from error


def read_tensors(path) -> dict[str, np.ndarray]:
    """Read all of a file of weights; see ``Checkpoint``."""
    return Checkpoint(path).read()


def write_h5(path, tensors, **attributes):
    """Write named arrays to an HDF5 file, one dataset a name, under a temporary name first.

    Args:
        path: the file to write; one that is there is replaced.
        tensors: name -> array.
        attributes: text to keep with them, such as where they came from.
    """
    with whole(path) as unfinished, h5py.File(unfinished, "w") as file:
        file.attrs.update(attributes, format=H5_FORMAT, format_version=H5_VERSION)
        for name, tensor in tensors.items():
            file[name] = tensor


def _open_h5(path) -> Tensors:
    with h5py.File(path, "r") as file:
        if (text_attribute(file, "format"), text_attribute(file, "format_version")) != (H5_FORMAT, H5_VERSION):
            raise RefusedError("is an HDF5 file, but not one that `weights port` wrote")
        if len(file) > MAX_TENSORS:
            raise RefusedError(f"holds {len(file):,} tensors, more than any network that is read here")
        specs = {name: plain_dataset(file, name).spec for name in file}

    def read(names):
        with h5py.File(path, "r") as file:
            for name in names:
                yield name, plain_dataset(file, name).read()

    return Tensors(specs, read)


def _plain_names(specs) -> dict[str, str]:
    """Return each name without what wrappers put before it -> the name in the file."""
    # `torch.compile` on a part of a network stands within the names, and the count of averaged weights is no weight.
    plain = {
        name.replace("._orig_mod.", ".").removeprefix("_orig_mod."): name for name in specs if name != "n_averaged"
    }
    while prefix := next((prefix for prefix in PREFIXES if plain and all(n.startswith(prefix) for n in plain)), None):
        plain = {name.removeprefix(prefix): own for name, own in plain.items()}
    if len(plain) < len(specs) - ("n_averaged" in specs):
        raise RefusedError("has two tensors of one name, once without what PyTorch's wrappers put before it")
    return plain
