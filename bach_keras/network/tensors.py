"""What a file of weights holds, known before any number is read."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from datasets.errors import UserError

# Element types by their names in safetensors. NumPy has no bfloat16: its bits are read as integers.
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip

MAX_RANK = 8


class RefusedError(UserError):
    """The file can be read, but must not be or holds something else; the message says which."""


@dataclass(frozen=True)
class TensorSpec:
    """The element type of a tensor, by its name in safetensors, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """How many the file keeps it in."""
        return math.prod(self.shape) * np.dtype(DTYPES[self.dtype]).itemsize


@dataclass(frozen=True)
class Tensors:
    """A file's tensors.

    Attributes:
        specs: name -> what it is, in the file's order.
        read: takes names and yields each with its array, in any order.
    """

    specs: dict[str, TensorSpec]
    read: Callable[[Iterable[str]], Iterator[tuple[str, np.ndarray]]]


def decode(array: np.ndarray, dtype: str) -> np.ndarray:
    """Return numbers as they are kept in a file as what they mean, floating-point types as float32."""
    if dtype == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as that
        return array.astype(np.float32) if array.dtype.kind == "f" else array
