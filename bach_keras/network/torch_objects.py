"""What a pickled PyTorch checkpoint may ask for, and what is built of it: dicts and descriptions of tensors."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from bach_keras.network.tensors import MAX_RANK, RefusedError
from datasets.errors import UserError

MOST = 2**62  # of any size, offset or stride

# Element types by their names in safetensors; a storage's type stands for its element type.
STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip

_PLAIN_TYPES = {
    "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "range", "set", "slice",
    "str", "tuple",
}  # fmt: skip
# Training scripts save settings and states next to a state dict. They may be named, but none is built.
UNNEEDED = {
    "argparse": {"Namespace"},
    "builtins": _PLAIN_TYPES,
    "__builtin__": _PLAIN_TYPES | {"long", "unicode", "xrange"},
    "collections": {"Counter", "defaultdict", "deque"},
    "_codecs": {"encode"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "pathlib": {"Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"},
    "torch": {
        "Size", "device", "bfloat16", "bool", "float16", "float32", "float64", "int16", "int32", "int64", "int8",
        "uint8", "channels_last", "contiguous_format", "preserve_format", "strided",
    },
    "torch.serialization": {"_get_layout"},
    "torch.torch_version": {"TorchVersion"},
}  # fmt: skip


@dataclass(frozen=True)
class Storage:
    """A block of numbers that tensors point into; the numbers are read later."""

    key: str
    dtype: str
    size: int


@dataclass(frozen=True)
class TensorView:
    """What a checkpoint says of one tensor: offset and strides count elements of the storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_inside(self) -> bool:
        """Whether the storage holds every element, and each only once."""
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        return max(last + 1, math.prod(self.shape), *self.shape, 0) <= self.storage.size


def damaged(reason: str) -> UserError:
    """Return the error on a pickle that PyTorch cannot have written."""
    return UserError(f"its pickle {reason}")


def fill(target: dict, items: list) -> None:
    """Add items, key and value alternating, to a dict."""
    if len(items) % 2:
        raise damaged("has a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # A longer number is costly to hash.
        if type(key) is not str and not (type(key) in (int, bool) and abs(key) < MOST):
            raise RefusedError("has a key that is neither text nor an integer")
        target[key] = value


def build_dict(items: list) -> dict:
    made = {}
    fill(made, items)
    return made


def _ordered_dict(arguments: tuple) -> dict:
    """Build ``OrderedDict()`` or, as Python 2 wrote it, ``OrderedDict([[key, value], ...])``."""
    pairs = arguments[0] if arguments else []
    is_list = len(arguments) < 2 and type(pairs) is list
    if not is_list or any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
        raise damaged("makes an OrderedDict of something that is not a list of pairs")
    made = build_dict([part for pair in pairs for part in pair])
    # The pairs are used up, since a pickle could name the same list many times, and each copy would cost as much.
    pairs.clear()
    return made


def _rebuild_tensor(arguments: tuple) -> TensorView:
    if len(arguments) < 4:
        raise damaged("rebuilds a tensor from too little")
    storage, offset, shape, strides = arguments[:4]
    if type(storage) is not Storage:
        raise damaged("rebuilds a tensor from something that is not a storage")
    are_sides = type(shape) is type(strides) is tuple and len(shape) == len(strides) <= MAX_RANK
    if not are_sides or any(type(each) is not int for each in (offset, *shape, *strides)):
        raise damaged("gives a tensor a shape that is not a list of sides")
    if not all(map(is_count, (offset, *shape, *strides))):
        raise damaged("lets a tensor reach outside its storage")
    return TensorView(storage, offset, shape, strides)


def is_count(value) -> bool:
    return type(value) is int and 0 <= value < MOST


def _rebuild_parameter(arguments: tuple) -> TensorView:
    if not arguments or type(arguments[0]) is not TensorView:
        raise damaged("makes a parameter of something that is not a tensor")
    return arguments[0]


# Every name that means something here. A storage's type stands for its element type, and is never called.
CALLS: dict[tuple[str, str], Callable | str] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", storage): dtype for storage, dtype in STORAGES.items()},
}
