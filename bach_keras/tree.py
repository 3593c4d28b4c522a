"""The hierarchy of Koné & Boulmane (2018), Figure 1, as data.

A root node tells carcinoma from non-carcinoma; each answer leads to one
specialist. Every other module reads the tree from here.
"""

from dataclasses import dataclass

from datasets.labels import CLASSES, MALIGNANT


@dataclass(frozen=True)
class Node:
    """One two-class classifier of the tree.

    Attributes:
        name: the name users type, e.g. ``norbe``.
        title: the name the paper prints, e.g. ``NorBe``.
        classes: its two answers, in the order of its outputs.
        labels: for each answer, the data set labels that train it.
    """

    name: str
    title: str
    classes: tuple[str, str]
    labels: tuple[tuple[str, ...], tuple[str, ...]]

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

# Which specialist follows each of the root's answers, in the order of CARCI.classes.
ROOT = CARCI
SPECIALISTS = (NORBE, INVIS)

# The least and the most of a member's say in its node's average, and of what its logits, of the order of ten, are
# divided by: what lies outside makes all answers alike, or none a number.
WEIGHTS = (1e-6, 1e6)
TEMPERATURES = (0.01, 100.0)


def get_node(name: str) -> Node:
    """Return a node by name.

    Raises:
        ValueError: no node has that name.
    """
    if name not in NODES:
        raise ValueError(f"There is no node {name!r}: choose one of {', '.join(NODES)}.")
    return NODES[name]


def path_to(label: str) -> tuple[tuple[Node, str], ...]:
    """Return the answers that lead from the root to one of the four classes.

    ``path_to("benign")`` is carci's "noncarcinoma", then norbe's "benign".

    Raises:
        ValueError: the label is not one of the four classes.
    """
    if label not in CLASSES:
        raise ValueError(f"{label!r} is not a leaf of the tree: choose one of {', '.join(CLASSES)}.")
    answer = CARCI.targets[label]
    specialist = SPECIALISTS[answer]
    return (CARCI, CARCI.classes[answer]), (specialist, label)
