"""Trained weights into our networks: torchvision's names and layouts to Keras's, checked in full."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bach_keras.fields import plain
from bach_keras.network.checkpoint import Checkpoint, tensors_digest, write_h5
from bach_keras.network.facts import LAYOUT, NOTHING, USER, Facts, facts_of
from bach_keras.network.held import Held
from bach_keras.network.layouts import TIATOOLBOX, networks
from bach_keras.network.published import HISTOLOGY, Published
from bach_keras.network.recognise import recognise
from bach_keras.network.resnext import normalisation_of, resnext50
from bach_keras.network.tensors import naming
from bach_keras.normalisation import IMAGENET, UNIT
from bach_keras.wording import counted
from datasets.digest import sha256_of
from datasets.errors import UserError, working

LOG = logging.getLogger(__name__)

# A Keras variable's name -> the name of the same values in a PyTorch module.
TORCH_NAMES = {
    "kernel": "weight", "bias": "bias",
    "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip

# Rank -> the axes that take PyTorch's order to Keras's, and back. Rank 4 is a
# convolution, (out, in, h, w) to (h, w, in, out); rank 2 a dense layer.
TO_KERAS = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}

# More than any data set of images has; the full ImageNet has 21,843.
MAX_CLASSES = 50_000


def default_path(kind: str = IMAGENET) -> Path:
    """Return where weights of ImageNet or ``histology`` are looked for: ``~/.keras/models/``, or under KERAS_HOME."""
    if kind not in (IMAGENET, HISTOLOGY):
        raise ValueError(f"There is no default place for weights of {kind}.")
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home) / "models" / f"resnext50_{kind}.h5"


def torch_variables(model) -> dict:
    """Return the name of each of a network's variables in torchvision's state dict -> the variable."""
    parts = (variable.path.split("/")[-2:] for variable in model.weights)
    names = (f"{layer}.{TORCH_NAMES[name]}" for layer, name in parts)
    return dict(zip(names, model.weights, strict=True))


def torch_shapes(model) -> dict[str, list[int]]:
    """Return the names of ``torch_variables`` -> shapes in PyTorch's order of axes."""
    return {
        name: [variable.shape[axis] for axis in TO_TORCH[len(variable.shape)]]
        for name, variable in torch_variables(model).items()
    }


def port_torch(model, tensors, source="The state dict"):
    """Fill a network with a torchvision state dict.

    Every layer with weights has the name of its torchvision module. Nothing is assigned before everything is checked.

    Args:
        model: a Keras model such as ``resnext50`` returns.
        tensors: torchvision's names -> arrays in PyTorch's layout (convolutions [out, in / groups, h, w], dense
            [out, in]). Only ``num_batches_tracked``, and ``fc.*`` where the model has no top, may be left over.
        source: what an error calls the tensors.
    """
    variables = torch_variables(model)
    shapes = {name: list(np.shape(tensor)) for name, tensor in tensors.items()}
    check_shapes(shapes, torch_shapes(model), f"{source} does not fit {model.name}")
    numbers = {name: _as_float32(tensors[name]) for name in variables}
    check_numbers(numbers, source)
    for name, variable in variables.items():
        variable.assign(np.transpose(numbers[name], TO_KERAS[len(variable.shape)]))


def _as_float32(tensor) -> np.ndarray:
    """Return numbers as a network holds them, so that none becomes infinite after it was checked; integers stay."""
    array = np.asarray(tensor)
    # bfloat16, which NumPy lacks, has a kind of its own.
    is_float = array.dtype.name.startswith(("float", "bfloat"))
    with np.errstate(over="ignore"):
        return array.astype(np.float32) if is_float else array


def check_numbers(tensors: dict[str, np.ndarray], source) -> None:
    """Refuse numbers that no trained network has, as the ReLUs behind them may hide that its answers mean nothing."""
    faults = {
        "of a type other than floating point": [n for n, tensor in tensors.items() if tensor.dtype.kind != "f"],
        "with NaN or infinity": [
            n for n, tensor in tensors.items() if tensor.dtype.kind == "f" and not np.isfinite(tensor).all()
        ],
        "with variances below 0": [
            n for n, tensor in tensors.items() if n.endswith(("running_var", "moving_variance")) and (tensor < 0).any()
        ],
    }
    _refuse(faults, f"{source} does not hold a trained network")


def load_weights(model, path):
    """Fill a network from a ``.h5`` that ``convert_weights`` wrote, a ``.safetensors`` or a ``.pth``."""
    wanted = torch_shapes(model)
    held = Held.open(Path(path), wanted)
    # The shapes are checked before any number is read.
    check_shapes(held.shapes, wanted, f"{path} does not fit {model.name}")
    held.checkpoint.check_digest()
    facts = facts_of(held)
    if facts.normalisation != (own := normalisation_of(model)):
        raise UserError(f"{path} does not fit {model.name}: it is for {facts.images}, and the network is for {own}.")
    port_torch(model, held.read(torch_variables(model)), source=path)


def facts_of_file(path) -> Facts:
    """Return what is known of the network in a file of weights: where there are several, of the complete ResNeXt-50."""
    checkpoint = Checkpoint(path)
    with naming(checkpoint.path):
        several = len(networks(checkpoint.specs)) > 1
    # It takes a second to build one, so only where there is a choice.
    held = Held.open(checkpoint.path, torch_shapes(resnext50((None, None, 3))) if several else {})
    facts = facts_of(held)
    _warn_of_layout(held, facts)
    return facts


@dataclass(frozen=True)
class Asked:
    """What is said of a file to port, where the file leaves it open."""

    prefix: str | None = None  # of the network to take, or its beginning
    normalisation: str | None = None
    published: Published | None = None  # what was fetched


def convert_weights(source, dest, *, asked=Asked(), overwrite=False, origin=None, model=None) -> Path:
    """Check a checkpoint against a network, ResNeXt-50 32x4d if not given, and write it as ``.h5``; return its path.

    DEST holds the tensors as they are, so that it is read the same checked way as any other file, and the attributes
    ``origin``, by default SOURCE's file name, ``source_sha256``, ``tensors_sha256``, by which a number that changed is
    noticed, ``normalisation`` and, where it is known, ``licence``.
    The top may have any width. What belongs to no network of this kind, such as another head, stays behind.
    """
    source, dest = Path(source), Path(dest)
    check_destination(dest, overwrite)
    model = model or resnext50((None, None, 3))
    held = Held.open(source, torch_shapes(model), asked.prefix)
    tensors = trained_tensors(held, model)
    facts = facts_of(held, asked.normalisation, asked.published)
    dest.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(dest.parent, os.W_OK):
        raise UserError(f"{dest} cannot be written: there is no permission to write in its folder.")
    said = {
        "origin": plain(origin or facts.source, 255), "source_sha256": facts.sha256 or sha256_of(source),
        "normalisation": facts.normalisation, **({"licence": facts.licence} if facts.licence else {}),
        "tensors_sha256": tensors_digest(tensors),
    }  # fmt: skip
    with working():
        write_h5(dest, tensors, **said)
    _report(held, facts)
    return dest


def trained_tensors(held: Held, model) -> dict[str, np.ndarray]:
    """Return the tensors of a network in a file, with its top if it has one; refuses what does not fill the model."""
    wanted = torch_shapes(model)
    if "fc.weight" in held.shapes and "fc.weight" not in wanted:
        wanted |= _top_shapes(held.shapes["fc.weight"], model, held.path)
    check_shapes(held.shapes, wanted, f"{held.path} does not fit {model.name}")
    held.checkpoint.check_digest()
    tensors = held.read(name for name in held.shapes if name in wanted or not name.startswith("fc."))
    check_numbers({name: tensors[name] for name in wanted}, held.path)
    return tensors


def _report(held: Held, facts: Facts) -> None:
    """Report what the user must know of weights that were ported."""
    if held.network.prefix:
        LOG.info(f"took the network behind {held.network.title}")
    if left := held.left_over:
        LOG.info(f"left over: {counted(len(left), 'tensor')} ({_shorten(left)})")
    LOG.info(f"for {facts.images}")
    # What was trained on other data than ImageNet may well have been trained on pixels / 255: so tiatoolbox does it.
    if facts.known_by == NOTHING and held.classes not in (None, 1000):
        LOG.warning(
            f"The top of {held.path} has {held.classes:,} classes, so it was not trained on ImageNet last: if it was "
            "trained on pixels / 255 alone, port it again with --normalisation unit."
        )
    _warn_of_layout(held, facts)
    LOG.info(f"licence: {facts.licence or 'not known here; see where the file is from'}")


def _warn_of_layout(held: Held, facts: Facts) -> None:
    """Warn where a layout alone says the normalisation, and where the user says another than is usual in it."""
    if facts.known_by == LAYOUT:
        LOG.warning(
            f"{held.path} is taken to be for {facts.images}: if this one was trained on images normalised by "
            "ImageNet's statistics, port it with --normalisation imagenet."
        )
    if facts.known_by == USER and held.network.layout == TIATOOLBOX and facts.normalisation != UNIT:
        LOG.warning(
            f"{held.path} is taken to be for {facts.images}, though networks in its layout, tiatoolbox's, were trained "
            "on pixels / 255 alone."
        )


def _top_shapes(given, model, source) -> dict[str, list[int]]:
    """Return the shapes of a top on a network without one, as wide as a file's."""
    classes = given[0] if given else 0
    if not 0 < classes <= MAX_CLASSES:
        raise UserError(f"{source} has a top of {classes:,} classes, not 1 to {MAX_CLASSES:,}, so it was not loaded.")
    return {"fc.weight": [classes, model.output.shape[-1]], "fc.bias": [classes]}


def check_destination(dest, overwrite):
    """Refuse a DEST that does not end in ``.h5``, or that exists and is not to be overwritten."""
    if dest.suffix != ".h5":
        raise UserError(f"Weights are stored as HDF5: {dest} must end in .h5.")
    if dest.exists() and not overwrite:
        raise UserError(f"{dest} already exists: remove it, or replace it with --overwrite.")


def check_shapes(given, wanted, complaint):
    """Refuse a file's shapes that are missing among the wanted ones, left over or different, all in one sentence."""
    grouped = "layer1.0.conv2.weight"
    if grouped in wanted and grouped in given and given[grouped][1:2] == given[grouped][:1]:
        raise UserError(
            f"{complaint}: it is an ungrouped network such as ResNet-50 ({grouped} is {given[grouped]}, "
            f"not {wanted[grouped]}), so take the weights of resnext50_32x4d."
        )
    own, other = recognise(wanted), recognise(given)
    if own and other and other.depth and other != own:
        raise UserError(f"{complaint}: it is a {other.title}, not a {own.title}.")
    faults = {
        "missing": [name for name in wanted if name not in given],
        "left over": [
            name for name, shape in given.items() if name not in wanted and not _is_spare(name, shape, wanted)
        ],
        "of a wrong shape": [
            f"{name} {given[name]} instead of {shape}"
            for name, shape in wanted.items()
            if name in given and given[name] != shape
        ],
    }
    _refuse(faults, complaint)


def _is_spare(name, shape, wanted):
    if name.startswith("fc."):
        return "fc.weight" not in wanted
    norm, dot, last = name.rpartition(".")
    return last == "num_batches_tracked" and f"{norm}{dot}running_mean" in wanted and shape in ([], [1])


def _refuse(faults: dict[str, list[str]], complaint: str) -> None:
    """Raise one sentence that lists each fault with its tensors, unless there are none."""
    listed = [f"{fault}: {len(names)} ({_shorten(names)})" for fault, names in faults.items() if names]
    if listed:
        raise UserError(f"{complaint}, tensors {'; '.join(listed)}.")


def _shorten(names, few=3):
    rest = len(names) - few
    return ", ".join(plain(name, 100) for name in names[:few]) + (f" and {rest} more" if rest > 0 else "")
