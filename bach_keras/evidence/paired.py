"""Two systems compared on the same images: the differences of their accuracies, with intervals by patient."""

import numpy as np

from bach_keras.evidence.intervals import (
    accuracy_interval,
    balanced_interval,
    difference_interval,
    effective_n,
    groups_of,
)
from bach_keras.fields import shown
from datasets.errors import UserError

MCNEMAR_NOTE = "McNemar's test takes the images as independent, which those of one patient are not: trust the interval."


def paired(first: list[dict], second: list[dict]) -> dict:
    """Compare two systems by their rows of one set of images, in any order; the differences are first minus second.

    Args:
        first: a dict for each image, with ``filename``, ``group``, ``digest``, ``truth`` and ``label``; the answer is
            right where the last two are equal.
        second: the same of the other system.

    Returns:
        ``n``, ``groups``, ``effective_n``; ``first`` and ``second``, each ``accuracy`` and ``balanced_accuracy`` with
        their ``*_ci95``; ``difference`` and ``balanced_difference`` with theirs; ``both_right``, ``first_only``,
        ``second_only``, ``both_wrong``; ``mcnemar_p`` (exact, two-sided) and ``mcnemar_note``.

    Raises:
        UserError: there is no image, or they are not the same images with the same truths and patients.
    """
    second = _same_images(first, second)
    truth = np.array([row["truth"] for row in first])
    groups = [row["group"] for row in first]
    rights = [np.array([row["label"] == row["truth"] for row in rows]) for rows in (first, second)]
    one, other = rights
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    return {
        "n": len(first),
        "groups": groups_of(groups),
        "effective_n": effective_n(groups),
        "first": _of_one(one, truth, groups),
        "second": _of_one(other, truth, groups),
        "difference": float(one.mean() - other.mean()),
        "difference_ci95": difference_interval(one, other, groups),
        "balanced_difference": _balanced(one, truth) - _balanced(other, truth),
        "balanced_difference_ci95": difference_interval(one, other, groups, truth),
        "both_right": int((one & other).sum()),
        "first_only": only_first,
        "second_only": only_second,
        "both_wrong": int((~one & ~other).sum()),
        "mcnemar_p": _mcnemar(only_first, only_second),
        "mcnemar_note": MCNEMAR_NOTE,
    }


def _of_one(right, truth, groups) -> dict:
    return {
        "accuracy": float(right.mean()),
        "accuracy_ci95": accuracy_interval(right, groups),
        "balanced_accuracy": _balanced(right, truth),
        "balanced_accuracy_ci95": balanced_interval(right, truth, groups),
    }


def _balanced(right, truth) -> float:
    return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))


def _mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact p-value that what only one system answers right falls on either side alike (McNemar 1947)."""
    from scipy.stats import binomtest  # takes a second

    changed = only_first + only_second
    return float(binomtest(only_first, changed).pvalue) if changed else 1.0


def _same_images(first, second) -> list[dict]:
    """Return the rows of the second in the order of the first; refuses other images, truths or patients."""
    if not first and not second:
        raise UserError("There is no image in either, so there is nothing to compare.")
    named = []
    for which, rows in (("first", first), ("second", second)):
        by_name = {row["filename"]: row for row in rows}
        if len(by_name) < len(rows):
            names = [row["filename"] for row in rows]
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"The {which} names {shown(twice)} more than once: evaluate again.")
        named.append(by_name)
    one, other = named
    for which, missing in (("first", one.keys() - other.keys()), ("second", other.keys() - one.keys())):
        if missing:
            raise UserError(
                f"Only the {which} has {_some(missing)}: evaluate both on the same --config, --protocol and --split."
            )
    for field, words in (("digest", "the pixels"), ("truth", "the true class"), ("group", "the patient")):
        differ = {name for name in one if one[name][field] != other[name][field]}
        if differ:
            raise UserError(
                f"The two disagree on {words} of {_some(differ)}: evaluate both on the same prepared images."
            )
    return [other[row["filename"]] for row in first]


def _some(names) -> str:
    """Return a few of the names, such as ``'a.tif', 'b.tif' and 7 more images``."""
    listed = ", ".join(map(shown, sorted(names)[:3]))
    more = len(names) - 3
    return listed if more <= 0 else f"{listed} and {more} more image{'' if more == 1 else 's'}"
