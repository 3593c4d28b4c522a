"""A tree held against labelled images it never trained on."""

from pathlib import Path

import numpy as np

from bach_keras import preprocess
from bach_keras.evidence import metrics, stains
from bach_keras.preprocess import untuned
from bach_keras.tree import NODES
from datasets.errors import UserError
from datasets.escape import csv_line
from datasets.labels import CLASSES, LABELS
from datasets.whole import whole

BATCH = 16


def check_leaks(trained_on: frozenset[str], filenames) -> None:
    """Refuse images that trained the system.

    Raises:
        UserError: names a few of the images, and how many there are.
    """
    seen = sorted(trained_on & set(filenames))
    if seen:
        named = ", ".join(seen[:5]) + (", ..." if len(seen) > 5 else "")
        raise UserError(
            f"{len(seen)} of these {len(filenames)} images trained a member of this system ({named}), so a score on "
            "them would mean nothing: evaluate on a protocol that kept them apart."
        )


def mixed_splits(protocol: str, files: dict[str, list[str]], protocols, trained_on, chosen_on) -> str:
    """Say where a system's members were not split as the images that judge them.

    Args:
        protocol: the evaluation's.
        files: split name -> file names, of the evaluation.
        protocols: those of the members; "" where it is not known.
        trained_on: file names that the members trained on.
        chosen_on: file names that chose an epoch, an init or a temperature.

    Returns:
        One sentence, or "" where all is of one split.
    """
    others = sorted(set(protocols) - {protocol, ""})
    if others:
        return (
            f"This score mixes protocols: its images are those that {protocol} holds out, but members were trained "
            f"under {', '.join(others)}. Do not set it beside scores of one protocol without saying so."
        )
    known = frozenset().union(*files.values())
    if (trained_on & known) - set(files["train"]) or (chosen_on & known) - set(files["validation"]):
        return (
            "This score mixes splits: a member, or a run it started from, was trained on another split than this one "
            f"by {protocol}, such as another seed's. Do not set it beside scores of one split without saying so."
        )
    return ""


def evaluate(system, records, filenames, trained_on, chosen_on, say=print) -> tuple[dict, list[dict]]:
    """Score a whole system.

    Args:
        system: answers ``images(uint8 [N, H, W, 3])`` as ``bach_keras.hierarchy.Hierarchy`` does; has its
            ``image_size`` and ``stain_normalisation`` too, if it normalises stains.
        records: a tf.data.Dataset of dicts with ``image``, ``label`` (index of ``LABELS``), ``filename``.
        filenames: the records' file names, so that a leak is refused before any image is read.
        trained_on: file names that the members trained on.
        chosen_on: file names that chose an epoch, an init or a temperature.
        say: prints a line of progress.

    Returns:
        What ``metrics.json`` holds, and one row an image.

    Raises:
        UserError: an image trained a member, there is none of the four classes, or an answer is NaN or infinity.
    """
    check_leaks(trained_on, filenames)
    rows, normalised = [], []
    method = getattr(system, "stain_normalisation", "none")
    for images, labels, names in _batches(records):
        if method != "none":
            squares = preprocess.square(images, system.image_size)
            normalised += preprocess.normalise_stain_each(squares, system.image_size, method)[1].numpy().tolist()
        answers = {name: np.asarray(value) for name, value in system.images(images).items()}
        # The likeliest of NaN would be the first class.
        if not all(np.isfinite(answers[name]).all() for name in ("probabilities", *NODES)):
            raise UserError(
                f"The system answers NaN or infinity for {names[0]} or one of the next {len(names) - 1} images, so it "
                "cannot be scored: train its members again."
            )
        for index, (label, name) in enumerate(zip(labels, names, strict=True)):
            rows.append({
                "filename": name,
                "truth": LABELS[label],
                "label": answers["label"][index].decode(),
                **dict(zip(CLASSES, map(float, answers["probabilities"][index]), strict=True)),
                **{node: answers[node][index].tolist() for node in NODES},
            })  # fmt: skip
        if len(rows) % (BATCH * 4) < BATCH:
            say(f"evaluated {len(rows)} of {len(filenames)} images")
    result = {**score(rows), "chosen_on": len(chosen_on & set(filenames))}
    if method != "none":
        result["stains"] = stains.tally(method, [row["truth"] for row in rows], normalised)
    return result, rows


def score(rows: list[dict]) -> dict:
    """Return the system's and the nodes' accuracies; ``malignant`` images count for carci alone."""
    four = [row for row in rows if row["truth"] in CLASSES]
    if not four:
        raise UserError("None of these images has one of the four labels, so there is no tree to score.")
    matrix = metrics.confusion(
        [CLASSES.index(row["truth"]) for row in four], [CLASSES.index(row["label"]) for row in four], 4
    )
    nodes = {}
    for node in NODES.values():
        own = [row for row in rows if row["truth"] in node.targets]
        if own:
            pairs = metrics.confusion(
                [node.targets[row["truth"]] for row in own],
                [int(np.argmax(row[node.name])) for row in own],
                2,
            )
            nodes[node.name] = {key: metrics.scores(pairs)[key] for key in ("accuracy", "accuracy_ci95", "n")}
    return {"kind": "system", **metrics.scores(matrix), "confusion_matrix": matrix.tolist(), "nodes": nodes}


def write_predictions(path: Path, rows: list[dict]) -> None:
    """Write one line an image as CSV, whole or not at all."""
    names = ["filename", "truth", "label", *CLASSES]
    lines = [csv_line(names), *(csv_line(row[name] for name in names) for row in rows)]
    with whole(path) as partial:
        partial.write_bytes("".join(f"{line}\r\n" for line in lines).encode(errors="surrogateescape"))


def _batches(records):
    """Gather neighbours of one size: a batch holds one size only, and BACH's and BISQUE's differ."""
    images, labels, names = [], [], []
    for record in untuned(records).as_numpy_iterator():
        if images and (len(images) == BATCH or record["image"].shape != images[0].shape):
            yield np.stack(images), labels, names
            images, labels, names = [], [], []
        images.append(record["image"])
        labels.append(int(record["label"]))
        names.append(record["filename"].decode())
    if images:
        yield np.stack(images), labels, names
