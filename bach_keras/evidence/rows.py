"""The answers of a system, one row for each image, as ``bach_keras.evidence.predictions`` describes them."""

import numpy as np
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.evidence.conformal import sets
from bach_keras.evidence.predictions import SETS
from bach_keras.evidence.quality import measures, scale_of_blur
from bach_keras.evidence.ranges import values_of
from bach_keras.tree import NODES
from datasets.ahead import ahead, image_threads
from datasets.errors import UserError
from datasets.labels import CLASSES, LABELS
from datasets.progress import bar

BATCH = 16


def answer(system, data, names: list[str]) -> list[dict]:
    """Return a row for each named image, sorted by file name; it also has its ``look``, as ``measured`` returns it.

    Args:
        system: a ``Hierarchy`` or an ``Export``.
        data: a ``SplitData``.
        names: of images of ``data``.
    """
    rows, digests, values = [], data.prepared.digests, measured(system, data, names)
    chosen = system.provenance.chosen({name: digests[name] for name in names})
    is_normalised = system.view.stain_normalisation != "none"
    with bar(what="Evaluating", total=len(names)) as progress:
        for parts, known, labels, encoded in batches(system, data, names).as_numpy_iterator():
            files = [name.decode() for name in encoded]
            answers = _checked(system, parts, f"{files[0]} or one of the next {len(files) - 1} images")
            for index, (label, name) in enumerate(zip(labels, files, strict=True)):
                rows.append({
                    "filename": name,
                    "group": data.groups.get(name, ""),
                    "digest": digests[name],
                    "truth": LABELS[label],
                    **_row({key: value[index] for key, value in answers.items()}),
                    "chosen": name in chosen,
                    "normalised": bool(known[index]) if is_normalised else None,
                    "measured": _with_distance(values.get(name, {}).get("values"), answers.get("distance"), index),
                    "look": values.get(name),
                })  # fmt: skip
            progress.update(len(files))
    # Temperatures of 1, those of a tree that was not calibrated, change nothing.
    if all(row["uncalibrated"] == {name: row[name] for name in NODES if name in row} for row in rows):
        rows = [{**row, "uncalibrated": None} for row in rows]
    return sorted(rows, key=lambda row: row["filename"])


def measured(system, data, names: list[str]) -> dict[str, dict]:
    """Return what is measured of each image; {} where a system has no ranges of its training images.

    ``values`` are compared with the ranges; ``stain``, ``um_per_pixel`` (None where unknown) and ``side`` are as
    ``looks`` takes them.
    """
    ranges = getattr(system, "ranges", None)  # a tree made of runs has none: they are measured at export
    if ranges is None:
        return {}

    scales = data.prepared.scales

    def look(record):
        # Where an image's scale is unknown, that of training counts.
        name = record["filename"].decode()
        scale, side = scales.get(name), min(record["image"].shape[:2])
        found = measures(record["image"], scale or ranges.um_per_pixel, scale_of_blur(ranges.um_per_pixel))
        seen = {"stain": found["stain"], "um_per_pixel": scale, "side": side}
        return name, {"values": values_of(found, ranges), **seen}

    records = preprocess.untuned(data.images(names)).as_numpy_iterator()
    return dict(bar(ahead(look, records, image_threads()), what="Measuring", total=len(names)))


def _with_distance(values, distances, index) -> dict | None:
    is_near = values is not None and distances is not None
    return values | {"features": float(distances[index])} if is_near else values


def batches(system, data, names: list[str]) -> tf.data.Dataset:
    """Return batches of what a system sees of named images, whether each stain can be normalised, labels and names."""
    view = system.view

    def seen(record):
        part = system.prepare(record["image"])
        known = preprocess.normalise_stain_each(part, view.image_size, view.stain_normalisation)[1]
        return part, known, record["label"], record["filename"]

    # The next images are read and cropped while the networks work on a batch.
    records = data.images(names).map(seen, num_parallel_calls=tf.data.AUTOTUNE)
    return preprocess.untuned(records.batch(BATCH).prefetch(1))


def answers_of(system, parts, what: str) -> list[dict]:
    """Return what a row says of the answers for each of some images that ``system.prepare`` made.

    ``what`` names them in the ``UserError`` that refuses NaN.
    """
    answers = _checked(system, parts, what)
    return [_row({key: value[index] for key, value in answers.items()}) for index in range(len(parts))]


def _checked(system, parts, what: str) -> dict[str, np.ndarray]:
    answers = _answers(system, parts)
    # The first class would be the likeliest of NaN.
    if not all(np.isfinite(value).all() for value in answers.values() if value.dtype.kind == "f"):
        raise UserError(
            f"The system answers NaN or infinity for {what}, so it cannot be scored: train its members again, or "
            "export them in float32 if this is half precision."
        )
    return answers


def _answers(system, parts) -> dict[str, np.ndarray]:
    """Return what a system answers, and what it says of doubt where it was calibrated."""
    # A tree made of runs can also say what it answered before its temperatures; an export cannot.
    ask = getattr(system, "with_uncalibrated", system.images)
    answers = {name: np.asarray(value) for name, value in ask(parts).items()}
    if system.calibration:
        # A system answers with the sets of one level.
        others = {level: column for level, column in SETS.items() if column not in answers}
        answers |= {
            column: sets(answers["probabilities"], system.calibration.levels[level]) for level, column in others.items()
        }
    return answers


def _row(answers: dict) -> dict:
    """Return what a row says of one image's answers, by the names that they have in a tree."""
    row = {"label": answers["label"].decode()}
    # A node by itself has two probabilities, which are its pair.
    if len(answers["probabilities"]) == len(CLASSES):
        row |= dict(zip(CLASSES, _shares(answers["probabilities"]), strict=True))
    row |= {name: _shares(answers[name]) for name in NODES if name in answers}
    before = {name: answers[f"{name}_uncalibrated"] for name in NODES if f"{name}_uncalibrated" in answers}
    row["uncalibrated"] = {name: _shares(pair) for name, pair in before.items()} or None
    row["unsure"] = bool(answers["unsure"]) if "unsure" in answers else None
    row |= {column: _names(answers[column]) if column in answers else None for column in SETS.values()}
    row["spread"] = float(answers["spread"]) if "spread" in answers else None
    return row


def _names(inside) -> list[str]:
    return [name for name, is_in in zip(CLASSES, inside, strict=True) if is_in]


def _shares(values) -> list[float]:
    # By rounding, a softmax in float32 may be a little above 1.
    return np.clip(values, 0, 1).tolist()
