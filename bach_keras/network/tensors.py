"""What a file of weights holds, known before any number is read."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from bach_keras.fields import plain
from datasets.errors import UserError

# Element types by their names in safetensors. NumPy has no bfloat16: its bits are read as integers.
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip

MAX_RANK = 8

# Fifty times as many as ResNeXt-50 has, and ten times as long.
MAX_TENSORS = 20_000
MAX_NAME = 500


class RefusedError(UserError):
    """The file can be read, but is not loaded; the message says why, and ``naming`` puts the file's name before it."""


@contextlib.contextmanager
def naming(path, advice: str = "") -> Iterator[None]:
    """Turn what is wrong with a file of weights into one sentence that names it; ``advice`` ends the one on damage."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except RefusedError as error:
        raise UserError(f"{path} {error}.") from error
    except MemoryError:
        raise UserError(f"{path} needs more memory than there is.") from None
    except Exception as error:  # h5py, zipfile, struct and pickletools raise nearly anything on a damaged file
        raise UserError(f"{path} is cut short or damaged ({plain(str(error), 200)}){advice}.") from error


@dataclass(frozen=True)
class TensorSpec:
    """The element type of a tensor, by its name in safetensors, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """The size of the tensor in the file."""
        return math.prod(self.shape) * np.dtype(DTYPES[self.dtype]).itemsize


@dataclass(frozen=True)
class Tensors:
    """A file's tensors."""

    specs: dict[str, TensorSpec]  # in the file's order
    # Yields in any order; what a name says may be refused before the first number is read.
    read: Callable[[Iterable[str]], Iterator[tuple[str, np.ndarray]]]


def decode(array: np.ndarray, dtype: str) -> np.ndarray:
    """Return the numbers that stored elements mean, floating-point types as float32."""
    if dtype == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    # What float32 cannot hold becomes infinite, and is refused as that.
    with np.errstate(over="ignore"):
        return array.astype(np.float32) if array.dtype.kind == "f" else array
