"""Do maps change when weights are randomised (Adebayo et al. 2018)? If not, they show edges and not what was learnt.

From the top down, each layer's kernels, biases and scales are shuffled among themselves, and stay so while the next are
(cascading). The map is for the class that the network answered before.
"""

import re

import numpy as np
import tensorflow as tf
from scipy.stats import spearmanr

from benchmarks.explained_node import ExplainedNode, for_class, laid

STAGES = ("head.dense2", "head.dense1", "layer4", "layer3", "layer2", "layer1", "conv1")


def cascade(node: ExplainedNode, squares, seeds) -> list[tuple[str, dict]]:
    """Return for each stage how alike the maps are to those before; first for maps of two images, ``other image``.

    Each has ``rank`` and ``absolute``, the mean of Spearman's correlation over the cells and of its size, and ``ssim``
    of the maps laid over the square. The network's weights are put back.
    """
    margins, signed = node.look(squares)
    before, answered, kept = signed["Grad-CAM"], margins > 0, node.model.get_weights()
    rows = {"other image": [_others(before, answered, squares.shape[1])]}
    for seed in seeds:
        draws = np.random.default_rng(seed)
        for stage in STAGES:
            for weight in node.model.trainable_variables:
                if re.search(rf"(^|/){re.escape(stage)}[./]", weight.path):
                    weight.assign(draws.permutation(weight.numpy().ravel()).reshape(weight.shape))
            after = node.look(squares)[1]["Grad-CAM"]
            rows.setdefault(stage, []).append(_alike(before, after, answered, squares.shape[1]))
        node.model.set_weights(kept)
    return [
        (name, {key: np.mean([each[key] for each in of_seeds]) for key in of_seeds[0]})
        for name, of_seeds in rows.items()
    ]


def _others(maps, answered, size) -> dict:
    """Compare each map with the next one of an image of the same answer."""
    found = [_alike(maps[rows], np.roll(maps[rows], 1, axis=0), answered[rows], size)
             for rows in (answered, ~answered) if rows.sum() > 1]  # fmt: skip
    return {key: np.mean([each[key] for each in found]) for key in found[0]}


def _alike(first, second, answered, size) -> dict:
    ranks = [_rank(one.ravel(), two.ravel()) for one, two in zip(first, second, strict=True)]
    pair = [np.stack([laid(found, size) for found in for_class(each, answered)]) for each in (first, second)]
    ssim = tf.image.ssim(*(tf.constant(each[..., None], tf.float32) for each in pair), max_val=1.0)
    return {"rank": np.mean(ranks), "absolute": np.mean(np.abs(ranks)), "ssim": float(np.mean(ssim))}


def _rank(first, second) -> float:
    """Return Spearman's correlation; 0 where one of them is the same everywhere."""
    return 0.0 if np.ptp(first) == 0 or np.ptp(second) == 0 else float(spearmanr(first, second).statistic)
