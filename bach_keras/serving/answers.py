"""What a model must answer: a server, or an export that was tampered with, is trusted only as far as this holds."""

from dataclasses import dataclass

import numpy as np

from bach_keras.tree import NODES, ROOT, SPECIALISTS, classes_of

# What a calibrated tree answers beside these.
DOUBT = {"unsure", "set"}

# By rounding, a sum of probabilities may differ so much from 1, and a probability lie so far outside 0 to 1.
SUM_TOLERANCE = 1e-3
TOLERANCE = 1e-6

# The largest number of float32.
MOST_DISTANCE = float(np.finfo(np.float32).max)


class ImpossibleError(Exception):
    """Outputs that an export of this project cannot give."""

    def __init__(self, source: str, reason: str):
        super().__init__(f"{source} gives answers that an export of this project cannot give: {reason}.")


@dataclass(frozen=True)
class Outputs:
    """What a model answers for each image: a tree, or one node by itself, for one view of it or several."""

    nodes: tuple[str, ...] = tuple(NODES)
    views: int = 1
    has_distance: bool = False  # from the nearest training image

    @property
    def classes(self) -> tuple[str, ...]:
        return classes_of(self.nodes)

    @property
    def widths(self) -> dict[str, int]:
        """Output -> how many probabilities it has."""
        return {"probabilities": len(self.classes), **{name: len(NODES[name].classes) for name in self.nodes}}

    @property
    def names(self) -> set[str]:
        return {*self.widths, "label", "ok", *self.numbers}

    @property
    def numbers(self) -> tuple[str, ...]:
        """The outputs that are one number for each image."""
        return (*(["spread"] if self.views > 1 else []), *(["distance"] if self.has_distance else []))


TREE = Outputs()


def as_arrays(
    outputs: dict[str, list], count: int, routing: str, source: str, form: Outputs = TREE
) -> dict[str, np.ndarray]:
    """Return outputs, by name, as the arrays that an export gives, and next to them ``fault``.

    The fault of an image is a sentence if its answer is impossible, and the image is then as one that was not decoded;
    otherwise it is "". An ImpossibleError is raised if outputs are missing, or do not fit ``count`` images. ``unsure``
    and ``set`` are there where the tree was calibrated, ``spread`` where it averages several views, and ``distance``
    where it knows its training images.
    """
    names = form.names | (DOUBT if DOUBT & set(outputs) else set())
    if missing := names - set(outputs):
        raise ImpossibleError(source, f"no {', '.join(sorted(missing))}")
    for name, width in form.widths.items():
        if not _is_list(outputs[name], count, lambda row, width=width: _is_list(row, width, _is_number)):
            raise ImpossibleError(source, f"{name} that are not {count} x {width} numbers")
    for name, kind in {"label": str, "ok": bool, "unsure": bool}.items():
        if name in names and not _is_list(outputs[name], count, lambda value, kind=kind: type(value) is kind):
            raise ImpossibleError(source, f"{name} that is not {count} values of the type {kind.__name__}")
    for name in form.numbers:
        if not _is_list(outputs[name], count, _is_number):
            raise ImpossibleError(source, f"{name} that is not {count} numbers")
    width = len(form.classes)
    if "set" in names and not _is_list(outputs["set"], count, lambda row: _is_list(row, width, _is_flag)):
        raise ImpossibleError(source, f"set that is not {count} x {width} values of the type bool")
    answers = [{name: outputs[name][index] for name in names} for index in range(count)]
    reasons = [_fault(answer, routing, form) if answer["ok"] else "" for answer in answers]
    faults = [str(ImpossibleError(source, reason)) if reason else "" for reason in reasons]
    pairs = zip(answers, faults, strict=True)
    answers = [answer if answer["ok"] and not fault else _nothing(form) for answer, fault in pairs]
    doubt = {name: np.array([answer[name] for answer in answers], bool) for name in sorted(names & DOUBT)}
    if "set" in doubt:
        doubt["set"] = doubt["set"].reshape(-1, width)  # of no images too
    return {
        **{name: np.array([answer[name] for answer in answers], np.float32) for name in form.widths},
        **{name: np.array([answer[name] for answer in answers], np.float32) for name in form.numbers},
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


def _nothing(form) -> dict:
    numbers = {name: [0.0] * width for name, width in form.widths.items()} | dict.fromkeys(form.numbers, 0.0)
    return {"ok": False, "label": "", "unsure": False, "set": [False] * len(form.classes), **numbers}


def _fault(answer, routing, form) -> str:
    """Return why an answer is impossible, or ""."""
    names = set(form.widths)
    if routing == "routed" and len(form.nodes) > 1:
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
    # The standard deviation of numbers from 0 to 1 is at most a half.
    if "spread" in answer and not -TOLERANCE <= answer["spread"] <= 0.5 + TOLERANCE:
        return "a spread that is not a standard deviation of probabilities"
    if "distance" in answer and not 0 <= answer["distance"] <= MOST_DISTANCE:
        return "a distance that is not a number from 0"
    return _fault_of_label(answer, form.classes)


def _fault_of_label(answer, classes) -> str:
    if answer["label"] not in classes:
        return "a label that is not one of this project's"
    if answer["probabilities"][classes.index(answer["label"])] < max(answer["probabilities"]) - TOLERANCE:
        return "a label that is not the likeliest class"
    if "set" in answer and not answer["set"][classes.index(answer["label"])]:
        return "a set without its own label"
    return ""
