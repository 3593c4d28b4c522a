"""Fewer tiles by a look at low magnification: four are answered as one where carci is sure of it.

A square of twice the field of view, seen on as many pixels, stands for the tiles in it. Where carci is unsure of the
square, its tiles are asked one by one. The model was trained at one magnification, so what this changes is measured:
of the squares that carci was sure of, some, drawn at random, are asked tile by tile as well.
"""

import numpy as np

from bach_keras.evidence.intervals import accuracy_interval
from bach_keras.serving.slide.answers import Asker
from bach_keras.serving.slide.grid import starts
from bach_keras.tree import ROOT

# Carci is sure of a square from this probability of one of its two answers on.
SURE = 0.9
# Of the squares that it is sure of, one in ten is asked tile by tile, or ten where these are more, but never more than
# one in four, as each of them costs what another saves.
_ONE_IN, _AT_LEAST, _AT_MOST_ONE_IN = 10, 10, 4


def ask_quickly(asker: Asker, corners: list[tuple[int, int]], side: int, step: int, size: tuple[int, int]):
    """Answer for tiles, of as many as possible by a look at low magnification.

    Args:
        corners: the tiles' top left corners.
        side: of a tile in pixels.
        step: pixels from a tile to the next.
        size: the slide's width and height.

    Returns:
        The rows of the tiles, each with ``quick``: whether its answer is that of the square around it; and what
        ``summary.json`` says of it.
    """
    squares, alone = _squares(corners, side, step, size)
    found = dict(zip(squares, asker.rows("at low magnification", list(squares), side + step), strict=True))
    sure = [square for square, row in found.items() if "error" not in row and _is_sure(row)]
    checked = _drawn(sure)
    by_square = {corner: square for square in sure if square not in checked for corner in squares[square]}
    wanted = [corner for corner in corners if corner not in by_square]
    asked = dict(zip(wanted, asker.rows("tiles", wanted, side), strict=True))
    rows = [
        found[by_square[corner]] | {"quick": True} if corner in by_square else asked[corner] | {"quick": False}
        for corner in corners
    ]
    unsure = set(squares) - set(sure)
    report = {
        "sure_from": SURE,
        "squares": len(squares),
        "squares_sure": len(sure),
        "tiles": len(corners),
        "tiles_asked_alone": len(wanted),
        "tiles_saved": len(corners) - len(wanted) - len(squares),
        "tiles_in_no_square": len(alone),
        "checked": _changes(checked, squares, found, asked),
        "refined": _changes(unsure, squares, found, asked),
    }
    return rows, report


def _squares(corners, side, step, size) -> tuple[dict, list]:
    """Return each square's top left corner -> those of the tiles in it, and the tiles that no square fits around."""
    wide = side + step
    if min(size) < wide:
        return {}, list(corners)
    # Of each axis, tile -> where the square of it and its neighbour begins; at the end of the slide it is moved inward.
    of_tile = []
    for length in size:
        every = starts(length, side, step)
        of_tile.append({start: min(every[index // 2 * 2], length - wide) for index, start in enumerate(every)})
    groups = {}
    for corner in corners:
        groups.setdefault((of_tile[0][corner[0]], of_tile[1][corner[1]]), []).append(corner)
    # A square for one tile saves nothing.
    squares = {square: tiles for square, tiles in groups.items() if len(tiles) > 1}
    return squares, [tiles[0] for tiles in groups.values() if len(tiles) == 1]


def _is_sure(row) -> bool:
    return max(row["nodes"][ROOT.name].values()) >= SURE


def _drawn(sure: list) -> set:
    """Draw the squares that are checked; the same of the same squares."""
    count = min(len(sure) // _AT_MOST_ONE_IN, max(_AT_LEAST, len(sure) // _ONE_IN))
    return {sure[index] for index in np.random.default_rng(0).permutation(len(sure))[:count]}


def _changes(chosen, squares, found, asked) -> dict:
    """Compare the tiles of some squares, asked one by one, with what the squares had said of them."""
    pairs = [
        (f"{square}", found[square]["label"] != asked[corner]["label"])
        for square in sorted(chosen)
        if "error" not in found[square]
        for corner in squares[square]
        if "error" not in asked[corner]
    ]
    report = {"squares": len(chosen), "tiles": len(pairs), "labels_changed": sum(changed for _, changed in pairs)}
    if not pairs:
        return report
    # The tiles of a square share the answer that theirs are compared with.
    groups, changed = zip(*pairs, strict=True)
    return report | {"share": report["labels_changed"] / len(pairs), "ci95": accuracy_interval(changed, groups)}


def in_words(report: dict) -> str:
    """Return a sentence on what a quick look saved, and what it is known to have changed."""
    saved, checked = report["tiles_saved"], report["checked"]
    words = f"--quick asked {abs(saved)} {'fewer' if saved >= 0 else 'more'} times than there are tiles"
    if not checked["tiles"]:
        return f"{words}; too few were left out to check what it changes"
    low, high = checked["ci95"]
    return (
        f"{words}; of {checked['tiles']} tiles like those left out, {checked['labels_changed']} have another label "
        f"when asked alone ({checked['share']:.1%}, 95 % interval {low:.1%} to {high:.1%})"
    )
