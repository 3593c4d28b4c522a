"""Where the networks are among the tensors of a checkpoint: behind which prefix, and by whose names."""

from collections.abc import Iterable
from dataclasses import dataclass

from bach_keras.fields import plain, shown
from bach_keras.network.tensors import RefusedError

TORCHVISION, SEQUENTIAL, TIATOOLBOX = "torchvision", "sequential", "tiatoolbox"

# A ResNet's children by their place, as they are called once they stand in a Sequential: what has no weights, such as
# the pooling, is left out.
_PLACES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4", "9": "fc"}
_PARTS = {name: name for name in _PLACES.values()}

# The one tensor by which a network is found -> its layout, and what its parts are called.
_ANCHORS = {"layer1.0.conv1.weight": (TORCHVISION, _PARTS), "4.0.conv1.weight": (SEQUENTIAL, _PLACES)}

# tiatoolbox's CNNModel keeps the children in its ``feat_extract``, and the top beside them.
_FEATURES, _CLASSIFIER = "feat_extract.", "classifier."

# More than any training keeps of one network: two heads, their averages, a teacher and a student.
MAX_NETWORKS = 16


@dataclass(frozen=True)
class Network:
    """The tensors of one network of a checkpoint.

    ``names`` are torchvision's names -> the names in the file, of the convolutions and batch norms, and of the top
    (``fc``) if there is one. What belongs to no network of this kind, such as another head, is not among them.
    """

    prefix: str
    layout: str
    names: dict[str, str]

    @property
    def title(self) -> str:
        return f"the prefix {shown(self.prefix)}" if self.prefix else "no prefix"


def networks(names: Iterable[str]) -> list[Network]:
    """Return the networks whose tensors are among these names, in their order."""
    # `torch.compile` on a network, or on a part of one, stands within the names.
    plain_names = [(name.replace("._orig_mod.", ".").removeprefix("_orig_mod."), name) for name in names]
    found = {}
    for inner, _ in plain_names:
        for anchor, kind in _ANCHORS.items():
            if inner == anchor or inner.endswith(f".{anchor}"):
                found[inner.removesuffix(anchor)] = kind
    if len(found) > MAX_NETWORKS:
        raise RefusedError(f"holds {len(found)} networks, more than any checkpoint that is read here")
    return [_network(prefix, *kind, plain_names) for prefix, kind in found.items()]


def _network(prefix: str, layout: str, parts: dict[str, str], plain_names) -> Network:
    base = prefix.removesuffix(_FEATURES)
    is_tiatoolbox = layout == SEQUENTIAL and base != prefix
    taken = {}
    for inner, name in plain_names:
        part, _, rest = inner.removeprefix(prefix).partition(".")
        if inner.startswith(prefix) and part in parts:
            own = f"{parts[part]}.{rest}"
        elif is_tiatoolbox and inner.startswith(f"{base}{_CLASSIFIER}"):
            own = f"fc.{inner.removeprefix(base + _CLASSIFIER)}"
        else:
            continue
        # A head of several layers, such as contrastive trainings put in a top's place, is not a top.
        if own.startswith("fc.") and own not in ("fc.weight", "fc.bias"):
            continue
        if own in taken:
            raise RefusedError(f"has two tensors of the name {shown(own)} once the names of wrappers are removed")
        taken[own] = name
    return Network(prefix, TIATOOLBOX if is_tiatoolbox else layout, taken)


def choose(found: list[Network], is_complete, prefix: str | None = None) -> Network:
    """Return the one network to take of those in a file.

    Args:
        found: the networks of the file.
        is_complete: takes a network and returns whether all that is wanted is in it.
        prefix: what the user named, the whole prefix of a network or its beginning.
    """
    if prefix is not None:
        wanted = prefix if prefix.endswith(".") or not prefix else f"{prefix}."
        listed = _listed(found)
        found = [each for each in found if each.prefix == wanted] or [
            each for each in found if wanted and each.prefix.startswith(wanted)
        ]
        if not found:
            there = f"its networks have {listed}" if listed else "it has no network like this one"
            raise RefusedError(f"has no network behind the prefix {shown(prefix)}: {there}")
    if len(found) > 1:
        found = [each for each in found if is_complete(each)] or found
    if len(found) > 1:
        raise RefusedError(
            f"holds {len(found)} networks, which have {_listed(found)}: choose one with `weights port --prefix`"
        )
    if not found:
        raise RefusedError("holds no ResNeXt: no tensor is named as torchvision or tiatoolbox name those of one")
    return found[0]


def left_over(network: Network, names: Iterable[str]) -> list[str]:
    """Return the names in a file that do not belong to a network; averaged weights count their updates, too."""
    taken = set(network.names.values())
    return [name for name in names if name not in taken and name.rpartition(".")[2] != "n_averaged"]


def _listed(found: list[Network]) -> str:
    return plain(" and ".join(each.title for each in found), 300)
