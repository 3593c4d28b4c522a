"""Accuracies with their confidence intervals."""

import math

import numpy as np

# The normal quantile of a two-sided 95 % interval.
Z = 1.959963984540054


def wilson(right: int, n: int) -> list[float]:
    """Return the 95 % interval, [low, high] in 0..1, of a share (Wilson 1927); it holds at 0 of n and n of n too."""
    share = right / n
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return [max(0.0, middle - half), min(1.0, middle + half)]


def confusion(truth, answer, classes: int) -> np.ndarray:
    """Return the confusion matrix, int [classes, classes], a row for each true class."""
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (np.asarray(truth, int), np.asarray(answer, int)), 1)
    return matrix


def scores(matrix: np.ndarray) -> dict:
    """Return ``n``, ``accuracy`` and ``balanced_accuracy`` of a confusion matrix, and ``*_ci95`` of both accuracies.

    The balanced accuracy is the mean recall of the classes that occur; its interval
    joins their Wilson intervals (the square-and-add method of Zou & Donner 2008).
    """
    n = int(matrix.sum())
    if not n:
        raise ValueError("There is no image to score.")
    right = np.diag(matrix)
    counts = matrix.sum(axis=1)
    occurring = [(int(r), int(c)) for r, c in zip(right, counts, strict=True) if c]
    recalls = [r / c for r, c in occurring]
    intervals = [wilson(r, c) for r, c in occurring]
    balanced = sum(recalls) / len(recalls)
    below, above = (
        math.hypot(*(recall - interval[side] for recall, interval in zip(recalls, intervals, strict=True)))
        / len(recalls)
        for side in (0, 1)
    )
    return {
        "n": n,
        "accuracy": int(right.sum()) / n,
        "accuracy_ci95": wilson(int(right.sum()), n),
        "balanced_accuracy": balanced,
        "balanced_accuracy_ci95": [max(0.0, balanced - below), min(1.0, balanced + above)],
    }


def in_words(score: dict) -> str:
    """Return an accuracy in words: ``0.950 (95 % interval 0.889 to 0.978, n = 100)``."""
    low, high = score["accuracy_ci95"]
    return f"{score['accuracy']:.3f} (95 % interval {low:.3f} to {high:.3f}, n = {score['n']})"
