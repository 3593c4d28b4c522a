"""95 % confidence intervals of accuracies that are true to the patients behind the images."""

import math

import numpy as np

# The normal quantile of a two-sided 95 % interval.
Z = 1.959963984540054


def codes(groups) -> np.ndarray:
    """Return int [N], the number of each image's group; an image of unknown group ("") is a group of its own."""
    names = [group or ("", index) for index, group in enumerate(groups)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], int)


def effective_n(groups) -> float:
    """Return the number of independent images that say as much (Kish 1965): N^2 / sum of squares of the groups' sizes.

    It is exact where the images of a group are alike in all that is measured, and N where each group is one image.
    """
    sizes = np.bincount(codes(groups))
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def wilson(share: float, n: float) -> list[float]:
    """Return the 95 % interval, [low, high] in 0..1, of a share of n images (Wilson 1927); n need not be whole."""
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return [max(0.0, middle - half), min(1.0, middle + half)]


def accuracy_interval(right, groups) -> list[float]:
    """Return the 95 % interval of an accuracy; ``right`` is bool [N]."""
    return wilson(float(np.mean(right)), effective_n(groups))


def balanced_interval(right, truth, groups) -> list[float]:
    """Return the 95 % interval of a balanced accuracy, the mean accuracy of the classes that occur in ``truth``."""
    right, truth = np.asarray(right), np.asarray(truth)
    recalls = [right[truth == label].mean() for label in np.unique(truth)]
    return wilson(float(np.mean(recalls)), effective_n(groups))
