"""How well probabilities say what images show: scikit-learn's metrics, calibration errors, intervals by patient."""

import numpy as np

from bach_keras.evidence.intervals import accuracy_interval, balanced_interval, effective_n, groups_of
from bach_keras.wording import counted

# Of confidence, for the calibration error and the reliability diagram: equally wide, fixed before any answer is seen.
BINS = 10

# What ``scores`` returns, in this order.
KEYS = (
    "n", "groups", "effective_n", "accuracy", "accuracy_ci95", "balanced_accuracy", "balanced_accuracy_ci95",
    "sensitivity", "specificity", "f1", "auroc", "kappa", "log_loss", "brier", "calibration_error",
    "classwise_calibration_error", "reliability", "confusion_matrix", "absent", "why",
)  # fmt: skip


def scores(truth, probabilities, classes, groups) -> dict:
    """Return the metrics of a classifier's answers; docs/evidence.md says what each one is.

    Args:
        truth: int [N], the index of each image's true class.
        probabilities: float [N, K], each row sums to 1; the likeliest class is the answer, of equals the first.
        classes: the K names of the classes, at least two.
        groups: N names of the patient (of BISQUE: the microarray) that each image is from, "" where unknown.

    Returns:
        ``n``, ``groups``, ``effective_n``; ``accuracy`` and ``balanced_accuracy`` (over the classes that occur), each
        with its ``*_ci95``; ``sensitivity``, ``specificity`` and ``f1`` by class name; ``auroc`` (macro, one against
        the rest), ``kappa`` (quadratic), ``log_loss``, ``brier``, ``calibration_error``,
        ``classwise_calibration_error``, ``reliability`` (a dict for each bin with images), ``confusion_matrix`` (a row
        for each true class), ``absent`` (the classes without an image). What cannot be had is None, and ``why`` says
        the reason: {metric: sentence}. It also says under ``groups`` how many images are of unknown patients.
    """
    truth, given = np.asarray(truth, int), np.asarray(probabilities, float)
    _check(truth, given, classes, groups)
    answer = given.argmax(axis=1)
    # Rows in float32 sum to 1 within rounding only, which scikit-learn would warn of.
    shares = given / given.sum(axis=1, keepdims=True)
    found = {"n": len(truth), "groups": groups_of(groups), "effective_n": effective_n(groups)}
    found |= _of_answers(truth, answer, classes, groups)
    found |= _of_probabilities(truth, shares)
    found["calibration_error"], found["reliability"] = _calibration(shares.max(axis=1), truth == answer)
    by_class = [_calibration(share, truth == index)[0] for index, share in enumerate(shares.T)]
    found["classwise_calibration_error"] = float(np.mean(by_class))
    found["absent"] = [name for index, name in enumerate(classes) if index not in truth]
    found["why"] = _why(found, sum(not group for group in groups))
    return {key: found[key] for key in KEYS}


def in_words(score: dict) -> str:
    """Return an accuracy in words, with the images and patients behind it.

    Such as ``0.950 (95 % interval 0.889 to 0.978, n = 100 images of 24 patients, effective n 8.1)``.
    """
    low, high = score["accuracy_ci95"]
    return f"{score['accuracy']:.3f} (95 % interval {low:.3f} to {high:.3f}, n = {behind(score)})"


def both_in_words(score: dict) -> str:
    """Return what ``in_words`` does and the balanced accuracy, which a frequent class cannot flatter."""
    low, high = score["balanced_accuracy_ci95"]
    return f"{in_words(score)}, balanced {score['balanced_accuracy']:.3f} (95 % interval {low:.3f} to {high:.3f})"


def behind(score: dict) -> str:
    """Return how many images are behind a score, such as ``100 images of 24 patients, effective n 8.1``."""
    # Older files do not say of how many patients the images are.
    n, groups = score["n"], score.get("groups", score["n"])
    images = counted(n, "image")
    some_unknown = "groups" in score.get("why", {"groups": ""})
    if groups == n and some_unknown:
        return f"{images}, patients unknown"
    # Images of unknown patients may share them, so both are counted too high.
    most = "at most " if "why" in score and some_unknown else ""
    return f"{images} of {most}{counted(groups, 'patient')}, effective n {most}{score['effective_n']:.1f}"


def _check(truth, given, classes, groups) -> None:
    if not len(truth):
        raise ValueError("There is no image to score.")
    if given.shape != (len(truth), len(classes)) or len(groups) != len(truth) or len(classes) < 2:
        raise ValueError(
            f"Of {len(truth)} images there are {len(groups)} groups and probabilities {given.shape} of {len(classes)} "
            "classes."
        )
    if not (truth.min() >= 0 and truth.max() < len(classes)):
        raise ValueError(f"A true class is not one of the {len(classes)}.")
    if not (np.isfinite(given).all() and (given >= 0).all() and (abs(given.sum(axis=1) - 1) < 1e-2).all()):
        raise ValueError("Not every row holds probabilities that sum to 1.")


def _of_answers(truth, answer, classes, groups) -> dict:
    """Return what follows from the answers without their probabilities."""
    from sklearn import metrics  # takes two seconds, and a model card needs only words

    right, labels = truth == answer, range(len(classes))
    tables = metrics.multilabel_confusion_matrix(truth, answer, labels=labels)
    occurs = np.isin(labels, truth)
    sensitivity = metrics.recall_score(truth, answer, labels=labels, average=None, zero_division=np.nan)
    f1 = metrics.f1_score(truth, answer, labels=labels, average=None, zero_division=np.nan)
    specificity = [tn / (tn + fp) if tn + fp else None for (tn, fp), _ in tables.tolist()]
    # One class on both sides: agreement by chance is complete, and nothing is left to measure beyond it.
    one_class = len({*truth.tolist(), *answer.tolist()}) == 1
    return {
        "accuracy": float(right.mean()),
        "accuracy_ci95": accuracy_interval(right, groups),
        "balanced_accuracy": float(sensitivity[occurs].mean()),
        "balanced_accuracy_ci95": balanced_interval(right, truth, groups),
        "sensitivity": _named(classes, sensitivity, occurs),
        "specificity": dict(zip(classes, specificity, strict=True)),
        "f1": _named(classes, f1, occurs),
        "kappa": None
        if one_class
        else float(metrics.cohen_kappa_score(truth, answer, labels=labels, weights="quadratic")),
        "confusion_matrix": metrics.confusion_matrix(truth, answer, labels=labels).tolist(),
    }


def _named(classes, values, occurs) -> dict:
    return {name: float(value) if there else None for name, value, there in zip(classes, values, occurs, strict=True)}


def _of_probabilities(truth, shares) -> dict:
    from sklearn import metrics

    labels = list(range(shares.shape[1]))
    auroc = None
    if np.isin(labels, truth).all():
        own = {"y_score": shares[:, 1]} if len(labels) == 2 else {"y_score": shares, "multi_class": "ovr"}
        auroc = float(metrics.roc_auc_score(truth, **own))
    return {
        "auroc": auroc,
        # A probability of 0 counts as the least step of float64, 2.2e-16: one image so wrong costs 36.
        "log_loss": float(metrics.log_loss(truth, shares, labels=labels)),
        "brier": float(metrics.brier_score_loss(truth, shares, labels=labels)),
    }


def _calibration(confidence, right) -> tuple[float, list[dict]]:
    """Return the mean gap of confidence and frequency over bins, weighted by their images, and the bins that have any.

    Args:
        confidence: float [N], the probability of a statement.
        right: bool [N], whether it is true.
    """
    edges = np.arange(BINS + 1) / BINS
    bins = np.searchsorted(edges[1:-1], confidence, side="right")  # each bin has its lower edge; the last has both
    gap, reliability = 0.0, []
    for number in range(BINS):
        inside = bins == number
        if n := int(inside.sum()):
            mean, share = float(confidence[inside].mean()), float(right[inside].mean())
            gap += n / len(right) * abs(mean - share)
            reliability.append({
                "low": float(edges[number]), "high": float(edges[number + 1]), "n": n, "confidence": mean,
                "accuracy": share,
            })  # fmt: skip
    return gap, reliability


def _why(found: dict, unknown: int) -> dict:
    """Return a sentence for each metric that is None, wholly or for a class."""
    absent = " and ".join(found["absent"])
    one = next((name for name, value in found["specificity"].items() if value is None), "")
    why = {}
    if absent:
        why["sensitivity"] = f"No image is of class {absent}, so how many of it are found cannot be said."
        why["f1"] = f"No image is of class {absent}, so there is no F1 of it."
        why["auroc"] = f"No image is of class {absent}, so it cannot be ranked against the rest."
    if one:
        why["specificity"] = f"All images are of class {one}, so how many others are kept out of it cannot be said."
    if found["kappa"] is None:
        why["kappa"] = "Truth and answers are all of one class, so there is no agreement beyond chance to measure."
    if unknown:
        why["groups"] = f"The patients of {unknown} of the images are unknown, and each counts as one of its own."
    return why
