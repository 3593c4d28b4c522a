"""Images whose answers are known before a server is asked, each unlike every other."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from datasets import phantom
from datasets.labels import CLASSES

# How far an answer may be from the known one, and how many times as far the known ones are from each other at least.
# A batch's answers differ from those of its images alone by rounding, which is coarser in half precision.
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-3, "float16": 1e-3}
APART = 5

ROUTINGS = {"serving_default": "soft", "routed": "routed"}
_FORMATS = ("PNG", "JPEG", "BMP")


@dataclass(frozen=True)
class Known:
    """A file and what each signature answers for it: name -> numbers, label or truth."""

    file: bytes
    answers: dict[str, dict]


@dataclass(frozen=True)
class Album:
    """Images and how to compare: an answer within ``tolerance`` of one image's is not another's."""

    images: list[Known]
    tolerance: float
    apart: float


# What a file that is not an image is answered with.
BROKEN = b"not an image"


def compared(known: dict, answer: dict) -> float:
    """Return the largest difference of two answers' numbers.

    It is infinite where the label or ``ok`` differs, something is missing, or the numbers have another shape or are not
    all finite.
    """
    if any(name not in answer for name in known):
        return np.inf
    if any(answer[name] != known[name] for name in ("label", "ok")):
        return np.inf
    names = [name for name in known if name not in ("label", "ok")]
    pairs = [(np.asarray(known[name], float), np.asarray(answer[name], float)) for name in names]
    if any(one.shape != other.shape or not np.isfinite([one, other]).all() for one, other in pairs):
        return np.inf
    return max(float(np.abs(one - other).max(initial=0)) for one, other in pairs)


def _drawn(number: int) -> bytes:
    """Draw a phantom that is partly of another class, so that not all answers are sure of the same."""
    one, other = (phantom.draw(CLASSES[(number + step) % 4], phantom.PATIENTS + number, step) for step in (0, 1))
    share = one.shape[1] * (number % 6) // 6
    pixels = np.concatenate([other[:, :share], one[:, share:]], axis=1)[:: 1 + number % 2, :: 1 + number % 2]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, _FORMATS[number % 3])
    return file.getvalue()


def answers_of(export, file: bytes) -> dict[str, dict]:
    """Ask an export itself for one file: signature -> output -> value."""
    found = {}
    for signature, routing in ROUTINGS.items():
        row = {name: value.numpy()[0] for name, value in export.encoded([file], routing).items()}
        found[signature] = {
            "label": row["label"].decode(), "ok": bool(row["ok"]),
            **{name: row[name] for name in export.outputs.widths},
        }  # fmt: skip
    return found


def album(export, count: int, tolerance: float | None = None, tried: int = 120) -> Album:
    """Return images whose answers, by each signature, are further apart than answers may be from the known ones."""
    tolerance = tolerance or TOLERANCE[export.precision]
    images, apart = [], np.inf
    for number in range(tried):
        if len(images) == count:
            break
        file = _drawn(number)
        new = Known(file, answers_of(export, file))
        gaps = [compared(each.answers[name], new.answers[name]) for each in images for name in ROUTINGS]
        if min(gaps, default=np.inf) > APART * tolerance:
            images.append(new)
            apart = min([apart, *gaps])
    return Album(images, tolerance, apart)
