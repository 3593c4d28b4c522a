"""A tree scored on labelled images that it never trained on."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from bach_keras import preprocess, run_fields
from bach_keras.evidence import metrics, stains
from bach_keras.evidence.report import write_report
from bach_keras.fields import read_object
from bach_keras.members import run_folder
from bach_keras.run_folder import Run
from bach_keras.tree import NODES
from datasets.errors import UserError, working
from datasets.escape import csv_line
from datasets.labels import CLASSES, LABELS
from datasets.progress import bar
from datasets.whole import whole, write_json

LOG = logging.getLogger(__name__)

BATCH = 16


def evaluate(system, data, split: str | None, out: Path, members: Iterable[str] = ()) -> dict:
    """Score a system, and write metrics.json, predictions.csv and report.html.

    Args:
        system: a ``Hierarchy`` or an ``Export``: has ``images``, ``view``, ``provenance`` and ``configs``.
        data: a ``SplitData``.
        split: the split that judges; by default the one that ``data`` holds out.
        out: the folder to write into.
        members: the runs that the report shows, as ``load_members`` takes them.

    Returns:
        What metrics.json holds.

    Raises:
        UserError: an image trained a member, no image has one of the four labels, a run's files are damaged, or an
            answer is NaN or infinity. Nothing has been written then.
    """
    out, members = Path(out), list(members)
    split = split or data.held_out
    names = data.files.get(split)
    if not names:
        raise UserError(
            f"Protocol {data.protocol} on {data.config} has no {split} images: choose another --split or --protocol."
        )
    system.provenance.check_leaks(names)
    if not any(data.labels.get(name) in CLASSES for name in names):
        raise UserError("None of these images has one of the four labels, so there is no tree to score.")
    folders = dict.fromkeys(run_folder(spec) for spec in members)
    for folder in folders:
        Run.open(folder).best_row()  # the report reads these files, after minutes of work
    _check_folder(out)

    with working():
        rows, normalised = _answers(system, data.images(names), len(names))
        rows = [{**row, "group": data.groups.get(row["filename"], "")} for row in rows]
        mixed = system.provenance.mixed_with(data.protocol, data.files)
        result = {**score(rows), "chosen_on": len(system.provenance.chosen_on & set(names))}
        if system.view.stain_normalisation != "none":
            truths = [row["truth"] for row in rows]
            result["stains"] = stains.tally(system.view.stain_normalisation, truths, normalised)
        result |= {
            "config": data.config,
            "protocol": data.protocol,
            "split": split,
            "split_notes": [note for note in (data.origin["note"], mixed) if note],
            "members": members,
            "member_configs": list(system.configs),
        }
        out.mkdir(parents=True, exist_ok=True)
        write_predictions(out / "predictions.csv", rows)
        write_report(out / "report.html", result, list(folders))
        # It comes last, as it says to whoever reads the folder that the evaluation is complete.
        write_json(out / "metrics.json", result)

    _log(result)
    LOG.info(f"wrote {out / 'metrics.json'}, predictions.csv and report.html")
    return result


def score(rows: list[dict]) -> dict:
    """Return the scores of the system and of its nodes; ``malignant`` images count for carci alone."""
    four = [row for row in rows if row["truth"] in CLASSES]
    truth = [CLASSES.index(row["truth"]) for row in four]
    probabilities = [[row[name] for name in CLASSES] for row in four]
    nodes = {}
    for node in NODES.values():
        own = [row for row in rows if row["truth"] in node.targets]
        if own:
            targets, pairs = [node.targets[row["truth"]] for row in own], [row[node.name] for row in own]
            nodes[node.name] = metrics.scores(targets, pairs, node.classes, [row["group"] for row in own])
    whole = metrics.scores(truth, probabilities, CLASSES, [row["group"] for row in four])
    return {"kind": "system", **whole, "nodes": nodes}


def write_predictions(path: Path, rows: list[dict]) -> None:
    """Write one line for each image as CSV."""
    names = ["filename", "truth", "label", *CLASSES]
    lines = [csv_line(names), *(csv_line(row[name] for name in names) for row in rows)]
    with whole(path) as partial:
        partial.write_bytes("".join(f"{line}\r\n" for line in lines).encode(errors="surrogateescape"))


def _check_folder(out: Path) -> None:
    """Refuse a folder that cannot be made or written into, before minutes of work are lost to it."""
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"{there} is a file, so --out {out} cannot be a folder: choose another.")
    if not os.access(there, os.W_OK):
        raise UserError(f"{there} cannot be written to: choose another --out.")


def _answers(system, records, count: int) -> tuple[list[dict], list[bool]]:
    """Return a row for each image, and for each whether its stain could be normalised."""
    rows, normalised = [], []
    with bar(what="Evaluating", total=count) as progress:
        for squares, known, labels, files in _batches(records, system.view).as_numpy_iterator():
            normalised += known.tolist()
            names = [file.decode() for file in files]
            answers = {name: np.asarray(value) for name, value in system.images(squares).items()}
            # The first class would be the likeliest of NaN.
            if not all(np.isfinite(answers[name]).all() for name in ("probabilities", *NODES)):
                raise UserError(
                    f"The system answers NaN or infinity for {names[0]} or one of the next {len(names) - 1} images, so "
                    "it cannot be scored: train its members again, or export them in float32 if this is half precision."
                )
            for index, (label, name) in enumerate(zip(labels, names, strict=True)):
                rows.append({
                    "filename": name,
                    "truth": LABELS[label],
                    "label": answers["label"][index].decode(),
                    **dict(zip(CLASSES, map(float, answers["probabilities"][index]), strict=True)),
                    **{node: answers[node][index].tolist() for node in NODES},
                })  # fmt: skip
            progress.update(len(names))
    return rows, normalised


def _batches(records, view):
    """Return batches of what the networks see of each image, whether its stain can be normalised, label and name."""

    def seen(record):
        square = preprocess.square(record["image"], view.image_size)
        known = preprocess.normalise_stain_each(square, view.image_size, view.stain_normalisation)[1]
        return square, known, record["label"], record["filename"]

    # The next images are read and squared while the networks work on a batch.
    batches = records.map(seen, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(1)
    return preprocess.untuned(batches)


def _log(result: dict) -> None:
    LOG.info(f"four-class accuracy {metrics.in_words(result)}, protocol {result['protocol']}")
    for note in result["split_notes"]:
        LOG.info(note)
    if "stains" in result:
        LOG.info(stains.in_words(result["stains"]))
    if "phantom" in result["member_configs"]:
        LOG.warning(
            "WARNING: this system learned from synthetic phantom images. Its answers about tissue mean NOTHING."
        )
    if result["chosen_on"]:
        LOG.info(f"{result['chosen_on']} of these images also chose a member's epoch or init")
    for name, node_score in result["nodes"].items():
        LOG.info(f"  {name} {metrics.in_words(node_score)}")


def read_system(path: Path) -> dict:
    """Return what the metrics.json of an evaluation holds."""
    try:
        return run_fields.check_system(read_object(path))
    except UserError as error:
        raise UserError(f"{path} is not what an evaluation writes ({error}): delete it to score again.") from error
