"""Answered slides, made up: rows as ``answer_batch`` returns them, on a grid."""

import numpy as np

from bach_keras.serving.slide.tiles import AnsweredSlide, AnsweredTile, Tile
from bach_keras.tree import NODES, ROOT, SPECIALISTS
from datasets.images.scale import Scale
from datasets.labels import CLASSES

SIDE = 100


def row(label="normal", sure=0.9, unsure=None, routed=False):
    """Return the row of a tree whose nodes are so sure of what leads to a label."""
    nodes = {}
    for name, node in NODES.items():
        chosen = node.targets.get(label, 0)
        nodes[name] = {each: sure if place == chosen else 1 - sure for place, each in enumerate(node.classes)}
    groups = list(nodes[ROOT.name].values())
    if routed:
        lost = SPECIALISTS[1 - ROOT.targets[label]].name
        groups = [1.0, 0.0] if ROOT.targets[label] == 0 else [0.0, 1.0]
    shares = {
        name: group * share
        for group, node in zip(groups, SPECIALISTS, strict=True)
        for name, share in nodes[node.name].items()
    }
    if routed:
        nodes[lost] = None
    found = None if unsure is None else [label, *(name for name in CLASSES if unsure and name != label)]
    return {
        "label": label, "probabilities": shares, "nodes": nodes, "unsure": unsure, "set": found, "spread": None,
    }  # fmt: skip


def node_row(label="noncarcinoma", node="carci", sure=0.9):
    """Return the row of one node."""
    pair = {name: sure if name == label else 1 - sure for name in NODES[node].classes}
    nodes = {name: pair if name == node else None for name in NODES}
    return {"label": label, "probabilities": pair, "nodes": nodes, "unsure": None, "set": None, "spread": None}


def tile(x, y, answer, tissue=1.0, side=SIDE):
    """Return a tile whose top left corner is there; ``answer`` is a label, a row, or None for an error."""
    if answer is None:
        answer = {"error": "The tile is damaged."}
    return AnsweredTile(Tile(x, y, side, side, tissue), row(answer) if isinstance(answer, str) else answer)


def slide(tiles, width=400, height=200, **changes):
    """Return a slide of these tiles, 1 um a pixel; its thumbnail is pink."""
    given = {
        "name": "slide.tiff", "width": width, "height": height, "scale": Scale(1.0, "OME-XML PhysicalSizeX"),
        "field": float(SIDE), "step": SIDE,
        "thumbnail": np.full((max(1, height // 4), max(1, width // 4), 3), (235, 190, 215), np.uint8),
    } | changes  # fmt: skip
    return AnsweredSlide(tiles=tuple(tiles), **given)


def stripes(width=400, height=200, unsure=None, **changes):
    """Return a slide of tiles side by side, whose columns have the classes one after the other."""
    places = [(x, y) for y in range(0, height, SIDE) for x in range(0, width, SIDE)]
    tiles = [tile(x, y, row(CLASSES[x // SIDE % 4], unsure=unsure)) for x, y in places]
    return slide(tiles, width, height, **changes)
