"""95 % confidence intervals that are true to the patients behind the images."""

import numpy as np

from bach_keras.evidence.correlation import Design, codes


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


def accuracy_intervals(right, groups) -> list[list[float]]:
    """Return the 95 % intervals of D shares of the same images; ``right`` is bool [D, N]."""
    return Design(groups).share_interval(right).T.tolist()


def balanced_interval(right, truth, groups) -> list[float]:
    """Return the 95 % interval of a balanced accuracy, the mean accuracy of the classes that occur in ``truth``."""
    return Design(groups, truth).share_interval(np.asarray(right, bool)[None])[:, 0].tolist()


def difference_interval(first, second, groups, truth=None) -> list[float]:
    """Return the 95 % interval of the first share minus the second; one image a group: Tango's (1998).

    Both are of the same images, ``first`` and ``second`` bool [N]. With ``truth`` they are balanced accuracies.
    """
    pair = [np.asarray(right, bool)[None] for right in (first, second)]
    return Design(groups, truth).difference_interval(*pair)[:, 0].tolist()
