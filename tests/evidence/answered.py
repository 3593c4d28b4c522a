"""Rows of predictions, made up: of a tree, and of one node."""

import hashlib

from bach_keras.evidence.predictions import Predictions, split_digest
from bach_keras.tree import NODES
from datasets.labels import CLASSES


def row(name, truth, carci=0.1, norbe=0.3, invis=0.6, **changes):
    """Return the row of a tree whose nodes give these probabilities of their second class."""
    pairs = {node: [1 - second, second] for node, second in (("carci", carci), ("norbe", norbe), ("invis", invis))}
    four = [pairs["carci"][group] * part for group, node in enumerate(("norbe", "invis")) for part in pairs[node]]
    return {
        **_named(name, truth), "label": CLASSES[four.index(max(four))], **dict(zip(CLASSES, four, strict=True)),
        **pairs, **_EMPTY, **changes,
    }  # fmt: skip


def node_row(name, truth, node="carci", second=0.1, **changes):
    """Return the row of a node alone that gives this probability of its second class."""
    pair = [1 - second, second]
    return {**_named(name, truth), "label": NODES[node].classes[pair.index(max(pair))], node: pair, **_EMPTY, **changes}


def rows():
    """Return the rows of four images of three patients, one of each class, of which the last is wrong."""
    return [
        row("a.tif", "normal", group="1"), row("b.tif", "benign", norbe=1 / 3 + 0.5, group="1"),
        row("c.tif", "insitu", carci=0.7, invis=0.2, group="2"), row("d.tif", "invasive", carci=0.9, invis=0.4),
    ]  # fmt: skip


def predictions(some, node=None):
    return Predictions(some, node, split_digest(some), "")


def _named(name, truth):
    return {"filename": name, "group": "", "digest": hashlib.sha256(ascii(name).encode()).hexdigest(), "truth": truth}


_EMPTY = {
    "unsure": None, "set": None, "set.0.8": None, "spread": None, "uncalibrated": None, "chosen": False,
    "normalised": None, "measured": None,
}  # fmt: skip
