"""Does the map lie on the structure that makes the class? The painter of the phantoms knows where it drew it.

The pointing game (Zhang et al. 2018): a hit is a map whose maximum, a pixel of the square, lies in the structure, with
no tolerance. The energy is the share of the map's sum that lies in it. Chance is the same of the same map with the
structures of the other images of the label, so that a map which only prefers the middle gains nothing. Where the
structure covers most of the image, as benign glands do, chance is near 1 and little can be shown.

The grid (Bohle et al. 2021) has no such bound: a quarter of the square shows tissue of one answer, three quarters that
of the other, each of a patient of its own; the map of the one answer should lie in its quarter. Each quarter has its
turn, so chance is 1/4 for whatever map knows nothing of the tissue.
"""

import numpy as np

from benchmarks.explained_node import ExplainedNode, Sample, for_class, laid


def on_structure(node: ExplainedNode, images: list[Sample]) -> dict[str, dict]:
    """Return method -> arrays [N]: ``hit``, ``hit_chance``, ``energy``, ``energy_chance``."""
    margins, signed = node.look(np.stack([image.square for image in images]))
    return {
        name: _scored([laid(found, len(images[0].square)) for found in for_class(each, margins > 0)], images)
        for name, each in signed.items()
    }


def _scored(maps, images) -> dict[str, np.ndarray]:
    rows = []
    for index, found in enumerate(maps):
        peers = [each.structure for number, each in enumerate(images)
                 if each.label == images[index].label and number != index]  # fmt: skip
        own, chance = _inside(found, images[index].structure), [_inside(found, peer) for peer in peers]
        rows.append((*own, *np.mean(chance, axis=0)))
    return dict(zip(("hit", "energy", "hit_chance", "energy_chance"), np.array(rows).T, strict=True))


def _inside(found, structure) -> tuple[float, float]:
    hit = structure[np.unravel_index(found.argmax(), found.shape)]
    return float(hit), float((found * structure).sum() / max(found.sum(), 1e-9))


def grid(node: ExplainedNode, images: list[Sample]) -> dict[str, dict]:
    """Return method -> arrays [M]: ``hit`` and ``energy``, by each image's turn to be the one quarter."""
    truth = np.array([node.node.targets[image.label] for image in images])
    mosaics, wanted = [], []
    for index, image in enumerate(images):
        others = [images[number] for number in np.flatnonzero(truth != truth[index])]
        chosen = [others[(index + step) % len(others)] for step in range(3)]
        place = (index // 2) % 4  # the labels alternate, so each has each place
        mosaics.append(_mosaic([*chosen[:place], image, *chosen[place:]]))
        wanted.append(place)
    _, signed = node.look(np.stack(mosaics))
    return {name: _in_quarters(for_class(each, truth), wanted, mosaics[0].shape[0]) for name, each in signed.items()}


def _mosaic(four) -> np.ndarray:
    """Return a square of four squares' central quarters."""
    size = len(four[0].square)
    half, first = size // 2, size // 4
    parts = [each.square[first : first + half, first : first + half] for each in four]
    return np.concatenate([np.concatenate(parts[:2], axis=1), np.concatenate(parts[2:], axis=1)])


def _in_quarters(maps, wanted, size) -> dict[str, np.ndarray]:
    rows = []
    for found, place in zip(maps, wanted, strict=True):
        quarter = np.zeros((size, size), bool)
        down, across = divmod(place, 2)
        quarter[down * size // 2 :, across * size // 2 :][: size // 2, : size // 2] = True
        rows.append(_inside(laid(found, size), quarter))
    return dict(zip(("hit", "energy"), np.array(rows).T, strict=True))
