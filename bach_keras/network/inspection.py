"""What a file of weights is: the network, its layout, its normalisation, and whether it would be ported."""

from collections import Counter
from pathlib import Path

from bach_keras.fields import plain
from bach_keras.network.checkpoint import Checkpoint
from bach_keras.network.facts import facts_of
from bach_keras.network.held import Held
from bach_keras.network.layouts import choose, networks
from bach_keras.network.recognise import RESNEXT50, recognise
from bach_keras.network.resnext import resnext50
from bach_keras.network.tensors import naming
from bach_keras.network.weights import torch_shapes, trained_tensors
from datasets.digest import sha256_of
from datasets.errors import UserError

# Of a list of names.
MAX_SHOWN = 10

_TYPES = {"F64": "float64", "F32": "float32", "F16": "half", "BF16": "bfloat16"}


def inspect_weights(path, prefix: str | None = None, model=None) -> dict:
    """Return what a file of weights is, as `weights inspect` prints it.

    Args:
        path: the file; one that cannot be read is a UserError.
        prefix: which network of several to look at.
        model: the network to compare with, ResNeXt-50 32x4d if not given.
    """
    path = Path(path)
    checkpoint = Checkpoint(path)
    with naming(path):
        found = networks(checkpoint.specs)
    model = model or resnext50((None, None, 3))  # which takes a second and memory, so not for a file that is refused
    wanted = torch_shapes(model)
    said = {
        "file": plain(path.name, 255), "bytes": path.stat().st_size, "sha256": sha256_of(path),
        "format": checkpoint.format, "tensors": len(checkpoint.specs),
        "networks": [_in_short(Held(checkpoint, each)) for each in found],
    }  # fmt: skip
    try:
        with naming(path):
            network = choose(found, lambda each: Held(checkpoint, each).has(wanted), prefix)
    except UserError as error:
        if prefix is not None:
            raise
        return said | _of_none(checkpoint, found, str(error))
    held = Held(checkpoint, network)
    return said | _of_network(held, wanted) | _verdict(held, model)


def _in_short(held: Held) -> dict:
    shape = recognise(held.shapes)
    return {
        "prefix": plain(held.network.prefix, 500),
        "layout": held.network.layout,
        "network": shape.title if shape else None,
        "classes": held.classes,
    }


def _of_none(checkpoint: Checkpoint, found, why: str) -> dict:
    """Return what is said of a file that holds no network, or several to choose from."""
    unknown = dict.fromkeys((
        "prefix", "layout", "network", "is_resnext50_32x4d", "groups", "width_per_group", "blocks", "classes",
        "normalisation", "normalisation_known_by", "source", "licence",
    ))  # fmt: skip
    taken = {name for each in found for name in each.names.values()}
    left = [name for name in checkpoint.specs if name not in taken]
    return {
        **unknown, "is_resnext50_32x4d": None if found else False, "dtype": _dtype(checkpoint.specs.values()),
        "missing": None, "left_over": _named(left), "portable": False, "why_not": why,
    }  # fmt: skip


def _of_network(held: Held, wanted: dict[str, list[int]]) -> dict:
    shape, network = recognise(held.shapes), held.network
    specs = [held.checkpoint.specs[name] for name in network.names.values()]
    is_wanted = [name for name in held.shapes if name in wanted or name.startswith("fc.") or _is_count(name)]
    return {
        "prefix": plain(network.prefix, 500),
        "layout": "ours" if held.checkpoint.format == "h5" else network.layout,
        "network": shape.title if shape else None,
        "is_resnext50_32x4d": shape == RESNEXT50,
        "groups": shape and shape.groups,
        "width_per_group": shape and shape.width,
        "blocks": shape and list(shape.blocks),
        "classes": held.classes,
        "dtype": _dtype(specs),
        "missing": _named([name for name in wanted if held.shapes.get(name) != wanted[name]]),
        "left_over": _named([*held.left_over, *(network.names[n] for n in held.shapes if n not in is_wanted)]),
    }


def _verdict(held: Held, model) -> dict:
    """Return what is known beside the tensors, and whether `weights port` would take them."""
    why = facts = None
    try:
        facts = facts_of(held)
        trained_tensors(held, model)
    except UserError as error:
        why = str(error)
    return {
        "normalisation": facts and facts.normalisation,
        "normalisation_known_by": facts and facts.known_by,
        "source": facts and facts.source,
        "licence": facts and facts.licence,
        "portable": why is None,
        "why_not": why,
    }


def _is_count(name: str) -> bool:
    return name.endswith(".num_batches_tracked")


def _named(names: list[str]) -> dict:
    return {"count": len(names), "names": [plain(name, 100) for name in names[:MAX_SHOWN]]}


def _dtype(specs) -> str | None:
    """Return the floating-point type of tensors, ``mixed`` where there are several."""
    kinds = Counter(_TYPES[spec.dtype] for spec in specs if spec.dtype in _TYPES)
    return None if not kinds else next(iter(kinds)) if len(kinds) == 1 else "mixed"
