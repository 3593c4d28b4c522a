"""Trained weights into our networks: torchvision's names and layouts to Keras's, checked in full."""

import hashlib
import os
from pathlib import Path

import numpy as np

from bach_keras.network.checkpoint import read_tensors, write_h5
from bach_keras.network.resnext import resnext50

# A Keras variable's name -> the name of the same values in a PyTorch module.
TORCH_NAMES = {
    "kernel": "weight", "bias": "bias",
    "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip

# Rank -> the axes that take PyTorch's order to Keras's, and back. Rank 4 is a
# convolution, (out, in, h, w) to (h, w, in, out); rank 2 a dense layer.
TO_KERAS = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}


def default_path() -> Path:
    """Return where ImageNet weights are looked for: ``~/.keras/models/``, or under ``KERAS_HOME``."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home) / "models" / "resnext50_imagenet.h5"


def torch_variables(model) -> dict:
    """Return the name of each of a network's variables in torchvision's state dict -> the variable."""
    parts = (variable.path.split("/")[-2:] for variable in model.weights)
    names = (f"{layer}.{TORCH_NAMES[name]}" for layer, name in parts)
    return dict(zip(names, model.weights, strict=True))


def torch_shape(variable) -> list[int]:
    """Return a variable's shape in PyTorch's order of axes."""
    return [variable.shape[axis] for axis in TO_TORCH[len(variable.shape)]]


def port_torch(model, tensors, source="The state dict"):
    """Fill a network with a torchvision state dict.

    Layers are found by name: every layer with weights is called as its
    torchvision module. Nothing is assigned before everything is checked.

    Args:
        model: a Keras model such as ``resnext50`` returns.
        tensors: torchvision's names -> arrays in PyTorch's layout
            (convolutions [out, in / groups, h, w], dense [out, in]). Only
            ``num_batches_tracked``, and ``fc.*`` where the model has no top,
            may be left over.
        source: how an error calls the tensors.

    Raises:
        ValueError: a tensor is missing, left over or of a wrong shape, or they are a ResNet-50's.
    """
    variables = torch_variables(model)
    given = {name: list(np.shape(tensor)) for name, tensor in tensors.items()}
    wanted = {name: torch_shape(variable) for name, variable in variables.items()}
    _check_shapes(given, wanted, f"{source} does not fit {model.name}")
    for name, variable in variables.items():
        variable.assign(np.transpose(tensors[name], TO_KERAS[len(variable.shape)]))


def load_weights(model, path):
    """Fill a network from a file: a ``.h5`` that ``port`` wrote, ``.safetensors`` or ``.pth``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or does not fit the network.
    """
    port_torch(model, read_tensors(path), source=path)


def port(source, dest, *, overwrite=False, origin=None, model=None):
    """Check a ResNeXt-50 checkpoint against the network and keep it as ``.h5``.

    DEST holds the tensors as they are, so that it is read the same checked way
    as any other file, and the attributes ``origin`` and ``source_sha256``.

    Args:
        source: a file that ``read_tensors`` reads.
        dest: the ``.h5`` to write; its folder is made if need be.
        overwrite: replace DEST if it is there.
        origin: where SOURCE came from; its file name if not given.
        model: the network to check against (its weights change); ResNeXt-50
            32x4d if not given, with a top as wide as SOURCE's.

    Raises:
        FileNotFoundError: there is no SOURCE.
        FileExistsError: DEST is there already.
        ValueError: DEST does not end in ``.h5``, or SOURCE is not what it should be.
    """
    source, dest = Path(source), Path(dest)
    check_destination(dest, overwrite)
    tensors = read_tensors(source)
    if model is None:
        top = tensors.get("fc.weight", ())
        model = resnext50((None, None, 3), include_top=len(top) > 0, classes=len(top))
    port_torch(model, tensors, source)
    with source.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    dest.parent.mkdir(parents=True, exist_ok=True)
    write_h5(dest, tensors, origin=origin or source.name, source_sha256=sha256)


def check_destination(dest, overwrite):
    """Raise unless DEST may be written: a name that ends in ``.h5``, and free or to be overwritten."""
    if dest.suffix != ".h5":
        raise ValueError(f"Weights are kept as HDF5: {dest} must end in .h5.")
    if dest.exists() and not overwrite:
        raise FileExistsError(f"{dest} is there already: remove it or ask to overwrite it.")


def _check_shapes(given, wanted, complaint):
    """Raise one sentence that names what is missing, left over or of a wrong shape, if anything is.

    Args:
        given: tensor name -> shape, of the file.
        wanted: tensor name -> shape in PyTorch's order, of the network.
        complaint: how the sentence begins.
    """
    grouped = "layer1.0.conv2.weight"
    if grouped in wanted and grouped in given and given[grouped][1:2] == given[grouped][:1]:
        raise ValueError(
            f"{complaint}: it is an ungrouped network such as ResNet-50 ({grouped} is {given[grouped]}, "
            f"not {wanted[grouped]}), so take the weights of resnext50_32x4d."
        )
    faults = {
        "missing": [name for name in wanted if name not in given],
        "left over": [name for name in given if name not in wanted and not _is_spare(name, wanted)],
        "of a wrong shape": [
            f"{name} {given[name]} instead of {shape}"
            for name, shape in wanted.items()
            if name in given and given[name] != shape
        ],
    }
    listed = [f"{fault}: {len(names)} ({_shorten(names)})" for fault, names in faults.items() if names]
    if listed:
        raise ValueError(f"{complaint}, tensors {'; '.join(listed)}.")


def _is_spare(name, wanted):
    return name.endswith(".num_batches_tracked") or (name.startswith("fc.") and "fc.weight" not in wanted)


def _shorten(names, few=3):
    rest = len(names) - few
    return ", ".join(names[:few]) + (f" and {rest} more" if rest > 0 else "")
