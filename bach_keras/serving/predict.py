"""Answers for images and image files, by an export here or by a server."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import numpy as np

from bach_keras.serving.answers import ImpossibleError, Outputs, as_arrays
from bach_keras.serving.images import check_pixels
from bach_keras.tree import NODES, ROOT, SPECIALISTS
from datasets.errors import UserError
from datasets.images.ahead import THREADS, read_ahead
from datasets.images.folder import find_images
from datasets.progress import bar

BATCH = 8


def predict_files(export, paths, routing: str = "soft") -> Iterator[dict]:
    """Yield for each image of files and folders, in order, ``path`` and what ``answer_batch`` returns, or ``error``."""
    found = find_images(paths)
    # The next batch is read while the network works on one; of images that are sent whole, fewer, as they are large.
    most = BATCH if export.side else THREADS
    with (
        bar(what="predict", total=len(found)) as progress,
        closing(read_ahead(found, export.prepared, most)) as images,
    ):
        for start in range(0, len(found), BATCH):
            batch = found[start : start + BATCH]
            rows = _rows(export, list(islice(images, len(batch))), routing)
            for path, row in zip(batch, rows, strict=True):
                yield {"path": str(path)} | row
            progress.update(len(batch))


def answer_batch(export, images, routing: str = "soft") -> list[dict]:
    """Answer for a few images, uint8 [H, W, 3] or the bytes of a PNG, JPEG or BMP file, by an ``Export`` or ``Remote``.

    Returns:
        For each image ``label``, ``probabilities``, ``nodes`` (None for a node that was not run, or is not there),
        ``unsure`` and ``set``, the names of the classes that cannot be ruled out (both None of a tree that was not
        calibrated), and ``spread`` (None where one view is seen); or ``error``.
        If a server refuses the images, or is lost, every row is an error.
    """
    return _rows(export, [image if isinstance(image, bytes) else _prepared(export, image) for image in images], routing)


def _prepared(export, pixels):
    try:
        check_pixels(pixels)
        return export.prepared(pixels)
    except UserError as error:
        return error


def _rows(export, prepared, routing) -> list[dict]:
    """Return a row for each image, or for the ``UserError`` in its place."""
    images = [image for image in prepared if not isinstance(image, UserError)]
    answers = iter(_answers(export, images, routing) if images else ())
    return [{"error": str(image)} if isinstance(image, UserError) else next(answers) for image in prepared]


def _answers(export, images, routing) -> list[dict]:
    """Answer for images that ``export.prepared`` made, and for the bytes of files."""
    try:
        answers = {name: np.asarray(value) for name, value in export.classify(images, routing).items()}
    except OSError as error:
        return [{"error": str(error)}] * len(images)
    # A Remote has checked its answers already, and an export's may come from a file that was tampered with.
    if "fault" not in answers:
        try:
            answers = as_arrays(_as_lists(answers), len(images), routing, "The model", export.outputs)
        except ImpossibleError as error:
            return [{"error": str(error)}] * len(images)
    return [_row(answers, index, routing, export.outputs) for index in range(len(images))]


def _as_lists(answers) -> dict[str, list]:
    lists = {name: value.tolist() for name, value in answers.items()}
    return lists | {"label": [label.decode(errors="backslashreplace") for label in lists["label"]]}


def _row(answers, index: int, routing: str, form: Outputs) -> dict:
    def named(name, names):
        return dict(zip(names, map(float, answers[name][index]), strict=True))

    if answers["fault"][index]:
        return {"error": answers["fault"][index]}
    if not answers["ok"][index]:
        return {"error": "The model could not decode this image."}
    nodes = {name: named(name, node.classes) if name in form.nodes else None for name, node in NODES.items()}
    # The specialist that carci did not choose was not run, so its zeros are not an answer.
    if routing == "routed" and len(form.nodes) > 1:
        left_out = SPECIALISTS[1 - int(answers[ROOT.name][index].argmax())]
        nodes[left_out.name] = None
    label = answers["label"][index].decode()
    row = {"label": label, "probabilities": named("probabilities", form.classes), "nodes": nodes}
    spread = {"spread": float(answers["spread"][index]) if "spread" in answers else None}
    if "unsure" not in answers:
        return row | {"unsure": None, "set": None} | spread
    inside = [name for name, there in zip(form.classes, answers["set"][index], strict=True) if there]
    return row | {"unsure": bool(answers["unsure"][index]), "set": inside} | spread
