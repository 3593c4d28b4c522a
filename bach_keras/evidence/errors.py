"""Wrong answers as paths through the tree: at which node each left the right branch, and how sure the node was."""

from collections import Counter

from bach_keras.tree import NODES, ROOT, SPECIALISTS
from datasets.labels import CLASSES

SYSTEM = "system"


def judges(row: dict, judge: str) -> bool:
    """Say whether the four classes ("system"), or a node, can judge an image by its label."""
    return row["truth"] in (CLASSES if judge == SYSTEM else NODES[judge].targets)


def is_right(row: dict, judge: str) -> bool:
    """Say whether an answer is right by ``judge``: "system", for the four classes, or a node's name."""
    if judge == SYSTEM:
        return row["label"] == row["truth"]
    return answer_of(row, judge) == NODES[judge].targets[row["truth"]]


def answer_of(row: dict, node: str) -> int:
    """Return the index of a node's answer; of equals it is the first."""
    pair = row[node]
    return pair.index(max(pair))


def judged_by(row: dict, headline: str) -> str:
    """Return who judges an image: a system, but carci where the label is not one of the four classes."""
    return ROOT.name if headline == SYSTEM and not judges(row, SYSTEM) else headline


def find_errors(rows: list[dict], headline: str) -> dict:
    """Return every wrong answer as its path, and how often each node was the one to leave the right branch.

    The path of a system's answer is the one that leads to its label, the likeliest of the four classes. A node's
    confidence is its probability of the branch on that path, so that of the node that left may be below 0.5.

    Returns:
        ``left_at``: node -> count; ``paths``: dicts of filename, truth, label, left_at, confidence (of the node that
        left) and path, [node, answer, confidence] for each node on it.
    """
    wrong = [row for row in rows if not is_right(row, judged_by(row, headline))]
    paths = [_path(row, judged_by(row, headline)) for row in wrong]
    counts = Counter(path["left_at"] for path in paths)
    return {"left_at": {name: counts[name] for name in NODES if name in rows[0]}, "paths": paths}


def _path(row: dict, judge: str) -> dict:
    steps = _way(row) if judge == SYSTEM else [_step(row, judge, answer_of(row, judge))]
    # The first node whose answer is not the one that the truth asks for.
    node, _, confidence = next(step for step in steps if _leaves(step, row["truth"]))
    named = {name: row[name] for name in ("filename", "truth", "label")}
    return {**named, "left_at": node, "confidence": confidence, "path": steps}


def _way(row: dict) -> list[list]:
    """Return the steps from the root to the label."""
    branch = next(index for index, node in enumerate(SPECIALISTS) if row["label"] in node.classes)
    specialist = SPECIALISTS[branch]
    return [
        _step(row, ROOT.name, branch),
        _step(row, specialist.name, specialist.classes.index(row["label"])),
    ]


def _step(row: dict, node: str, answer: int) -> list:
    return [node, NODES[node].classes[answer], row[node][answer]]


def _leaves(step: list, truth: str) -> bool:
    node, answer, _ = step
    return NODES[node].classes.index(answer) != NODES[node].targets.get(truth)
