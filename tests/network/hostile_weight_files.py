"""Files of weights that want more than to be read: pickles, safetensors headers, zip archives and HDF5 files."""

import json
import struct
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np

from bach_keras.network.checkpoint import H5_FORMAT, H5_VERSION, write_h5
from tests.network.torch_files import (
    EMPTY_DICT,
    MATRIX,
    STATE_DICT,
    mapping,
    name,
    number,
    pickled,
    sequence,
    tensor,
    text,
    write_legacy,
    write_zip,
)


def put(place):
    return b"q" + bytes([place])


def get(place):
    return b"h" + bytes([place])


def doubled(times, opcodes=b")"):
    """A tuple of the same tuple twice, and so on: small in memory, endless for whoever walks it."""
    return opcodes + (b"2\x86") * times


def deep(times):
    """A tuple in a tuple in a tuple."""
    return b")" + b"\x85" * times


def storage(key=None, size=None, dtype="FloatStorage"):
    size = number(6) if size is None else size
    return sequence(text("storage"), name("torch", dtype), key or text("a"), text("cpu"), size) + b"Q"


def rebuilt(shape, strides, offset=None, held=None):
    parts = (held or storage(), offset or number(0), shape, strides, b"\x89", EMPTY_DICT)
    return name("torch._utils", "_rebuild_tensor_v2") + sequence(*parts) + b"R"


def sides(*values):
    return sequence(*map(number, values))


def huge(value):
    return b"\x8a" + bytes([len(digits := value.to_bytes(9, "little", signed=True))]) + digits


def ordered_dicts(times):
    """One list of pairs, of which many OrderedDicts are made."""
    pair = text("a") + number(1) + b"\x86" + put(0) + b"0"
    pairs = b"](" + get(0) * times + b"e\x85" + put(1) + b"0"
    function = name("collections", "OrderedDict") + put(2) + b"0"
    return pair + pairs + function + (get(2) + get(1) + b"R0") * times + EMPTY_DICT


FLAT = (sides(6), sides(1))
PICKLES = {
    "key deep": EMPTY_DICT + deep(300_000) + number(1) + b"s",
    "key doubled": EMPTY_DICT + doubled(64) + number(1) + b"s",
    "key of bytes": EMPTY_DICT + b"C\x01a" + number(1) + b"s",
    "key of many digits": EMPTY_DICT + b"\x8b" + struct.pack("<i", 10**6) + b"\x01" * 10**6 + b"N" + b"s",
    "storage key doubled": mapping(x=rebuilt(*FLAT, held=storage(doubled(64)))),
    "storage key deep": mapping(x=rebuilt(*FLAT, held=storage(deep(300_000)))),
    "reference doubled": doubled(64) + b"Q",
    "reference deep": deep(300_000) + b"Q",
    "value doubled": mapping(x=doubled(64)),
    "value deep": mapping(x=deep(300_000)),
    "list in itself": b"]" + put(0) + get(0) + b"a",
    "dict in itself": EMPTY_DICT + put(0) + text("model") + get(0) + b"s",
    "shape doubled": mapping(x=rebuilt(doubled(64), doubled(64))),
    "shape of huge numbers": mapping(x=rebuilt(sequence(huge(2**64)), sequence(huge(2**64)))),
    "shape of flags": mapping(x=rebuilt(sequence(b"\x88"), sequence(b"\x88"))),
    "shape of fractions": mapping(x=rebuilt(sequence(b"G" + struct.pack(">d", 6.0)), sides(1))),
    "shape of many sides": mapping(x=rebuilt(sides(*[1] * 70), sides(*[1] * 70))),
    "no storage": mapping(x=rebuilt(*FLAT, held=number(3))),
    "size a flag": mapping(x=rebuilt(*FLAT, held=storage(size=b"\x88"))),
    "size a fraction": mapping(x=rebuilt(*FLAT, held=storage(size=b"G" + struct.pack(">d", 6.0)))),
    "size huge": mapping(x=rebuilt(*FLAT, held=storage(size=huge(2**62)))),
    "size below 0": mapping(x=rebuilt(*FLAT, held=storage(size=number(-6)))),
    "complex numbers": mapping(x=rebuilt(*FLAT, held=storage(dtype="ComplexFloatStorage"))),
    "quantised numbers": mapping(x=rebuilt(*FLAT, held=storage(dtype="QInt8Storage"))),
    "two types of one storage": mapping(x=rebuilt(*FLAT), y=rebuilt(*FLAT, held=storage(dtype="HalfStorage"))),
    "a million classes": mapping(x=rebuilt(sides(1_000_000, 2048), sides(0, 0))),
    "stride 0": mapping(x=rebuilt(sides(7), sides(0))),
    "a million names": mapping(**{str(n): rebuilt(*FLAT) for n in range(30_000)}),
    "too many instructions": b"N0" * 600_000 + b"N",
    "too large": text("x" * 2**24) + b"0N",
    "long of gigabytes": b"\x8b" + struct.pack("<i", 2**31 - 1),
    "text of gigabytes": b"X" + struct.pack("<I", 2**32 - 1),
    "text of exabytes": b"\x8d" + struct.pack("<Q", 2**63),
    "frame of exabytes": b"\x95" + struct.pack("<Q", 2**63) + b"N",
    "number of many digits": b"I" + b"9" * 10**6 + b"\n",
    "extension": b"\x82\x01",
    "persistent text": b"Pstorage\n",
    "memo empty": b"h\x07",
    "stack empty": b"0",
    "mark missing": b"t",
    "mark for a value": b"(" + EMPTY_DICT[:-2] + b"(R",
    "calls text": text("os.system") + b")R",
    "calls a storage": name("torch", "FloatStorage") + b")R",
    "instance of a class": b"(" + b"ios\nsystem\n",
    "object of a class": b"(" + name("os", "system") + text("ls") + b"o",
    "name on the stack": text("os") + text("system") + b"\x93" + b")R",
    "new object": name("subprocess", "Popen") + b")\x81",
    "getattr": name("builtins", "getattr") + sequence(name("torch", "FloatStorage"), text("mro")) + b"R",
    "state of text": text("a") + EMPTY_DICT + b"b",
    "name with escapes": name("os\x1b[2J\x07", "system" * 10_000),
    "text in the message": EMPTY_DICT + text("\x1b[2J" * 10_000) + number(1) + b"s",
    "ordered dict of text": name("collections", "OrderedDict") + sequence(text("abc")) + b"R",
    "ordered dicts of one list": ordered_dicts(100_000),
    "a name of wrappers alone": mapping(**{"model." * 1_000_000: rebuilt(*FLAT)}),
    "whole network": name("torchvision.models.resnet", "ResNet") + b")\x81",
}  # fmt: skip


def write_pickles(folder: Path) -> None:
    """Write each of ``PICKLES`` in both of torch's formats."""
    for label, opcodes in PICKLES.items():
        write_zip(folder / f"{label} zip", opcodes, a=MATRIX)
        write_legacy(folder / f"{label} legacy", opcodes, a=MATRIX)


def safetensors_of(header, content=b"\0" * 24):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + content


def entry(dtype="F32", shape=(6,), data_offsets=(0, 24)):
    return {"dtype": dtype, "shape": shape, "data_offsets": data_offsets}


HEADERS = {
    "longer than the file": struct.pack("<Q", 2**62) + b'{"x":1}',
    "of gigabytes": struct.pack("<Q", 2**31) + b"{" + b" " * 100,
    "nested deeply": safetensors_of(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "with a name twice": safetensors_of(b'{"x":%b,"x":%b}' % ((json.dumps(entry()).encode(),) * 2)),
    "with no number": safetensors_of(b'{"x":{"dtype":"F32","shape":[NaN],"data_offsets":[0,24]}}'),
    "of many digits": safetensors_of(b'{"x":{"dtype":"F32","shape":[' + b"9" * 10_000 + b'],"data_offsets":[0,24]}}'),
    "not UTF-8": safetensors_of(b'{"\xff":1}'),
    "a list inside": safetensors_of({"x": []}),
    "overlapping": safetensors_of({"x": entry(), "y": entry()}),
    "with holes": safetensors_of({"x": entry(shape=(3,), data_offsets=(12, 24))}),
    "outside the file": safetensors_of({"x": entry(shape=(600,), data_offsets=(0, 2400))}),
    "below 0": safetensors_of({"x": entry(shape=(-6,), data_offsets=(0, 24))}),
    "backwards": safetensors_of({"x": entry(data_offsets=(24, 0))}),
    "of another shape": safetensors_of({"x": entry(shape=(2**31, 2**31))}),
    "of another type": safetensors_of({"x": entry(dtype="F64")}),
    "of an unknown type": safetensors_of({"x": entry(dtype="C64")}),
    "with a flag for a side": safetensors_of({"x": entry(shape=(True, 6))}),
    "with a fraction": safetensors_of({"x": entry(shape=(6.0,))}),
    "with text for a shape": safetensors_of({"x": entry(shape="6")}),
    "of many sides": safetensors_of({"x": entry(shape=[1] * 99 + [6])}),
    "of many tensors": safetensors_of({str(n): entry(shape=(0,), data_offsets=(0, 0)) for n in range(30_000)}, b""),
}


def write_headers(folder: Path) -> None:
    """Write each of ``HEADERS`` as a file."""
    for label, content in HEADERS.items():
        (folder / label).write_bytes(content)


def write_zips(folder: Path) -> None:
    """Write archives that lie about what they hold, or hold too much."""

    def member(place, label, content, compression=zipfile.ZIP_STORED):
        with zipfile.ZipFile(folder / place, "a", compression) as archive, warnings.catch_warnings(action="ignore"):
            archive.writestr(label, content)

    for place in ("twice", "two folders", "inflates", "many members"):
        write_zip(folder / place, STATE_DICT, a=MATRIX, b=np.array(7))
    member("twice", "any/data/a", MATRIX.tobytes())
    member("two folders", "other/data.pkl", pickled(STATE_DICT))
    member("inflates", "any/data/c", b"\0" * 2**27, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(folder / "many members", "a") as archive:
        for number_of in range(100):
            archive.writestr(f"any/{number_of:03}{'x' * 60_000}", b"")
    write_zip(folder / "short storage", STATE_DICT, a=MATRIX[:1], b=np.array(7))
    write_zip(folder / "long storage", STATE_DICT, a=np.tile(MATRIX, (2, 1)), b=np.array(7))
    write_zip(folder / "no storage", STATE_DICT, a=MATRIX)
    row = tensor("a", "FloatStorage", 2**21, shape=(1,), strides=(1,))
    write_zip(folder / "one number of many", mapping(x=row), a=np.zeros(2**21, np.float32))
    whole = tensor("a", "FloatStorage", 2**20, shape=(2**20,), strides=(1,))
    write_zip(folder / "many names", mapping(**{str(n): whole for n in range(2000)}), a=np.zeros(2**20, np.float32))


def h5(path, fill):
    with h5py.File(path, "w") as file:
        file.attrs.update(format=H5_FORMAT, format_version=H5_VERSION)
        fill(file)


def of_virtual(file, other):
    layout = h5py.VirtualLayout((2, 3), np.float32)
    layout[:] = h5py.VirtualSource(other, "weight", (2, 3))
    file.create_virtual_dataset("weight", layout)


def of_cycle(file):
    file.create_group("weight")["again"] = file


def of_type(file):
    file["type"] = np.dtype("f4")
    file.create_dataset("weight", data=MATRIX, dtype=file["type"])


def never_written(file):
    space = h5py.h5s.create_simple((2**20, 2048))
    h5py.h5d.create(file.id, b"weight", h5py.h5t.IEEE_F32LE, space)


def alike(file):
    for number_of in range(30_000):
        file[str(number_of)] = np.float32(1)


def write_h5s(folder: Path, secret: Path, raw: Path) -> None:
    """Write HDF5 files whose numbers are elsewhere, in ``secret`` (HDF5) or ``raw``, or are no plain numbers."""
    fills = {
        "an external link": lambda file: file.update({"weight": h5py.ExternalLink(str(secret), "weight")}),
        "a soft link": lambda file: file.update({"a": MATRIX, "weight": h5py.SoftLink("/a")}),
        "a virtual data set": lambda file: of_virtual(file, str(secret)),
        "external storage": lambda file: file.create_dataset("weight", (2, 3), "f4", external=[(str(raw), 0, 24)]),
        "pieces": lambda file: file.create_dataset("weight", data=MATRIX, chunks=(1, 3)),
        "a filter": lambda file: file.create_dataset("weight", data=MATRIX, compression="gzip"),
        "a compressed bomb": lambda file: file.create_dataset("weight", (2**20, 2048), "f4", compression="gzip"),
        "numbers never written": never_written,
        "object references": lambda file: file.create_dataset("weight", data=file.ref, dtype=h5py.ref_dtype),
        "region references": lambda file: file.create_dataset("weight", (1,), dtype=h5py.regionref_dtype),
        "a committed type": of_type,
        "a group": lambda file: file.create_group("weight"),
        "a cycle of groups": of_cycle,
        "text": lambda file: file.create_dataset("weight", data="text"),
        "a compound type": lambda file: file.create_dataset("weight", (2,), [("a", "f4"), ("b", "f4")]),
        "complex numbers": lambda file: file.create_dataset("weight", (2,), "c8"),
        "big-endian numbers": lambda file: file.create_dataset("weight", data=MATRIX.astype(">f4")),
        "nothing": lambda file: file.create_dataset("weight", data=h5py.Empty("f4")),
        "many tensors": alike,
        "a format of a million": lambda file: file.attrs.create("format", np.zeros(8000)),
    }
    for label, fill in fills.items():
        h5(folder / label, fill)


def plain(folder: Path) -> dict[str, bytes]:
    """Return plain files of a few weights in each format: name -> the file; ``folder`` is for what is written."""
    place = folder / "weights"
    write_zip(place, STATE_DICT, a=MATRIX, b=np.array(7))
    files = {"plain.pth": place.read_bytes()}
    write_legacy(place, STATE_DICT, a=MATRIX, b=np.array(7))
    files["legacy.pth"] = place.read_bytes()
    files["plain.safetensors"] = safetensors_of({"x": entry()})
    place.unlink()
    write_h5(place, {"weight": MATRIX})
    files["plain.h5"] = place.read_bytes()
    place.unlink()
    return files
