"""Deletion and insertion (Petsiuk et al. 2018): does the answer go with the places that the map names?

Pixels are replaced in the order of the map, largest first, and the probability of the class that was answered is read
after each tenth. The area under that curve is small where the map names what the answer rests on (deletion). With the
smallest first it is large: read backwards, that is the insertion curve, from nothing to the largest tenth and so on.

They are compared with cells of the map in random order (as regions are in Samek et al. 2017): places of the same form
and size elsewhere. Single pixels in random order are no fair peer, as they turn an image into noise. ``centre
first`` asks whether the map knows more than that the middle of a square counts most.

What replaces a pixel decides what can be seen. A square of one colour, or a blurred one, is itself answered, and where
it has the class of the image nothing can be lost: ``lossy`` says which images can lose. Tissue of the other answer, at
the same place of another phantom, has no such favourite.
"""

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.explained_node import ExplainedNode, Sample, for_class, laid

SHARES = np.linspace(0, 1, 11)
RANDOM = 3
# An image can lose its answer where its probability falls by at least so much when everything is replaced.
LOSS = 0.5


def areas(node: ExplainedNode, images: list[Sample], seed: int) -> dict:
    """Return (filler, order) -> areas, float [N]; (filler, "lossy") -> bool [N]; "answered" -> int [N].

    The orders are "map", "map, smallest first", "HiResCAM", "cells at random" (the mean of ``RANDOM``), "centre first".
    """
    draws, squares = np.random.default_rng(seed), np.stack([image.square for image in images])
    margins, signed = node.look(squares)
    answered = (margins > 0).astype(int)
    maps = {name: for_class(each, answered) for name, each in signed.items()}
    found = {"answered": answered}
    for index, image in enumerate(images):
        others = [other for other, its in zip(images, answered, strict=True) if its != answered[index]]
        order = _orders({name: each[index] for name, each in maps.items()}, len(image.square), draws)
        # A node that gives all images one answer has no tissue of the other.
        other = others[index % len(others)].square if others else None
        for filler, filled in _fillers(image.square, other).items():
            for name, value in _of_image(node, image.square, filled, order, 2 * answered[index] - 1).items():
                found.setdefault((filler, name), []).append(value)
    return {name: np.array(each) for name, each in found.items()}


def _of_image(node, square, filled, orders, sign) -> dict:
    curves = [_removed(square, filled, order) for each in orders.values() for order in each]
    margins = sign * node.margins(np.concatenate([[square, filled], *curves]))
    given = 1 / (1 + np.exp(-margins))
    first, last, inner = given[0], given[1], iter(given[2:].reshape(len(curves), -1))
    found = {"lossy": first - last >= LOSS}
    for name, each in orders.items():
        whole = [np.concatenate([[first], next(inner), [last]]) for _ in each]
        found[name] = float(np.trapezoid(np.mean(whole, axis=0), SHARES))
    return found


def _orders(maps, size, draws) -> dict[str, list[np.ndarray]]:
    """Return name -> orders, float [size, size]: the larger, the earlier a pixel is replaced."""
    shape = maps["Grad-CAM"].shape
    # Where a map is 0 the cells come in random order.
    broken = {name: laid(each + 1e-6 * draws.random(shape), size) for name, each in maps.items()}
    away = np.arange(size) - (size - 1) / 2
    return {
        "map": [broken["Grad-CAM"]],
        "map, smallest first": [-broken["Grad-CAM"]],
        "HiResCAM": [broken["HiResCAM"]],
        "cells at random": [laid(draws.random(shape), size) for _ in range(RANDOM)],
        "centre first": [-np.hypot(away[:, None], away)],
    }


def _fillers(square, other) -> dict[str, np.ndarray]:
    mean = np.broadcast_to(square.mean(axis=(0, 1)).round().astype(np.uint8), square.shape)
    blurred = np.asarray(Image.fromarray(square).filter(ImageFilter.GaussianBlur(len(square) / 12)))
    return ({} if other is None else {"other tissue": other}) | {"mean colour": mean, "blur": blurred}


def _removed(square, filled, order) -> list[np.ndarray]:
    """Return the square with growing shares of it replaced, without the first (nothing) and the last (everything)."""
    ranked, made = np.argsort(-order, axis=None, kind="stable"), []
    for share in SHARES[1:-1]:
        flat, gone = square.reshape(-1, 3).copy(), ranked[: round(share * len(ranked))]
        flat[gone] = filled.reshape(-1, 3)[gone]
        made.append(flat.reshape(square.shape))
    return made


def ratio(first, second, seed: int = 0) -> tuple[float, float, float]:
    """Return the ratio of two means over the same patients [N], with a 95 % interval by the bootstrap over patients."""
    rows = np.random.default_rng(seed).integers(len(first), size=(2000, len(first)))
    with np.errstate(divide="ignore", invalid="ignore"):  # of few patients, chance can be 0 in all that were drawn
        drawn = first[rows].mean(axis=1) / second[rows].mean(axis=1)
    low, high = np.nanpercentile(drawn, [2.5, 97.5], method="nearest")
    return float(first.mean() / second.mean()), float(low), float(high)
