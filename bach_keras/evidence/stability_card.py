"""How often a system keeps its answers when images change a little: stability.csv, and the figures that it comes to.

The file has a row of predictions.csv for each image as it is, and for each of its changes, after two columns that name
the change and its grade. All figures follow from it alone, without the model or TensorFlow.
"""

import hashlib
from pathlib import Path

import numpy as np

from bach_keras.evidence import predictions
from bach_keras.evidence.errors import SYSTEM, answer_of, is_right, judges
from bach_keras.evidence.intervals import accuracy_interval, accuracy_intervals, effective_n, groups_of
from bach_keras.evidence.predictions import COLUMNS, Predictions
from bach_keras.evidence.scoring import headline_of
from bach_keras.fields import NAME, TEXT, TEXTS, check, read_object, whole
from bach_keras.tree import NODES
from datasets.errors import MissingError, UserError
from datasets.perturbations import PERTURBATIONS

ANSWERS, CARD = "stability.csv", "stability.json"

UNCHANGED = ("unchanged", "")
# Name and grade of each change, in the order of ``datasets.perturbations.versions``.
CHANGES = [UNCHANGED, *((name, f"{grade:g}") for name, each in PERTURBATIONS.items() for grade in each.grades)]

# What the card says of where its answers come from, which these do not tell.
ORIGIN = {
    "views": whole(1), "image_size": whole(1), "config": NAME, "protocol": TEXT, "split": NAME, "split_notes": TEXTS,
    "members": TEXTS, "member_configs": TEXTS, "of": whole(1), "seed": whole(),
}  # fmt: skip

_COARSE = "The labels of these images are coarser than the four classes, so the accuracy over these was not measured."


def as_csv(answers: dict[tuple[str, str], list[dict]], model_digest: str) -> bytes:
    """Return the rows of each change as the content of stability.csv."""
    lines = [("change", "grade", *COLUMNS)]
    for change in CHANGES:
        lines += [[*change, *cells] for cells in predictions.cells_of(answers[change], model_digest)]
    return predictions.written(lines)


def parse(content: bytes, path) -> dict[tuple[str, str], Predictions]:
    """Return the answers for each change, checked; ``path`` is what messages call the file."""
    (_, heads), *lines = list(predictions.lines_of(content, path)) or [(1, [])]
    by_change = {}
    for line, cells in lines:
        by_change.setdefault(tuple(cells[:2]), [(1, heads[2:])]).append((line, cells[2:]))
    if heads != ["change", "grade", *COLUMNS] or list(by_change) != CHANGES:
        raise UserError(f"{path} does not hold the changes that this version makes: run `stability` again.")
    answers = {change: predictions.parse_lines(table, path) for change, table in by_change.items()}
    first = answers[UNCHANGED]
    for (name, grade), each in answers.items():
        same = (each.node, each.split_digest, each.model_digest) == (first.node, first.split_digest, first.model_digest)
        if not same:
            raise UserError(f"{path}: the answers for {name} {grade} are of other images, or of another system.")
    return answers


def read_card(folder: Path) -> dict:
    """Return what stability.json says; whether its figures are those of the answers is left to ``verify_result``."""
    for name in (CARD, ANSWERS):
        if not (folder / name).is_file():
            raise MissingError(f"{folder / name} is not there: name the folder that `stability --out` wrote.")
    try:
        card = read_object(folder / CARD)
        check(card, ORIGIN)
    except UserError as error:
        raise UserError(f"{folder / CARD} is not what `stability` writes ({error}): run it again.") from error
    return card


def read_answers(folder: Path) -> tuple[dict[tuple[str, str], Predictions], str]:
    """Return the answers of stability.csv, and the SHA-256 of the file."""
    content = predictions.read_content(folder / ANSWERS)
    return parse(content, folder / ANSWERS), digest(content)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def figures(answers: dict[tuple[str, str], Predictions]) -> dict:
    """Return what the card says of the answers.

    Returns:
        ``kind`` "stability"; ``n``, ``split_digest`` and ``model_digest`` as metrics.json has them; ``judges``:
        "system" and node -> ``n``, ``groups`` and ``effective_n`` of the images that it was asked about, ``accuracy_n``
        of those whose label it can be judged by, ``accuracy`` and ``accuracy_ci95`` of the images as they are, and
        ``changes``: name of a perturbation -> ``kept`` (the share that keeps its answer at every grade), ``kept_ci95``
        and ``grades``, for each its ``grade``, ``kept`` and ``accuracy`` with their ``*_ci95``. The accuracies over the
        four classes are None where the labels are too coarse, and ``why`` says so.
    """
    first = answers[UNCHANGED]
    names = [first.node] if first.node else [SYSTEM, *NODES]
    found = {name: _of_judge(name, [each.rows for each in answers.values()]) for name in names}
    return {
        "kind": "stability",
        "n": len(first.rows),
        "split_digest": first.split_digest,
        "model_digest": first.model_digest or None,
        "judges": {name: each for name, each in found.items() if each},
    }


def _of_judge(judge: str, versions: list[list[dict]]) -> dict | None:
    """Return the figures of the whole or of a node, from the rows of each change; None where no image is its own.

    The whole answers for all images. A node is asked about those that its two answers are about, as in every score:
    what norbe says of a carcinoma means nothing, and nor does whether it still says so.
    """
    asked = [index for index, row in enumerate(versions[0]) if judge == SYSTEM or judges(row, judge)]
    if not asked:
        return None
    versions = [[rows[index] for index in asked] for rows in versions]
    groups = [row["group"] for row in versions[0]]
    given = np.array(
        [[row["label"] if judge == SYSTEM else answer_of(row, judge) for row in rows] for rows in versions]
    )
    kept = given[1:] == given[0]
    accuracies = _accuracies(judge, versions)
    return {
        "n": len(asked),
        "groups": groups_of(groups),
        "effective_n": effective_n(groups),
        "accuracy_n": accuracies["n"],
        "accuracy": accuracies["shares"][0],
        "accuracy_ci95": accuracies["intervals"][0],
        "why": _why(accuracies["n"], sum(not group for group in groups)),
        "changes": _by_perturbation(kept, groups, accuracies),
    }


def _why(judged: int, unknown: int) -> dict:
    why = {} if judged else {"accuracy": _COARSE}
    if unknown:
        why["groups"] = f"The patients of {unknown} of the images are unknown, and each counts as one of its own."
    return why


def _accuracies(judge: str, versions: list[list[dict]]) -> dict:
    """Return the accuracy under each change, and its interval: of the images whose label tells what is right."""
    coarse = judge == SYSTEM and headline_of(versions[0]) != SYSTEM
    judged = [] if coarse else [index for index, row in enumerate(versions[0]) if judges(row, judge)]
    if not judged:
        return {"n": 0, "shares": [None] * len(versions), "intervals": [None] * len(versions)}
    right = np.array([[is_right(rows[index], judge) for index in judged] for rows in versions])
    groups = [versions[0][index]["group"] for index in judged]
    return {"n": len(judged), "shares": right.mean(axis=1).tolist(), "intervals": accuracy_intervals(right, groups)}


def _by_perturbation(kept: np.ndarray, groups, accuracies: dict) -> dict:
    shares, intervals, found = kept.mean(axis=1).tolist(), accuracy_intervals(kept, groups), {}
    place = 0
    for name, each in PERTURBATIONS.items():
        of_all = kept[place : place + len(each.grades)].all(axis=0)
        found[name] = {"kept": float(of_all.mean()), "kept_ci95": accuracy_interval(of_all, groups), "grades": []}
        for grade in each.grades:
            found[name]["grades"].append({
                "grade": grade, "kept": shares[place], "kept_ci95": intervals[place],
                "accuracy": accuracies["shares"][place + 1], "accuracy_ci95": accuracies["intervals"][place + 1],
            })  # fmt: skip
            place += 1
    return found
