"""PyTorch's files, written opcode by opcode as torch.save does."""

import pickle
import struct
import zipfile

import numpy as np

from bach_keras.network.torch_file import LEGACY_MAGIC

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)
COUNT = np.array(7)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def sequence(*items):
    return b"(" + b"".join(items) + b"t"


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


EMPTY_DICT = name("collections", "OrderedDict") + b")R"


def mapping(**entries):
    return EMPTY_DICT + b"".join(text(key) + value + b"s" for key, value in entries.items())


def storage(key, kind, size, view=b""):
    """Return the opcodes of a storage of ``size`` elements; the older format has a None for ``view``."""
    return sequence(text("storage"), name("torch", kind), text(key), text("cpu"), number(size), view) + b"Q"


def tensor(*storage_of, offset=0, shape, strides):
    """Return the opcodes that rebuild a tensor on a storage, given by the arguments of ``storage``."""
    shape, strides = (sequence(*map(number, values)) for values in (shape, strides))
    arguments = sequence(storage(*storage_of), number(offset), shape, strides, b"\x89", EMPTY_DICT)
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def pickled(opcodes):
    return b"\x80\x02" + opcodes + b"."


def write_zip(path, opcodes, compression=zipfile.ZIP_STORED, **storages):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("any/data.pkl", pickled(opcodes))
        archive.writestr("any/byteorder", "little")
        for key, array in storages.items():
            archive.writestr(f"any/data/{key}", array.tobytes())


def write_legacy(path, opcodes, little_endian=True, **storages):
    header = (LEGACY_MAGIC, 1001, {"protocol_version": 1001, "little_endian": little_endian})
    with path.open("wb") as file:
        for part in header:
            pickle.dump(part, file, protocol=2)
        file.write(pickled(opcodes))
        pickle.dump(list(storages), file, protocol=2)
        for array in storages.values():
            file.write(struct.pack("<q", array.size) + array.tobytes())


STATE_DICT = mapping(
    weight=tensor("a", "FloatStorage", 6, b"N", shape=(2, 3), strides=(3, 1)),
    count=tensor("b", "LongStorage", 1, shape=(), strides=()),
)
