"""What a tree must answer: a server, or an export that was tampered with, is trusted only as far as this holds."""

import numpy as np

from bach_keras.tree import NODES, ROOT, SPECIALISTS
from datasets.labels import CLASSES

# Output -> how many numbers it has for each image.
WIDTHS = {"probabilities": len(CLASSES), **{node.name: len(node.classes) for node in NODES.values()}}
NAMES = {*WIDTHS, "label", "ok"}
# What a calibrated tree answers beside these.
DOUBT = {"unsure", "set"}

# By rounding, a sum of probabilities may differ so much from 1, and a probability lie so far outside 0 to 1.
SUM_TOLERANCE = 1e-3
TOLERANCE = 1e-6


class ImpossibleError(Exception):
    """Outputs that an export of this project cannot give."""

    def __init__(self, source: str, reason: str):
        super().__init__(f"{source} gives answers that an export of this project cannot give: {reason}.")


def as_arrays(outputs: dict[str, list], count: int, routing: str, source: str) -> dict[str, np.ndarray]:
    """Return outputs, by name, as the arrays that an export gives, and next to them ``fault``.

    The fault of an image is a sentence if its answer is impossible, and the image is then as one that was not decoded;
    otherwise it is "". An ImpossibleError is raised if outputs are missing, or do not fit ``count`` images. ``unsure``
    and ``set`` are there where the tree was calibrated.
    """
    names = NAMES | (DOUBT if DOUBT & set(outputs) else set())
    if missing := names - set(outputs):
        raise ImpossibleError(source, f"no {', '.join(sorted(missing))}")
    for name, width in WIDTHS.items():
        if not _is_list(outputs[name], count, lambda row, width=width: _is_list(row, width, _is_number)):
            raise ImpossibleError(source, f"{name} that are not {count} x {width} numbers")
    for name, kind in {"label": str, "ok": bool, "unsure": bool}.items():
        if name in names and not _is_list(outputs[name], count, lambda value, kind=kind: type(value) is kind):
            raise ImpossibleError(source, f"{name} that is not {count} values of the type {kind.__name__}")
    if "set" in names and not _is_list(outputs["set"], count, lambda row: _is_list(row, len(CLASSES), _is_flag)):
        raise ImpossibleError(source, f"set that is not {count} x {len(CLASSES)} values of the type bool")
    answers = [{name: outputs[name][index] for name in names} for index in range(count)]
    reasons = [_fault(answer, routing) if answer["ok"] else "" for answer in answers]
    faults = [str(ImpossibleError(source, reason)) if reason else "" for reason in reasons]
    pairs = zip(answers, faults, strict=True)
    answers = [answer if answer["ok"] and not fault else _nothing() for answer, fault in pairs]
    doubt = {name: np.array([answer[name] for answer in answers], bool) for name in sorted(names & DOUBT)}
    if "set" in doubt:
        doubt["set"] = doubt["set"].reshape(-1, len(CLASSES))  # of no images too
    return {
        **{name: np.array([answer[name] for answer in answers], np.float32) for name in WIDTHS},
        "label": np.array([answer["label"].encode() for answer in answers], object),
        "ok": np.array([answer["ok"] for answer in answers], bool),
        "fault": np.array(faults, object),
        **doubt,
    }


def _is_list(value, count, is_right) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(is_right, value))


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_flag(value) -> bool:
    return isinstance(value, bool)


def _nothing() -> dict:
    numbers = {name: [0.0] * width for name, width in WIDTHS.items()}
    return {"ok": False, "label": "", "unsure": False, "set": [False] * len(CLASSES), **numbers}


def _fault(answer, routing) -> str:
    """Return why an answer is impossible, or ""."""
    names = set(WIDTHS)
    if routing == "routed":
        left_out = SPECIALISTS[1 - int(np.argmax(answer[ROOT.name]))].name
        if any(answer[left_out]):
            return f"{left_out} that are not 0, though it was not chosen"
        names.remove(left_out)
    for name in sorted(names):
        values = answer[name]
        # The condition is written so that NaN does not pass.
        if not all(-TOLERANCE <= value <= 1 + TOLERANCE for value in values):
            return f"{name} that are not probabilities"
        if abs(sum(values) - 1) > SUM_TOLERANCE:
            return f"{name} that sum to {sum(values):.3g}"
    return _fault_of_label(answer)


def _fault_of_label(answer) -> str:
    if answer["label"] not in CLASSES:
        return "a label that is not one of this project's"
    if answer["probabilities"][CLASSES.index(answer["label"])] < max(answer["probabilities"]) - TOLERANCE:
        return "a label that is not the likeliest class"
    if "set" in answer and not answer["set"][CLASSES.index(answer["label"])]:
        return "a set without its own label"
    return ""
