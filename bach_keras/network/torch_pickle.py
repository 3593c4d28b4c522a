"""What a pickled PyTorch checkpoint says, found without running anything and at a cost known beforehand.

A pickle is a program for a small stack machine, and may name any function to be called. The machine here knows the
instructions that ``torch.save`` writes. It builds dicts, lists and tuples, takes down what is said of tensors, and
leaves everything else unbuilt; nothing is hashed but text and whole numbers, and nothing is walked recursively.
"""

import io
import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field

from bach_keras.fields import plain, shown
from bach_keras.network.tensors import MAX_RANK, RefusedError
from datasets.errors import UserError

# ResNeXt-50 with its optimizer and averaged weights takes 60,000 instructions in 600 kB.
MAX_PICKLE = 2**24
MAX_INSTRUCTIONS = 1_000_000
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
# What training scripts keep beside a state dict: settings and states, of which nothing is needed. None is built.
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
        """Whether the storage holds every element, and as many as there are: none stands for two."""
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        return max(last + 1, math.prod(self.shape), *self.shape, 0) <= self.storage.size


@dataclass(frozen=True)
class _Name:
    """A name that the pickle asks for."""

    module: str
    name: str


class _Unbuilt:
    """Stands for an object that no state dict needs."""


_UNBUILT = _Unbuilt()
_MARK = object()


@dataclass
class Pickle:
    """One pickle of a file.

    Attributes:
        root: its object.
        storages: key -> each storage it points into.
        end: the place in the bytes behind it.
    """

    root: object
    storages: dict[str, Storage]
    end: int


def read_pickle(content: bytes, start: int = 0) -> Pickle:
    """Read the pickle that begins at ``start``.

    Raises:
        RefusedError: it asks for code to be run, costs too much, or holds what no checkpoint does.
        UserError: it is cut short or damaged.
    """
    file = io.BytesIO(content)
    file.seek(start)
    machine = _Machine()
    for count, (instruction, argument, _) in enumerate(pickletools.genops(file)):
        if count == MAX_INSTRUCTIONS:
            raise RefusedError(f"holds a pickle of more than {MAX_INSTRUCTIONS:,} instructions")
        if file.tell() - start > MAX_PICKLE:
            break
        machine.do(instruction.name, argument)
    else:
        return Pickle(machine.pop(), machine.storages, file.tell())
    raise RefusedError(f"holds a pickle of more than {MAX_PICKLE:,} bytes")


def _damaged(reason):
    return UserError(f"its pickle {reason}")


@dataclass
class _Machine:
    """The stack, the memo and what each instruction does to them."""

    stack: list = field(default_factory=list)
    memo: dict = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)

    def do(self, name: str, argument) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _CONTAINERS:
            taken, build = _CONTAINERS[name]
            self.stack.append(build(self.above_mark() if taken is None else self.take(taken)))
        elif name in _INSTRUCTIONS:
            _INSTRUCTIONS[name](self, argument)
        else:
            raise RefusedError(f"holds a pickle with the instruction {name}, which PyTorch never writes")

    def pop(self):
        if not self.stack or self.stack[-1] is _MARK:
            raise _damaged("takes more from its stack than is there")
        return self.stack.pop()

    def take(self, count: int) -> list:
        return [self.pop() for _ in range(count)][::-1]

    def above_mark(self) -> list:
        items = []
        while self.stack:
            item = self.stack.pop()
            if item is _MARK:
                return items[::-1]
            items.append(item)
        raise _damaged("has no mark where one is needed")

    def top(self):
        self.stack.append(self.pop())
        return self.stack[-1]

    def extend(self, items: list) -> None:
        if type(target := self.top()) is list:
            target.extend(items)
        elif target is not _UNBUILT:
            raise _damaged("adds to something that is no list")

    def set_items(self, items: list) -> None:
        if type(target := self.top()) is dict:
            _fill(target, items)
        elif target is not _UNBUILT:
            raise _damaged("sets an item of something that is no dict")

    def get(self, place) -> None:
        if int(place) not in self.memo:
            raise _damaged("asks its memo for what is not there")
        self.stack.append(self.memo[int(place)])

    def put(self, place=None) -> None:
        self.memo[len(self.memo) if place is None else int(place)] = self.top()

    def ask(self, module, name) -> None:
        """Push a name, if a checkpoint may ask for it."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise _damaged("asks for a name that is no text")
        if (module, name) not in _CALLS and name not in UNNEEDED.get(module, ()):
            asked = plain(f"{module}.{name}", 100)
            raise RefusedError(
                f"asks for {asked}, which no state dict needs, so it was not loaded: save the model's state_dict()"
            )
        self.stack.append(_Name(module, name))

    def call(self, asked, arguments) -> None:
        """Push what a name gives for arguments; most is left unbuilt."""
        if asked is _UNBUILT:  # such as a type that stands in an unbuilt object
            self.stack.append(_UNBUILT)
            return
        if type(asked) is not _Name or type(arguments) is not tuple:
            raise _damaged("calls what is no function")
        build = _CALLS.get((asked.module, asked.name))
        if isinstance(build, str):
            raise _damaged("calls a storage's type")
        self.stack.append(_UNBUILT if build is None else build(arguments))

    def reduce(self, _) -> None:
        self.call(*self.take(2))

    def new_with_names(self, _) -> None:
        asked, arguments, _ = self.take(3)
        self.call(asked, arguments)

    def inst(self, argument) -> None:
        arguments = tuple(self.above_mark())
        self.ask(*argument.split(" ", 1))
        self.call(self.pop(), arguments)

    def obj(self, _) -> None:
        asked, *arguments = self.above_mark() or [None]
        self.call(asked, tuple(arguments))

    def build(self, _) -> None:
        """Leave an object's state where it is: a dict needs none, and nothing else is built."""
        self.pop()
        if self.top() is not _UNBUILT and type(self.top()) is not dict:
            raise _damaged("gives a state to what has none")

    def storage(self, _) -> None:
        """Push the storage that a reference names: ("storage", type, key, place, size[, None])."""
        reference = self.pop()
        if type(reference) is not tuple or len(reference) not in (5, 6):
            raise _damaged("refers to no storage")
        tag, kind, key, _place, size, *view = reference
        dtype = _CALLS.get((kind.module, kind.name)) if type(kind) is _Name else None
        # Compared by type first: what an object from outside would answer to "==" is not asked.
        is_storage = type(tag) is str and tag == "storage" and isinstance(dtype, str) and type(key) is str
        if not (is_storage and _is_count(size) and all(part is None for part in view)):
            raise _damaged("refers to no storage that is read here")
        storage = Storage(key, dtype, size)
        if self.storages.setdefault(key, storage) != storage:
            raise RefusedError(f"has two meanings for the storage {shown(key)}")
        self.stack.append(storage)


def _fill(target: dict, items: list) -> None:
    if len(items) % 2:
        raise _damaged("has a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # A longer number is costly to hash.
        if type(key) is not str and not (type(key) in (int, bool) and abs(key) < MOST):
            raise RefusedError("has a key that is neither text nor a whole number")
        target[key] = value


def _dict(items: list) -> dict:
    made = {}
    _fill(made, items)
    return made


def _ordered_dict(arguments: tuple) -> dict:
    """Build ``OrderedDict()`` or, as Python 2 wrote it, ``OrderedDict([[key, value], ...])``."""
    pairs = arguments[0] if arguments else []
    is_list = len(arguments) < 2 and type(pairs) is list
    if not is_list or any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
        raise _damaged("makes an OrderedDict of what is no list of pairs")
    made = _dict([part for pair in pairs for part in pair])
    # The pairs are used up: a pickle could name one list again and again, and each copy would cost as much.
    pairs.clear()
    return made


def _rebuild_tensor(arguments: tuple) -> TensorView:
    if len(arguments) < 4:
        raise _damaged("rebuilds a tensor from too little")
    storage, offset, shape, strides = arguments[:4]
    if type(storage) is not Storage:
        raise _damaged("rebuilds a tensor from no storage")
    are_sides = type(shape) is type(strides) is tuple and len(shape) == len(strides) <= MAX_RANK
    if not are_sides or any(type(each) is not int for each in (offset, *shape, *strides)):
        raise _damaged("gives a tensor a shape that is none")
    if not all(map(_is_count, (offset, *shape, *strides))):
        raise _damaged("lets a tensor reach outside its storage")
    return TensorView(storage, offset, shape, strides)


def _is_count(value) -> bool:
    return type(value) is int and 0 <= value < MOST


def _rebuild_parameter(arguments: tuple) -> TensorView:
    if not arguments or type(arguments[0]) is not TensorView:
        raise _damaged("makes a parameter of what is no tensor")
    return arguments[0]


# Every name that means something here. A storage's type stands for its element type, and is never called.
_CALLS: dict[tuple[str, str], Callable | str] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", storage): dtype for storage, dtype in STORAGES.items()},
}

_LITERALS = {
    "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK}
# Instruction -> how many it takes from the stack (None: all above the mark), and what it makes of them.
_CONTAINERS = {
    "EMPTY_TUPLE": (0, tuple), "TUPLE1": (1, tuple), "TUPLE2": (2, tuple), "TUPLE3": (3, tuple), "TUPLE": (None, tuple),
    "EMPTY_LIST": (0, list), "LIST": (None, list), "EMPTY_DICT": (0, _dict), "DICT": (None, _dict),
    "EMPTY_SET": (0, lambda items: _UNBUILT), "FROZENSET": (None, lambda items: _UNBUILT),
}  # fmt: skip
_INSTRUCTIONS = {
    "PROTO": lambda machine, version: None,
    "FRAME": lambda machine, size: None,
    "STOP": lambda machine, _: None,
    "POP": lambda machine, _: machine.stack.pop() if machine.stack else machine.pop(),
    "POP_MARK": lambda machine, _: machine.above_mark(),
    "DUP": lambda machine, _: machine.stack.append(machine.top()),
    "APPEND": lambda machine, _: machine.extend(machine.take(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.above_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.above_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.above_mark()),
    "GET": _Machine.get, "BINGET": _Machine.get, "LONG_BINGET": _Machine.get,
    "PUT": _Machine.put, "BINPUT": _Machine.put, "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.put,
    "GLOBAL": lambda machine, name: machine.ask(*name.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.ask(*machine.take(2)),
    "REDUCE": _Machine.reduce, "NEWOBJ": _Machine.reduce, "NEWOBJ_EX": _Machine.new_with_names,
    "INST": _Machine.inst, "OBJ": _Machine.obj,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.storage,
}  # fmt: skip
