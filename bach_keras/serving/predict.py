"""Reading exports back, and answering for image files with them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from bach_keras.serving.images import as_png, find_images, read_rgb
from bach_keras.tree import NODES, ROOT, SPECIALISTS
from datasets.labels import CLASSES

BATCH = 8
ROUTINGS = {"soft": "serving_default", "routed": "routed"}


class Export:
    """An exported tree.

    Args:
        folder: the version folder, or the folder above it, whose highest version is then taken.

    Attributes:
        card: its model card.

    Raises:
        ValueError: the folder holds no export of this project.
    """

    def __init__(self, folder: str | os.PathLike):
        place = _version_folder(Path(folder))
        try:
            self.card = json.loads((place / "assets" / "model_card.json").read_text())
            self._model = tf.saved_model.load(str(place))
            self._signatures = self._model.signatures
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
            raise ValueError(f"{place} is no export of this project that can be read: export it again.") from error

    @property
    def trained_on(self) -> frozenset[str]:
        """File names of the images that any member, or a run it started from, trained on."""
        return frozenset(self.card["trained_on"])

    @property
    def chosen_on(self) -> frozenset[str]:
        """File names of the images that chose a member's epoch or init."""
        return frozenset(self.card["chosen_on"])

    @property
    def is_phantom(self) -> bool:
        """Whether a member learned from synthetic images."""
        return "phantom" in self.card["configs"]

    def images(self, images) -> dict[str, tf.Tensor]:
        """Classify uint8 [N, H, W, 3]; see ``bach_keras.hierarchy.Hierarchy.images``."""
        return self._signatures["images"](images=tf.constant(images))

    def encoded(self, data: list[bytes], routing: str = "soft") -> dict[str, tf.Tensor]:
        """Classify PNG, JPEG or BMP files of any sizes."""
        return self._signatures[ROUTINGS[routing]](image_bytes=tf.constant(data))


def predict(export: Export, paths, routing: str = "soft") -> Iterator[dict]:
    """Answer for files and folders, one row an image, in their order.

    Yields:
        ``path``, ``label``, ``probabilities`` and ``nodes`` (None for a node that was not run),
        or ``path`` and ``error``.

    Raises:
        FileNotFoundError: a folder holds no image.
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
        answers = export.encoded(encoded, routing) if encoded else {}
        answers = {name: value.numpy() for name, value in answers.items()}
        good = iter(range(len(encoded)))
        for row in rows:
            yield row if "error" in row else row | _row(answers, next(good), routing)


def _row(answers, index: int, routing: str) -> dict:
    def named(name, names):
        return dict(zip(names, map(float, answers[name][index]), strict=True))

    if not answers["ok"][index]:
        return {"error": "The model could not decode this image."}
    nodes = {node.name: named(node.name, node.classes) for node in NODES.values()}
    if routing == "routed":
        left_out = SPECIALISTS[1 - int(answers[ROOT.name][index].argmax())]
        nodes[left_out.name] = None
    label = answers["label"][index].decode()
    return {"label": label, "probabilities": named("probabilities", CLASSES), "nodes": nodes}


def _version_folder(folder: Path) -> Path:
    if (folder / "saved_model.pb").is_file():
        return folder
    inside = folder.iterdir() if folder.is_dir() else ()
    versions = [p for p in inside if p.name.isdigit() and (p / "saved_model.pb").is_file()]
    if not versions:
        raise ValueError(f"{folder} is no export: it holds no saved_model.pb. Make one with 'export --out'.")
    return max(versions, key=lambda path: int(path.name))
