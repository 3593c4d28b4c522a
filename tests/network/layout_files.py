"""Files of a small network in the layouts of those who publish weights, written as their programs write them."""

import numpy as np

from tests.network.small_network import draw_tensors
from tests.network.test_layouts import of_tiatoolbox
from tests.network.torch_files import mapping, tensor, write_legacy, write_zip

_KINDS = {
    np.dtype("f4"): "FloatStorage",
    np.dtype("f2"): "HalfStorage",
    np.dtype("f8"): "DoubleStorage",
    np.dtype("i8"): "LongStorage",
}


def opcodes(tensors, nested=None):
    """Return the opcodes of a state dict, and its storages: key -> numbers; ``nested`` are dicts of more tensors."""
    storages = {}

    def held(tensors):
        entries = {}
        for name, array in tensors.items():
            if isinstance(array, dict):
                entries[name] = held(array)
                continue
            key = str(len(storages))
            storages[key] = np.array(array, order="C")
            strides = [step // array.itemsize for step in storages[key].strides]
            entries[name] = tensor(key, _KINDS[array.dtype], array.size, b"N", shape=array.shape, strides=strides)
        return mapping(**entries)

    return held(tensors), storages


def write(path, tensors, zipped=True):
    """Write a state dict, or dicts of them within dicts, as torch.save does."""
    made, storages = opcodes(tensors)
    (write_zip if zipped else write_legacy)(path, made, **storages)
    return path


def with_counts(tensors):
    """Return tensors with the counts that PyTorch's batch norms keep."""
    counts = {
        name.replace("running_mean", "num_batches_tracked"): np.array(7, np.int64)
        for name in tensors
        if name.endswith("running_mean")
    }
    return {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")} | counts


def trained(classes=None):
    """Return a small network's tensors with PyTorch's counts, and a top of so many classes."""
    tensors = with_counts(draw_tensors())
    if classes is not None:
        tensors["fc.weight"] = np.resize(tensors["fc.weight"], (classes, tensors["fc.weight"].shape[1]))
        tensors["fc.bias"] = np.resize(tensors["fc.bias"], classes)
    return tensors


def tiatoolbox(classes=9):
    return {of_tiatoolbox(name): value for name, value in trained(classes).items()}
