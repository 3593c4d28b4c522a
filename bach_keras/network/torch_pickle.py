"""What a pickled PyTorch checkpoint says, found without running anything and at a limited cost.

A pickle is a program for a small stack machine, and may name any function to be called. The machine here knows the
instructions that ``torch.save`` writes. It builds dicts, lists and tuples, notes what is said of tensors, and
leaves everything else unbuilt. Only text and integers are hashed, and nothing is walked recursively.
"""

import io
import pickletools
from dataclasses import dataclass, field

from bach_keras.fields import plain, shown
from bach_keras.network.tensors import RefusedError
from bach_keras.network.torch_objects import CALLS, UNNEEDED, Storage, build_dict, damaged, fill, is_count

# ResNeXt-50 with its optimizer and averaged weights takes 60,000 instructions in 600 kB.
MAX_PICKLE = 2**24
MAX_INSTRUCTIONS = 1_000_000


@dataclass(frozen=True)
class _Name:
    """A name that the pickle asks for."""

    module: str
    name: str


_UNBUILT = object()  # stands for an object that no state dict needs
_MARK = object()


@dataclass
class Pickle:
    """One pickle of a file: its object, the storages it points into by key, and where it ends in the bytes."""

    root: object
    storages: dict[str, Storage]
    end: int


def read_pickle(content: bytes, start: int = 0) -> Pickle:
    """Read the pickle that begins at ``start``."""
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
            raise damaged("takes more from its stack than is there")
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
        raise damaged("has no mark where one is needed")

    def top(self):
        self.stack.append(self.pop())
        return self.stack[-1]

    def extend(self, items: list) -> None:
        if type(target := self.top()) is list:
            target.extend(items)
        elif target is not _UNBUILT:
            raise damaged("adds to something that is not a list")

    def set_items(self, items: list) -> None:
        if type(target := self.top()) is dict:
            fill(target, items)
        elif target is not _UNBUILT:
            raise damaged("sets an item of something that is not a dict")

    def get(self, place) -> None:
        if int(place) not in self.memo:
            raise damaged("reads an entry of its memo that was never written")
        self.stack.append(self.memo[int(place)])

    def put(self, place=None) -> None:
        self.memo[len(self.memo) if place is None else int(place)] = self.top()

    def ask(self, module, name) -> None:
        """Push a name, if a checkpoint may ask for it."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise damaged("asks for a name that is not text")
        if (module, name) not in CALLS and name not in UNNEEDED.get(module, ()):
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
            raise damaged("calls something that is not a function")
        build = CALLS.get((asked.module, asked.name))
        if isinstance(build, str):
            raise damaged("calls a storage's type")
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
            raise damaged("gives a state to an object that has none")

    def storage(self, _) -> None:
        """Push the storage that a reference names: ("storage", type, key, place, size[, None])."""
        reference = self.pop()
        if type(reference) is not tuple or len(reference) not in (5, 6):
            raise damaged("refers to something that is not a storage")
        tag, kind, key, _place, size, *view = reference
        dtype = CALLS.get((kind.module, kind.name)) if type(kind) is _Name else None
        # Compared by type first: the "==" of an object from outside is never called.
        is_storage = type(tag) is str and tag == "storage" and isinstance(dtype, str) and type(key) is str
        if not (is_storage and is_count(size) and all(part is None for part in view)):
            raise damaged("refers to a storage of a kind that is not read here")
        storage = Storage(key, dtype, size)
        if self.storages.setdefault(key, storage) != storage:
            raise RefusedError(f"has two meanings for the storage {shown(key)}")
        self.stack.append(storage)


_LITERALS = {
    "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK}
# Instruction -> how many items it takes from the stack (None: all above the mark), and what it makes of them.
_CONTAINERS = {
    "EMPTY_TUPLE": (0, tuple), "TUPLE1": (1, tuple), "TUPLE2": (2, tuple), "TUPLE3": (3, tuple), "TUPLE": (None, tuple),
    "EMPTY_LIST": (0, list), "LIST": (None, list), "EMPTY_DICT": (0, build_dict), "DICT": (None, build_dict),
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
