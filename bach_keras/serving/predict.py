"""Reading exports back, and answering for image files with them."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from bach_keras.fields import FieldError, read_object
from bach_keras.preprocess import View
from bach_keras.provenance import Provenance
from bach_keras.serving.address import is_plain, is_version
from bach_keras.serving.answers import as_arrays
from bach_keras.serving.card import CARD, check_card, decodes_otherwise
from bach_keras.serving.images import as_png
from bach_keras.tree import NODES, ROOT, SPECIALISTS
from datasets.errors import UserError
from datasets.images.folder import find_images
from datasets.images.read import read_rgb
from datasets.labels import CLASSES

BATCH = 8
ROUTINGS = {"soft": "serving_default", "routed": "routed"}


class Export:
    """An exported tree.

    Args:
        folder: the version folder, or the folder above it, whose highest version is then taken.

    Attributes:
        folder: the version folder.
        card: its model card.
        trained_on: file names of the images that any member, or a run it started from, trained on.
        chosen_on: file names of the images that chose a member's epoch or init.
        is_phantom: whether a member learned from synthetic images.
        decodes_otherwise: whether it is of an earlier version, and so gives a JPEG other pixels.
        image_size, stain_normalisation: as its members have them.
        signatures: name -> function, as ``tf.saved_model.load`` gives them.

    Raises:
        UserError: the folder holds no export of this project.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = place = _version_folder(Path(folder))
        try:
            self.card = _card(place)
            self.trained_on, self.chosen_on = (frozenset(self.card[name]) for name in ("trained_on", "chosen_on"))
            self.is_phantom = "phantom" in self.card["configs"]
            self.decodes_otherwise = decodes_otherwise(self.card)
            self.image_size = self.card["image_size"]
            self.stain_normalisation = self.card.get("stain_normalisation", "none")
            self.view = View(self.image_size, self.stain_normalisation)
            protocols = frozenset(member.get("protocol", "") for member in self.card["members"])
            self.provenance = Provenance(self.trained_on, self.chosen_on, protocols)
            self.configs = tuple(self.card["configs"])
            self._model = _load(place)
            self.signatures = self._model.signatures
            _check_signatures(self.signatures)
        except Exception as error:  # a damaged file can raise nearly anything
            reason = f" ({str(error).rstrip('.')})" if isinstance(error, FieldError) else ""
            raise UserError(
                f"{place} is no export of this project that can be read{reason}: export it again."
            ) from error

    def images(self, images) -> dict[str, tf.Tensor]:
        """Classify uint8 [N, H, W, 3]; see ``bach_keras.hierarchy.Hierarchy.images``."""
        return self.signatures["images"](images=tf.constant(images))

    def encoded(self, data: list[bytes], routing: str = "soft") -> dict[str, tf.Tensor]:
        """Classify PNG, JPEG or BMP files of any sizes."""
        return self.signatures[ROUTINGS[routing]](image_bytes=tf.constant(data))


def predict(export, paths, routing: str = "soft") -> Iterator[dict]:
    """Answer for files and folders, one row an image, in their order.

    Args:
        export: an ``Export``, or a ``bach_keras.serving.remote.client.Remote``.
        paths: files and folders.
        routing: a key of ``ROUTINGS``.

    Yields:
        ``path``, ``label``, ``probabilities`` and ``nodes`` (None for a node that was not run),
        or ``path`` and ``error``.

    Raises:
        UserError: a folder holds no image.
    """
    found = find_images(paths)
    for start in range(0, len(found), BATCH):
        rows, encoded = [], []
        for path in found[start : start + BATCH]:
            row = {"path": str(path)}
            try:
                encoded.append(as_png(read_rgb(path)))
            except ValueError as error:
                row["error"] = str(error)
            rows.append(row)
        good = _answered(export, encoded, routing)
        for row in rows:
            yield row if "error" in row else row | next(good)


def _answered(export, encoded, routing):
    """Yield what each image got; a server that refuses a batch, or is gone, fails that batch alone."""
    if not encoded:
        return
    try:
        answers = {name: np.asarray(value) for name, value in export.encoded(encoded, routing).items()}
        if "fault" not in answers:  # a server's answers were checked as they came
            answers = _checked(answers, len(encoded), routing)
    except OSError as error:
        yield from [{"error": str(error)}] * len(encoded)
        return
    for index in range(len(encoded)):
        yield _row(answers, index, routing)


def _checked(answers, count: int, routing: str) -> dict[str, np.ndarray]:
    """Return an export's answers, and why any is not one: what a tampered network gives may be NaN."""
    lists = {name: value.tolist() for name, value in answers.items()}
    lists["label"] = [label.decode(errors="backslashreplace") for label in lists["label"]]
    impossible = "The model answers what no export of this project can: {}."
    try:
        checked = as_arrays(lists, count, routing)
    except ValueError as error:
        raise OSError(impossible.format(error)) from error
    return checked | {"fault": [fault and impossible.format(fault) for fault in checked["fault"]]}


def _row(answers, index: int, routing: str) -> dict:
    def named(name, names):
        return dict(zip(names, map(float, answers[name][index]), strict=True))

    if answers["fault"][index]:
        return {"error": answers["fault"][index]}
    if not answers["ok"][index]:
        return {"error": "The model could not decode this image."}
    nodes = {node.name: named(node.name, node.classes) for node in NODES.values()}
    if routing == "routed":
        left_out = SPECIALISTS[1 - int(answers[ROOT.name][index].argmax())]
        nodes[left_out.name] = None
    label = answers["label"][index].decode()
    return {"label": label, "probabilities": named("probabilities", CLASSES), "nodes": nodes}


def _load(folder: Path):
    """Load a SavedModel from any path; where TensorFlow would take the path for a pattern, through a link to it."""
    if is_plain(folder):
        return tf.saved_model.load(str(folder))
    with tempfile.TemporaryDirectory() as place:
        link = Path(place) / "export"
        link.symlink_to(folder.resolve())
        return tf.saved_model.load(str(link))


def _card(place: Path) -> dict:
    file = place / "assets" / CARD
    try:
        return check_card(read_object(file))
    except FieldError as error:
        raise FieldError(f"{file}: {error}") from error


# What a signature that classifies takes and gives; shapes as far as they are fixed.
_ANSWERS = {
    "probabilities": tf.TensorSpec([None, len(CLASSES)], tf.float32),
    "label": tf.TensorSpec([None], tf.string),
    "ok": tf.TensorSpec([None], tf.bool),
    **{name: tf.TensorSpec([None, 2], tf.float32) for name in NODES},
}
_TAKEN = {
    "serving_default": {"image_bytes": tf.TensorSpec([None], tf.string)},
    "routed": {"image_bytes": tf.TensorSpec([None], tf.string)},
    "images": {"images": tf.TensorSpec([None, None, None, 3], tf.uint8)},
}


def _check_signatures(signatures) -> None:
    """Refuse a model of something else: ``predict`` would fail in its midst, or read its answers as ours."""
    for name, taken in _TAKEN.items():
        if name not in signatures:
            raise FieldError(f"saved_model.pb has no signature {name}")
        given = signatures[name].structured_input_signature[1]
        for words, wanted, there in (
            ("takes", taken, given),
            ("answers", _ANSWERS, signatures[name].structured_outputs),
        ):
            if (words == "takes" and set(there) != set(wanted)) or not set(wanted) <= set(there):
                raise FieldError(f"saved_model.pb: {name} {words} other things than {', '.join(sorted(wanted))}")
            for part, spec in wanted.items():
                if there[part].dtype != spec.dtype or not spec.shape.is_compatible_with(there[part].shape):
                    raise FieldError(f"saved_model.pb: {part} of {name} is not {spec.dtype.name} {spec.shape}")


def _version_folder(folder: Path) -> Path:
    if (folder / "saved_model.pb").is_file():
        return folder
    inside = folder.iterdir() if folder.is_dir() else ()
    versions = [p for p in inside if is_version(p.name) and (p / "saved_model.pb").is_file()]
    if not versions:
        raise UserError(f"{folder} is no export: it holds no saved_model.pb. Make one with 'export --out'.")
    return max(versions, key=lambda path: int(path.name))
