"""What a file of predictions says about a system: every figure of metrics.json, from the rows alone."""

import numpy as np

from bach_keras.evidence import stains
from bach_keras.evidence.errors import SYSTEM, find_errors, is_right, judges
from bach_keras.evidence.intervals import accuracy_interval, effective_n, groups_of
from bach_keras.evidence.likeness import likeness
from bach_keras.evidence.metrics import in_words, scores
from bach_keras.evidence.predictions import SETS, Predictions
from bach_keras.evidence.ranges import outside
from bach_keras.fields import plain
from bach_keras.tree import NODES, ROOT, products
from datasets.errors import UserError
from datasets.labels import CLASSES

# Where the accuracy of the most confident share of the answers is taken.
SHARES = [number / 20 for number in range(1, 21)]

_OF_PROBABILITIES = ("log_loss", "brier", "calibration_error", "reliability")
_WHY = {
    "uncalibrated": "The file has no answers before calibration: nothing was calibrated, or the model keeps none.",
    "unsure": "Nothing was calibrated, so no answer is called unsure.",
    "sets": "Nothing was calibrated, so there are no prediction sets.",
    "warnings": "The system has no ranges of its training images: an export has, where they were on its disk, and runs "
    "have none.",
}


def score(
    predictions: Predictions,
    stain_normalisation: str = "none",
    bounds: dict | None = None,
    training: dict | None = None,
) -> dict:
    """Return what metrics.json says of a system's answers, but for where they come from.

    ``headline`` names what these images can judge: "system" for the four classes, or a node. Where the labels cannot
    tell the four classes apart, the figures of the four classes are None, and ``why`` says so. ``bounds`` are those of
    the ranges of the system's training images, if it has any, and ``training`` is what ``likeness.training_of`` says.
    """
    rows, node = predictions.rows, predictions.node
    nodes = {name: scores(*_of_node(rows, name)) for name in ([node] if node else NODES) if _own(rows, name)}
    headline = node or headline_of(rows)
    if node:
        result = {"kind": "node", "node": node, "headline": node, **nodes[node]}
    elif headline == SYSTEM:
        result = {"kind": "system", "headline": SYSTEM, **scores(*_of_system(rows))}
    else:
        result = {"kind": "system", "headline": headline, **_nothing(nodes[headline], headline)}
    more = {
        "nodes": nodes,
        "coverage": coverage(rows, headline),
        "errors": find_errors(rows, headline),
        "uncalibrated": _uncalibrated(rows, headline, nodes),
        "unsure": _unsure(rows, headline),
        "sets": _sets(rows, headline),
        "warnings": _warnings(rows, headline, bounds),
        "chosen_on": sum(bool(row["chosen"]) for row in rows),
        "split_digest": predictions.split_digest,
        "model_digest": predictions.model_digest or None,
    }
    reasons = (
        _WHY if headline == SYSTEM else {**_WHY, "sets": "They are of the four classes, which are not judged here."}
    )
    result["why"] = {**result["why"], **{name: why for name, why in reasons.items() if more[name] is None}}
    if stain_normalisation != "none":
        truths, normalised = [row["truth"] for row in rows], [row["normalised"] for row in rows]
        more["stains"] = stains.tally(stain_normalisation, truths, normalised)
    if bounds and training and (found := likeness(rows, bounds, training)):
        more["likeness"] = found
    return {**result, **more}


def headline_of(rows: list[dict]) -> str:
    """Return "system", unless the labels of some branch are too coarse for the four classes.

    BISQUE says "malignant" alone, so that of its images only the benign ones have one of the four classes: an accuracy
    of those alone would tell nothing of carcinomas.
    """
    return ROOT.name if is_too_coarse({row["truth"] for row in rows}) else SYSTEM


def is_too_coarse(labels: set[str]) -> bool:
    """Whether of one of the root's answers there are images, but none of one of the four classes."""
    return any(labels & set(group) and not labels & set(group) & set(CLASSES) for group in ROOT.labels)


def scores_of(result: dict) -> dict[str, dict]:
    """Return the scores of a metrics.json by name: of the system, if it is one, and of each node."""
    return {result["node"] if result.get("kind") == "node" else SYSTEM: result, **result.get("nodes", {})}


def headline(result: dict) -> tuple[str, dict]:
    """Return the name and the score of what a metrics.json puts first: the system, or the node that can be judged."""
    scores = scores_of(result)
    name = result.get("headline", next(iter(scores)))
    if name not in scores:
        raise UserError(f"The headline is {plain(str(name), 60)}, of which there is no score: evaluate again.")
    return name, scores[name]


def accuracy_in_words(result: dict) -> str:
    """Return what an evaluation comes to, such as ``four-class accuracy 0.950 (95 % interval ...)``."""
    name, score = headline(result)
    return f"{'four-class' if name == SYSTEM else name} accuracy {in_words(score)}"


def coverage(rows: list[dict], headline: str) -> list[dict]:
    """Return the accuracy where only the most confident answers are given, for several shares of them.

    The confidence is the probability of the answer. Of equally confident answers those that come first are taken.
    """
    own = _own(rows, headline)
    confidence = [max(row[name] for name in CLASSES) if headline == SYSTEM else max(row[headline]) for row in own]
    order = np.argsort(-np.array(confidence), kind="stable")
    right = np.array([is_right(row, headline) for row in own])[order]
    counts = sorted({max(1, round(share * len(own))) for share in SHARES})
    return [{"coverage": n / len(own), "accuracy": float(right[:n].mean()), "n": n} for n in counts]


def _own(rows: list[dict], judge: str) -> list[dict]:
    return [row for row in rows if judges(row, judge)]


def _of_system(rows: list[dict], answers=None) -> tuple:
    """Return the arguments of ``scores`` for the four classes."""
    own = _own(rows, SYSTEM)
    given = [[row[name] for name in CLASSES] for row in own] if answers is None else [answers(row) for row in own]
    return [CLASSES.index(row["truth"]) for row in own], given, CLASSES, [row["group"] for row in own]


def _of_node(rows: list[dict], node: str, answers=None) -> tuple:
    """Return the arguments of ``scores`` for the two answers of a node."""
    own, targets = _own(rows, node), NODES[node].targets
    given = [row[node] if answers is None else answers(row) for row in own]
    return [targets[row["truth"]] for row in own], given, NODES[node].classes, [row["group"] for row in own]


def _nothing(like: dict, headline: str) -> dict:
    """Return None for every metric of the four classes, and why; the counts are those of the headline's images."""
    why = (
        "These images are labelled more coarsely than the four classes, so an accuracy of the few that are not would "
        f"mislead: {headline} is what they can judge."
    )
    counts = {name: like[name] for name in ("n", "groups", "effective_n")}
    return {**dict.fromkeys(like), **counts, "why": {name: why for name in like if name not in ("why", *counts)}}


def _uncalibrated(rows: list[dict], headline: str, nodes: dict) -> dict | None:
    """Return how well the probabilities were calibrated before the temperatures."""
    if any(row["uncalibrated"] is None for row in rows):
        return None
    arguments = {name: _of_node(rows, name, lambda row, name=name: row["uncalibrated"][name]) for name in nodes}
    if headline == SYSTEM:
        arguments[SYSTEM] = _of_system(rows, _product)
    found = {name: scores(*given) for name, given in arguments.items()}
    return {name: {metric: score[metric] for metric in _OF_PROBABILITIES} for name, score in found.items()}


def _product(row: dict) -> list[float]:
    pairs = {name: np.array(pair) for name, pair in row["uncalibrated"].items()}
    return np.concatenate(products(pairs[ROOT.name], pairs)).tolist()


def _unsure(rows: list[dict], headline: str) -> dict | None:
    """Return how many of the answers are called unsure, and how many of the errors are among them."""
    own = _own(rows, headline)
    if any(row["unsure"] is None for row in own):
        return None
    unsure = np.array([row["unsure"] for row in own])
    right = np.array([is_right(row, headline) for row in own])
    sure = _accuracy([row for row in own if not row["unsure"]], headline)
    return {
        "n": len(own),
        "n_unsure": int(unsure.sum()),
        "share": float(unsure.mean()),
        "errors": int((~right).sum()),
        "errors_unsure": int((~right & unsure).sum()),
        "accuracy_of_sure": sure and sure["accuracy"],
        "sure": sure,
    }


def _sets(rows: list[dict], headline: str) -> dict | None:
    """Return how often the prediction set holds the true class, at each level, and how many classes it holds."""
    own = _own(rows, SYSTEM) if headline == SYSTEM else []
    found = {}
    for level, column in SETS.items():
        if own and all(row[column] is not None for row in own):
            covered = [row["truth"] in row[column] for row in own]
            found[level] = {
                "covered": float(np.mean(covered)),
                "n": len(own),
                "covered_ci95": accuracy_interval(covered, [row["group"] for row in own]),
                "mean_size": float(np.mean([len(row[column]) for row in own])),
            }
    return found or None


def _warnings(rows: list[dict], headline: str, bounds: dict | None) -> dict | None:
    """Return how many images have which warning, and the accuracy of those with and without one."""
    own = _own(rows, headline)
    if bounds is None or any(row["measured"] is None for row in own):
        return None
    found = [{each["name"] for each in outside(row["measured"], bounds)} for row in own]
    return {
        "ranges": {name: list(each) for name, each in bounds.items()},
        "images": {name: sum(name in names for names in found) for name in bounds},
        "with": _accuracy([row for row, names in zip(own, found, strict=True) if names], headline),
        "without": _accuracy([row for row, names in zip(own, found, strict=True) if not names], headline),
    }


def _accuracy(rows: list[dict], headline: str) -> dict | None:
    if not rows:
        return None
    right, groups = [is_right(row, headline) for row in rows], [row["group"] for row in rows]
    counts = {"n": len(rows), "groups": groups_of(groups), "effective_n": effective_n(groups)}
    return counts | {"accuracy": float(np.mean(right)), "accuracy_ci95": accuracy_interval(right, groups)}
