"""95 % confidence intervals that are true to the patients behind the images."""

import math

import numpy as np
from scipy.special import stdtrit

from bach_keras.evidence.correlation import LEVEL, Design, codes

# The normal quantile of a two-sided 95 % interval.
Z = 1.959963984540054


def effective_n(groups) -> float:
    """Return how many independent images say as much (Kish 1965): N squared / the sum of the groups' squared sizes.

    It is exact where the images of a group are alike in all that is measured, and N where each group is one image.
    """
    sizes = np.bincount(codes(groups))
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def groups_of(groups) -> int:
    """Return the number of groups; an image of unknown group ("") counts as one."""
    return len(set(codes(groups).tolist()))


def accuracy_interval(right, groups) -> list[float]:
    """Return the 95 % interval of a share of images; ``right`` is bool [N]. One image a group: Wilson's (1927)."""
    return Design(groups).share_interval(np.asarray(right, bool)[None])[:, 0].tolist()


def balanced_interval(right, truth, groups) -> list[float]:
    """Return the 95 % interval of a balanced accuracy, the mean accuracy of the classes that occur in ``truth``."""
    return Design(groups, truth).share_interval(np.asarray(right, bool)[None])[:, 0].tolist()


def difference_interval(first, second, groups, truth=None) -> list[float]:
    """Return the 95 % interval of the first share minus the second; one image a group: Tango's (1998).

    Both are of the same images, ``first`` and ``second`` bool [N]. With ``truth`` they are balanced accuracies.
    """
    pair = [np.asarray(right, bool)[None] for right in (first, second)]
    return Design(groups, truth).difference_interval(*pair)[:, 0].tolist()


def jackknife_interval(statistic, groups, bounds=(-math.inf, math.inf)) -> list[float]:
    """Return a 95 % interval of any statistic, by leaving out one group after the other (t quantile, groups - 1).

    With few and unequal groups it is too narrow, see docs/evidence.md; prefer the intervals above where there is one.

    Args:
        statistic: takes int [n], the indices of the images to use, and returns a number.
        groups: N names, "" where unknown.
        bounds: the least and the most that the statistic can be; the interval of a single group.
    """
    group, n = codes(groups), len(groups)
    count = int(group.max()) + 1
    if count == 1:
        return list(map(float, bounds))
    found = statistic(np.arange(n))
    left_out = np.array([statistic(np.flatnonzero(group != number)) for number in range(count)])
    error = math.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum())
    half = stdtrit(count - 1, (1 + LEVEL) / 2) * error
    return [float(max(bounds[0], found - half)), float(min(bounds[1], found + half))]


def wilson(share: float, n: float) -> list[float]:
    """Return the 95 % interval, [low, high] in 0..1, of a share of n images (Wilson 1927); n need not be whole."""
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return [max(0.0, middle - half), min(1.0, middle + half)]
