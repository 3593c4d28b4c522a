"""Answers for images and image files, by an export here or by a server."""

from collections.abc import Iterator

import numpy as np

from bach_keras.serving.answers import ImpossibleError, as_arrays
from bach_keras.serving.images import as_png
from bach_keras.tree import NODES, ROOT, SPECIALISTS
from datasets.errors import UserError
from datasets.images.folder import find_images
from datasets.images.read import read_rgb
from datasets.labels import CLASSES
from datasets.progress import bar

BATCH = 8


def predict_files(export, paths, routing: str = "soft") -> Iterator[dict]:
    """Yield for each image of files and folders, in order, ``path`` and what ``answer_batch`` returns, or ``error``."""
    found = find_images(paths)
    with bar(what="predict", total=len(found)) as progress:
        for start in range(0, len(found), BATCH):
            batch = found[start : start + BATCH]
            rows, images = [], []
            for path in batch:
                row = {"path": str(path)}
                try:
                    images.append(as_png(read_rgb(path)))  # eight large images as pixels would fill the memory
                except UserError as error:
                    row["error"] = str(error)
                rows.append(row)
            answers = iter(answer_batch(export, images, routing) if images else ())
            for row in rows:
                yield row if "error" in row else row | next(answers)  # the answers are of the readable images
            progress.update(len(batch))


def answer_batch(export, images, routing: str = "soft") -> list[dict]:
    """Answer for a few images, uint8 [H, W, 3] or the bytes of a PNG, JPEG or BMP file, by an ``Export`` or ``Remote``.

    Returns:
        For each image ``label``, ``probabilities`` and ``nodes`` (None for a node that was not run), or ``error``.
        If a server refuses the images, or is lost, every row is an error.
    """
    encoded = [image if isinstance(image, bytes) else as_png(image) for image in images]
    try:
        answers = {name: np.asarray(value) for name, value in export.encoded(encoded, routing).items()}
    except OSError as error:
        return [{"error": str(error)}] * len(encoded)
    # A Remote has checked its answers already, and an export's may come from a file that was tampered with.
    if "fault" not in answers:
        try:
            answers = as_arrays(_as_lists(answers), len(encoded), routing, "The model")
        except ImpossibleError as error:
            return [{"error": str(error)}] * len(encoded)
    return [_row(answers, index, routing) for index in range(len(encoded))]


def _as_lists(answers) -> dict[str, list]:
    lists = {name: value.tolist() for name, value in answers.items()}
    return lists | {"label": [label.decode(errors="backslashreplace") for label in lists["label"]]}


def _row(answers, index: int, routing: str) -> dict:
    def named(name, names):
        return dict(zip(names, map(float, answers[name][index]), strict=True))

    if answers["fault"][index]:
        return {"error": answers["fault"][index]}
    if not answers["ok"][index]:
        return {"error": "The model could not decode this image."}
    nodes = {node.name: named(node.name, node.classes) for node in NODES.values()}
    # The specialist that carci did not choose was not run, so its zeros are not an answer.
    if routing == "routed":
        left_out = SPECIALISTS[1 - int(answers[ROOT.name][index].argmax())]
        nodes[left_out.name] = None
    label = answers["label"][index].decode()
    return {"label": label, "probabilities": named("probabilities", CLASSES), "nodes": nodes}
