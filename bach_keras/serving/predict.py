"""Answers for images and image files, by an export here or by a server."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np

from bach_keras.serving.answers import ImpossibleError, Outputs, as_arrays
from bach_keras.serving.images import check_pixels
from bach_keras.tree import NODES, ROOT, SPECIALISTS
from datasets.errors import UserError
from datasets.images.ahead import THREADS, each_ahead
from datasets.images.folder import find_images
from datasets.images.read import read_rgb
from datasets.progress import bar

BATCH = 8


class Extra:
    """Something that a row says beside the answer. Each method may be left out; they are called in this order."""

    def look(self, path: Path, pixels: np.ndarray):
        """Return what is kept of an image as it was read, uint8 [H, W, 3]; several threads call it."""

    def ask(self, export, prepared: list) -> dict:
        """Return what the model says more of a batch: name -> array [N, ...].

        Under ``answers`` may be all that ``export.classify`` returns, which is then not called.
        """
        return {}

    def fields(self, path: Path, row: dict, looked, asked: dict) -> dict:
        """Return what the row of an image says more, or ``error``, which takes the row's place.

        Args:
            row: what it says already; it is not an error.
            looked: what ``look`` returned of this image.
            asked: what ``ask`` returned, of this image alone.
        """
        return {}


def predict_files(
    export, paths, routing: str = "soft", extras: Sequence[Extra] = (), read: Callable[[Path], np.ndarray] = read_rgb
) -> Iterator[dict]:
    """Yield for each image of files and folders, in order, ``path`` and what ``answer_batch`` returns, or ``error``.

    Each of the ``extras`` adds its fields to the rows that are not errors. ``read`` returns a file's pixels, uint8
    [H, W, 3], or refuses it by a ``UserError``; several threads call it.
    """
    yield from predict_each(export, find_images(paths), routing, extras, read)


def predict_each(export, places: Sequence, routing: str, extras: Sequence[Extra], read: Callable) -> Iterator[dict]:
    """Yield what ``predict_files`` does, for images by whatever ``read`` and the extras know them."""
    # The next batch is read while the network works on one; of images that are sent whole, fewer, as they are large.
    most = BATCH if export.side else THREADS

    def seen(place):
        pixels = read(place)
        return export.prepared(pixels), [extra.look(place, pixels) for extra in extras]

    with (
        bar(what="predict", total=len(places)) as progress,
        closing(each_ahead(places, seen, most)) as images,
    ):
        for start in range(0, len(places), BATCH):
            batch = places[start : start + BATCH]
            looked_at = list(islice(images, len(batch)))
            yield from answer_seen(export, batch, looked_at, routing, extras)
            progress.update(len(batch))


def answer_seen(export, paths, seen, routing: str = "soft", extras: Sequence[Extra] = ()) -> Iterator[dict]:
    """Yield for each of a few images, in order, ``path`` and what ``answer_batch`` returns, or ``error``.

    Args:
        seen: of each image what ``export.prepared`` makes of it and what each of the extras' ``look`` returned, or
            the ``UserError`` that refused it.
    """
    prepared = [image if isinstance(image, UserError) else image[0] for image in seen]
    rows = _rows(export, prepared, routing, extras)
    for path, image, (row, asked) in zip(paths, seen, rows, strict=True):
        looked = [] if isinstance(image, UserError) else image[1]
        yield {"path": str(path)} | _with_fields(row, path, extras, looked, asked)


def _with_fields(row, path, extras, looked, asked) -> dict:
    """Return a row with the fields of each of the extras, or only an error where one of them is."""
    for extra, seen, found in zip(extras, looked, asked, strict=False):  # there are none of an error
        row = row | extra.fields(path, row, seen, found)
        if "error" in row:
            return {"error": row["error"]}
    return row


def answer_batch(export, images, routing: str = "soft") -> list[dict]:
    """Answer for a few images, uint8 [H, W, 3] or the bytes of a PNG, JPEG or BMP file, by an ``Export`` or ``Remote``.

    Returns:
        For each image ``label``, ``probabilities``, ``nodes`` (None for a node that was not run, or is not there),
        ``unsure`` and ``set``, the names of the classes that cannot be ruled out (both None of a tree that was not
        calibrated), ``spread`` (None where one view is seen), and ``distance`` where the model knows its training
        images; or ``error``.
        If a server refuses the images, or is lost, every row is an error.
    """
    prepared = [image if isinstance(image, bytes) else _prepared(export, image) for image in images]
    return answer_prepared(export, prepared, routing)


def answer_prepared(export, prepared, routing: str = "soft") -> list[dict]:
    """Answer as ``answer_batch`` does for what ``export.prepared`` made, or for a ``UserError`` in its place."""
    return [row for row, _ in _rows(export, prepared, routing)]


def _prepared(export, pixels):
    try:
        check_pixels(pixels)
        return export.prepared(pixels)
    except UserError as error:
        return error


def _rows(export, prepared, routing, extras=()) -> list[tuple[dict, list[dict]]]:
    """Return for each image, or for the ``UserError`` in its place, a row and what each of the extras asked of it."""
    images = [image for image in prepared if not isinstance(image, UserError)]
    answers = iter(_answers(export, images, routing, extras) if images else ())
    return [({"error": str(image)}, []) if isinstance(image, UserError) else next(answers) for image in prepared]


def _answers(export, images, routing, extras) -> list[tuple[dict, list[dict]]]:
    """Answer for images that ``export.prepared`` made, and for the bytes of files."""
    try:
        asked = [extra.ask(export, images) for extra in extras]
        answered = [each.pop("answers") for each in asked if "answers" in each]
        answers = answered[0] if answered else export.classify(images, routing)
    except OSError as error:
        return [({"error": str(error)}, [])] * len(images)
    rows = _rows_of(export, {name: np.asarray(value) for name, value in answers.items()}, len(images), routing)
    of_each = [
        [{name: np.asarray(value[index]) for name, value in each.items()} for each in asked]
        for index in range(len(images))
    ]
    return list(zip(rows, of_each, strict=True))


def _rows_of(export, answers, count, routing) -> list[dict]:
    # A Remote has checked its answers already, and an export's may come from a file that was tampered with.
    if "fault" not in answers:
        try:
            answers = as_arrays(_as_lists(answers), count, routing, "The model", export.outputs)
        except ImpossibleError as error:
            return [{"error": str(error)}] * count
    return [_row(answers, index, routing, export.outputs) for index in range(count)]


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
    more = {"spread": None} | {name: float(answers[name][index]) for name in form.numbers}
    if "unsure" not in answers:
        return row | {"unsure": None, "set": None} | more
    inside = [name for name, there in zip(form.classes, answers["set"][index], strict=True) if there]
    return row | {"unsure": bool(answers["unsure"][index]), "set": inside} | more
