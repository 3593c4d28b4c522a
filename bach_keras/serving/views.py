"""Several views of an image, averaged here, of a model that sees one."""

import hashlib

import numpy as np
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.serving.answers import Outputs
from bach_keras.serving.images import as_seen
from bach_keras.serving.option_names import Option
from bach_keras.tree import ROOT, SPECIALISTS, products
from datasets.errors import UserError

# How many squares go to the model at once.
AT_ONCE = 8


def with_views(export, views: int | None, names=Option):
    """Return an ``Export`` or a ``Remote`` that averages so many views of an image; None leaves the model's own.

    A UserError is raised if the model averages another number itself, or does not say what side its images have.
    """
    own = export.outputs.views
    if views in (None, own):
        return export
    if own > 1:
        raise UserError(
            f"The model averages {own} views of an image itself: give {names.named('views', own)} or leave it out, or "
            f"export the runs again with --views {views}."
        )
    if export.side is None:
        raise UserError(
            f"{names.named('views')} needs the side of the squares that the model sees: its card does not tell it, or "
            "--send-whole sends whole images. Leave out --send-whole, or use the export itself in place of the server."
        )
    stains = (export.card or {}).get("stain_normalisation", "none")
    if views > preprocess.SYMMETRIES and stains != "none":
        raise UserError(
            f"The model measures an image's stain ({stains}) on the square that it sees, and not on the central one of "
            f"three: take {names.named('views', preprocess.SYMMETRIES)}, or export the runs again with --views {views}."
        )
    return Averaged(export, views)


class Averaged:
    """A model of one view that is asked for each view of an image; its nodes are averaged before the tree's product.

    It answers as an export with so many views inside does, and otherwise is the ``Export`` or ``Remote`` given. It has
    no ``unsure`` and no ``set``, as the model's thresholds were chosen on other views.
    """

    def __init__(self, export, views: int):
        self._export = export
        self.outputs = Outputs(export.outputs.nodes, views, export.outputs.has_distance)
        self.views, self.calibration, self.warnings = views, None, export.warnings
        if "calibration" in (export.card or {}):
            self.warnings += (
                f"WARNING: this model's thresholds were chosen on one view of an image and not on {views}, so nothing "
                "is said of what it is unsure of.",
            )
        elif any(member.get("temperature", 1) != 1 for member in (export.card or {}).get("members", ())):
            self.warnings += (
                f"WARNING: this model's temperatures were fitted on one view of an image and not on {views}, so its "
                "probabilities are not calibrated.",
            )

    def __getattr__(self, name):
        return getattr(self._export, name)

    @property
    def digest(self) -> str:
        """SHA-256 of what answers: the export, and the views that are averaged here."""
        return hashlib.sha256(f"{self._export.digest} {self.views}".encode()).hexdigest()

    def prepare(self, image):
        """Return what ``images`` takes of an image, as ``Hierarchy.prepare`` does: TensorFlow ops."""
        return preprocess.part(image, self.side, self.views)

    def prepared(self, pixels: np.ndarray) -> np.ndarray:
        """Return what ``classify`` takes in place of an image, uint8 [H, W, 3]; threads may call it."""
        return as_seen(pixels, self.side, self.views)

    def images(self, images, routing: str = "soft") -> dict[str, np.ndarray]:
        """Classify uint8 [N, H, W, 3] as ``Hierarchy.images`` does, without ``unsure`` and ``set``."""
        return self.classify([self.prepared(image) for image in np.asarray(images)], routing)

    def classify(self, images: list, routing: str = "soft") -> dict[str, np.ndarray]:
        """Classify images that ``prepared`` made, and the bytes of files, together."""
        parts = [self._decoded(image) if isinstance(image, bytes) else image for image in images]
        good = np.array([part is not None for part in parts], bool)
        squares = [
            self._export.prepared(view)
            for part in parts
            if part is not None
            for view in preprocess.views_of(tf.constant(part), self.side, self.views).numpy()
        ]
        answers = self._answers(squares)
        by_image = {name: value.reshape(good.sum(), self.views, *value.shape[1:]) for name, value in answers.items()}
        pairs = {name: _put_back(by_image[name], good) for name in self.outputs.nodes}
        found = average(pairs, routing, self.outputs)
        found["ok"] = _put_back(by_image["ok"].all(axis=1), good)
        if self.outputs.has_distance:
            found["distance"] = _put_back(by_image["distance"][:, preprocess.central_view(self.views)], good)
        if "fault" in by_image:
            # The first of an image's views that has one.
            faults = [next((fault for fault in of_image if fault), "") for of_image in by_image["fault"]]
            found["fault"] = np.full(len(good), "", object)
            found["fault"][good] = faults
        return found

    def _answers(self, squares) -> dict[str, np.ndarray]:
        batches = [squares[start : start + AT_ONCE] for start in range(0, len(squares), AT_ONCE)] or [[]]
        answers = [self._export.classify(batch) if batch else self._nothing() for batch in batches]
        names = [*self._needed, *(["fault"] if "fault" in answers[0] else [])]
        return {name: np.concatenate([np.asarray(answer[name]) for answer in answers]) for name in names}

    def _nothing(self):
        pairs = {name: np.zeros((0, 2), np.float32) for name in self.outputs.nodes}
        return {**dict.fromkeys(self._needed, np.zeros(0, np.float32)), **pairs, "ok": np.zeros(0, bool)}

    @property
    def _needed(self) -> list[str]:
        """The outputs of the model that are asked for each view."""
        return [*self.outputs.nodes, "ok", *(["distance"] if self.outputs.has_distance else [])]

    def _decoded(self, data: bytes) -> np.ndarray | None:
        """Return what is seen of a file; None of one that cannot be decoded."""
        try:
            return self.prepared(preprocess.decode(tf.constant(data)).numpy())
        except tf.errors.InvalidArgumentError:
            return None


def _put_back(values, good) -> np.ndarray:
    """Put the values of the images that were good in their places; the others are 0."""
    every = np.zeros((len(good), *values.shape[1:]), values.dtype)
    every[good] = values
    return every


def average(pairs: dict[str, np.ndarray], routing: str, form: Outputs) -> dict[str, np.ndarray]:
    """Return a model's answers from its nodes' pairs for each view, float [N, views, 2]; see ``Hierarchy.images``.

    Routed, carci's mean over the views chooses the specialist.
    """
    nodes = {name: each.mean(axis=1) for name, each in pairs.items()}
    if len(form.nodes) > 1 and routing == "routed":
        chosen = np.eye(2, dtype=np.float32)[nodes[ROOT.name].argmax(axis=1)]
        for index, node in enumerate(SPECIALISTS):
            nodes[node.name] = nodes[node.name] * chosen[:, index, None]
            pairs = pairs | {node.name: pairs[node.name] * chosen[:, index, None, None]}
        groups = np.ones_like(nodes[ROOT.name]), np.ones_like(pairs[ROOT.name])
    else:
        groups = (nodes[ROOT.name], pairs[ROOT.name]) if len(form.nodes) > 1 else (None, None)
    probabilities, of_views = (_product(each, group) for each, group in zip((nodes, pairs), groups, strict=True))
    label = probabilities.argmax(axis=1)
    spread = np.take_along_axis(of_views, label[:, None, None], axis=2)[..., 0].std(axis=1)
    names = np.array([name.encode() for name in form.classes], object)
    return {"probabilities": probabilities, "label": names[label], "spread": spread, **nodes}


def _product(nodes, group) -> np.ndarray:
    if group is None:
        return next(iter(nodes.values()))
    return np.concatenate(products(group, nodes), axis=-1)
