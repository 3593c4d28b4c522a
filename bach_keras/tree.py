"""The hierarchy of Koné & Boulmane (2018), Figure 1, as data.

A root node separates carcinoma from non-carcinoma, and each answer leads to one specialist.
"""

from collections.abc import Collection
from dataclasses import dataclass

from datasets.labels import CLASSES, MALIGNANT


@dataclass(frozen=True)
class Node:
    """One two-class classifier of the tree."""

    name: str
    title: str  # the name that the paper prints
    classes: tuple[str, str]  # its two answers, in the order of its outputs
    labels: tuple[tuple[str, ...], tuple[str, ...]]  # for each answer, the data set labels that train it

    @property
    def targets(self) -> dict[str, int]:
        """Data set label -> index of this node's answer; other labels do not train it."""
        return {label: index for index, labels in enumerate(self.labels) for label in labels}


CARCI = Node(
    "carci",
    "Carci",
    ("noncarcinoma", "carcinoma"),
    (("normal", "benign"), ("insitu", "invasive", MALIGNANT)),
)
NORBE = Node("norbe", "NorBe", ("normal", "benign"), (("normal",), ("benign",)))
INVIS = Node("invis", "InvIs", ("insitu", "invasive"), (("insitu",), ("invasive",)))

NODES = {node.name: node for node in (CARCI, NORBE, INVIS)}

ROOT = CARCI
SPECIALISTS = (NORBE, INVIS)  # which follows each of the root's answers, in the order of CARCI.classes


def trainable(labels: Collection[str]) -> tuple[str, ...]:
    """Return the nodes that images of these labels can train: those both of whose answers they show."""
    return tuple(name for name, node in NODES.items() if all(set(own) & set(labels) for own in node.labels))


def classes_of(nodes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes that a system of these nodes answers: the four of the whole tree, or those of one node."""
    return NODES[nodes[0]].classes if len(nodes) == 1 else tuple(CLASSES)


def products(group, pairs) -> list:
    """Return each specialist's two classes' share of the whole, [..., 2]: its group's probability times its own.

    Takes the root's answer [..., 2] and node name -> answer [..., 2], as arrays of NumPy or tensors.
    """
    return [group[..., index, None] * pairs[node.name] for index, node in enumerate(SPECIALISTS)]


# Bounds of a member's weight in its node's average, and of what its logits, which are of the order of ten, are divided
# by: a value outside makes all answers alike, or NaN.
WEIGHTS = (1e-6, 1e6)
TEMPERATURES = (0.01, 100.0)

# How many views of an image can be averaged: its central square as it is; the eight symmetries of that square; and
# those of its left, central and right squares, which of an upright image are the top, central and bottom ones.
VIEWS = (1, 8, 24)
