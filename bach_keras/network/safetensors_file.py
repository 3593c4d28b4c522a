"""Files in the safetensors format: a header in JSON, then the numbers."""

import struct
from pathlib import Path

import numpy as np

from bach_keras.fields import check, list_of, one_of, parse_object, shown, whole
from bach_keras.network.tensors import DTYPES, MAX_RANK, Tensors, TensorSpec, decode
from datasets.errors import UserError

# ResNeXt-50's takes 35 kB.
MAX_HEADER = 2**23


def open_safetensors(path: Path) -> Tensors:
    """List a file's tensors by its header."""
    file_size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(MAX_HEADER, file_size - 8):
            raise UserError(f"it claims a header of {length:,} bytes")
        header = parse_object(file.read(length).rstrip(b" "))
    header.pop("__metadata__", None)
    start = 8 + length
    most = file_size - start
    fields = {
        "shape": list_of(whole(0, 2**62), 0, MAX_RANK),
        "data_offsets": list_of(whole(0, max(most, 0)), 2, 2),
    }
    specs, places = {}, {}
    for name, entry in header.items():
        check(entry, {"dtype": one_of(*DTYPES), **fields}, within=shown(name))
        specs[name] = TensorSpec(entry["dtype"], tuple(entry["shape"]))
        places[name] = entry["data_offsets"]
        if places[name][1] - places[name][0] != specs[name].bytes:
            raise UserError(f"{shown(name)} has a size that does not fit its shape and type")
    # Each byte belongs to one tensor.
    end = 0
    for begin, until in sorted(places.values()):
        if begin != end:
            raise UserError("its tensors overlap or leave gaps")
        end = until
    if end != most:
        raise UserError(f"its tensors take {end:,} of {most:,} bytes")

    def read(names):
        with path.open("rb") as file:
            for name in names:
                spec = specs[name]
                file.seek(start + places[name][0])
                content = file.read(spec.bytes)
                yield name, decode(np.frombuffer(content, DTYPES[spec.dtype]).reshape(spec.shape), spec.dtype)

    return Tensors(specs, read)
