"""HDF5 files, of which only numbers in the file itself are read.

HDF5 lets a name lead to another file, or to whatever a program makes of stored bytes. Only plain data sets under hard
links are read here: what this project and Keras write.
"""

import math
from dataclasses import dataclass

import h5py
import numpy as np

from bach_keras.fields import shown
from bach_keras.network.tensors import DTYPES, MAX_RANK, RefusedError, TensorSpec, decode

_LINKS = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link to another file"}
_OF_OBJECT = 4096  # bytes beside the numbers: more than the header of any
_NAMES = {np.dtype(code): name for name, code in DTYPES.items() if name != "BF16"}


@dataclass(frozen=True)
class PlainDataset:
    """A data set whose numbers are in the file, in one piece."""

    spec: TensorSpec
    dataset: h5py.Dataset

    def read(self) -> np.ndarray:
        return decode(self.dataset[()], self.spec.dtype)


def plain_dataset(group: h5py.Group, path: str) -> PlainDataset:
    """Return the data set at a path, its parts joined by ``/``, unless its numbers are not plainly in the file."""
    *parents, name = path.split("/")
    for parent in parents:
        group = _linked(group, parent, h5py.Group, "a group")
    return _plain(_linked(group, name, h5py.Dataset, "a data set"), path)


def text_attribute(file: h5py.File, name: str):
    """Return an attribute that is one short text or number; None where it is missing or something else."""
    if not h5py.h5a.exists(file.id, name.encode()):
        return None
    attribute = h5py.h5a.open(file.id, name.encode())
    # HDF5 holds a long text elsewhere, and here its place.
    if attribute.get_space().get_simple_extent_type() != h5py.h5s.SCALAR or attribute.get_storage_size() > 64:
        return None
    kind = attribute.get_type().get_class()
    if kind not in (h5py.h5t.STRING, h5py.h5t.INTEGER):
        return None
    return file.attrs[name]


def _linked(group, name, kind, words):
    if not name or not group.id.links.exists(name.encode()):
        raise RefusedError(f"has no {shown(name)}")
    link = group.id.links.get_info(name.encode()).type
    if link != h5py.h5l.TYPE_HARD:
        raise RefusedError(f"holds {shown(name)} as {_LINKS.get(link, 'a link of an unknown kind')}, so it is not read")
    found = group[name]
    if not isinstance(found, kind):
        raise RefusedError(f"holds {shown(name)}, which is not {words}, so it is not read")
    return found


def _plain(dataset, name) -> PlainDataset:
    stored = dataset.id
    layout = stored.get_create_plist()
    reasons = {
        "is stored in another file": layout.get_external_count() > 0,
        "is joined from other data sets": layout.get_layout() == h5py.h5d.VIRTUAL,
        "is stored in chunks or compressed": layout.get_layout() == h5py.h5d.CHUNKED or layout.get_nfilters() > 0,
        "has a type that is defined elsewhere in the file": stored.get_type().committed(),
        "is not a plain array": stored.get_space().get_simple_extent_type() == h5py.h5s.NULL
        or len(stored.shape) > MAX_RANK,
    }
    for reason, is_so in reasons.items():
        if is_so:
            raise RefusedError(f"holds {shown(name)}, which {reason}, so it is not read")
    kind = _NAMES.get(stored.dtype.newbyteorder("<")) if stored.dtype.byteorder != ">" else None
    if stored.get_type().get_class() not in (h5py.h5t.FLOAT, h5py.h5t.INTEGER, h5py.h5t.ENUM) or kind is None:
        raise RefusedError(f"holds {shown(name)}, which has a type that is not read here")
    spec = TensorSpec(kind, tuple(stored.shape))
    # HDF5 would fill space that was never allocated with zeros.
    if math.prod(spec.shape) and stored.get_storage_size() != spec.bytes:
        raise RefusedError(f"holds {shown(name)}, whose numbers were never written, so it is not read")
    return PlainDataset(spec, dataset)


def room_of(arrays) -> int:
    """Return how many bytes a file of these arrays or variables may take, to be free before HDF5 begins to write.

    On a disk that fills up while it writes it prints a traceback for each object that it holds.
    """
    return sum(math.prod(np.shape(array)) * 4 + _OF_OBJECT for array in arrays)
