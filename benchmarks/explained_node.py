"""One node of a tree with its maps, and phantoms whose structure is known."""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.evidence import overlay
from bach_keras.network import grad_cam
from bach_keras.preprocess import View
from bach_keras.tree import Node
from datasets import phantom
from datasets.labels import CLASSES

BATCH = 32


@dataclass(frozen=True)
class Sample:
    """A phantom as a node sees it."""

    label: str
    square: np.ndarray  # uint8 [size, size, 3]
    structure: np.ndarray  # bool [size, size]: what makes its class


def samples(node: Node, view: View, count: int, first: int = phantom.PATIENTS + 8) -> list[Sample]:
    """Draw so many phantoms of each label that trains the node, each of a patient of its own that no data set has."""
    labels = [label for label in CLASSES if label in node.targets]
    return [
        _sample(label, first + 4 * number + CLASSES.index(label), view) for number in range(count) for label in labels
    ]


def _sample(label, patient, view) -> Sample:
    image, structure = phantom.draw_with_structure(label, patient, 0)
    grey = np.repeat(np.where(structure, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    seen = preprocess.square(grey, view.image_size).numpy()
    return Sample(label, view.square(image).numpy(), seen[..., 0] > 127)


class ExplainedNode:
    """A node's network, whose weights may change: what it answers, and where it looked."""

    def __init__(self, node: Node, model):
        self.node, self.model = node, model
        maps = grad_cam.last_map(model)
        self._body, self._head = keras.Model(model.input, maps), keras.Model(maps, model.output)
        hidden = keras.Model(maps, model.get_layer("head.relu").output)

        @tf.function
        def look(squares):
            found = self._body(preprocess.normalise(squares), training=False)
            with tf.GradientTape() as tape:
                tape.watch(found)
                logits = self._head(found, training=False)
                margin = logits[:, 1] - logits[:, 0]
            hires = tf.reduce_sum(tape.gradient(margin, found) * found, axis=-1)
            return margin, grad_cam.evidence(model, found, hidden(found, training=False)), hires

        @tf.function
        def answer(squares):
            logits = model(preprocess.normalise(squares), training=False)
            return logits[:, 1] - logits[:, 0]

        self._look, self._answer = look, answer

    def margins(self, squares) -> np.ndarray:
        """Return the logit of the second class minus the first, float [N], of uint8 [N, size, size, 3]."""
        return np.concatenate([self._answer(part).numpy() for part in _batches(squares)])

    def look(self, squares) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return what ``margins`` does, and what speaks for the second class by two methods, float [N, h, w]; signed.

        Grad-CAM is what ``explain`` answers; HiResCAM (Draelos & Carin 2020) multiplies the map by the gradient place
        by place, before the sum over channels, so that a channel's maximum counts at its own place only.
        """
        parts = [[each.numpy() for each in self._look(part)] for part in _batches(squares)]
        margins, plain, hires = (np.concatenate(each) for each in zip(*parts, strict=True))
        return margins, {"Grad-CAM": plain, "HiResCAM": hires}


def _batches(squares):
    squares = np.asarray(squares)
    return [squares[start : start + BATCH] for start in range(0, len(squares), BATCH)]


def for_class(signed, answered) -> np.ndarray:
    """Return the maps [N, h, w] in 0..1 for the classes ``answered``, int [N]."""
    return grad_cam.as_map(np.where(np.asarray(answered)[:, None, None] == 1, signed, -signed)).numpy()


def laid(found, size: int) -> np.ndarray:
    """Lay a map [h, w] over the square as the pictures do: float [size, size]."""
    square = overlay.Picture(np.zeros((size, size, 3), np.uint8), size, size)
    return overlay.in_place(found, square, size)[0]
