"""Whether an image is one that a model can judge, by the ranges of its training images."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.evidence.quality import measures, scale_of_blur
from bach_keras.evidence.ranges import Ranges, warnings
from bach_keras.serving.predict import Extra
from datasets.errors import UserError


class Judgement(Extra):
    """Adds ``warnings``, as ``evidence.ranges`` gives them: none where all is well, null of a model without ranges.

    Args:
        ranges: of the model's training images.
        scale_of: returns how large a pixel of a file is, a ``datasets.images.scale.Scale`` or None.
    """

    def __init__(self, ranges: Ranges | None, scale_of: Callable):
        self._ranges, self._scale_of = ranges, scale_of

    def look(self, path, pixels):
        if self._ranges is None:
            return None
        scale, usual = self._scale_of(path), self._ranges.um_per_pixel
        # An image of unknown scale is taken to have that of training.
        found = measures(pixels, scale.value if scale and usual else usual, scale_of_blur(usual))
        return found | {"side": min(pixels.shape[:2]), "scale": scale and asdict(scale)}

    def fields(self, path, row, looked, asked):
        if looked is None:
            return {"warnings": None}
        measured = looked | {"features": row.get("distance"), "symmetry": row.get("symmetry")}
        return {"warnings": warnings(measured, self._ranges)}


class Symmetries(Extra):
    """Adds ``symmetry``: of an image's eight turns and reflections, the share with its label. Takes eight answers."""

    def __init__(self, export, routing: str = "soft"):
        if (views := export.outputs.views) > 1:
            raise UserError(
                f"The model averages {views} views of an image, so its label is the same for all turns and "
                "reflections: leave out --symmetries, or --views."
            )
        if export.side is None:
            raise UserError(
                "--symmetries needs the side of the squares that the model sees: its card does not tell it, or "
                "--send-whole sends whole images. Leave out --send-whole, or use the export itself with --model."
            )
        self._routing = routing

    def ask(self, export, prepared):
        answers = [export.classify(self._turned(export, image), self._routing) for image in prepared]
        labels = [np.asarray(each["label"]) for each in answers]
        first = {
            name: np.concatenate([np.asarray(each[name])[:1] for each in answers])
            for name in answers[0]
            if all(name in each for each in answers)
        }
        return {"answers": first, "symmetry": np.array([np.mean(each == each[0]) for each in labels])}

    def _turned(self, export, image) -> list:
        square = preprocess.decode(tf.constant(image)).numpy() if isinstance(image, bytes) else image
        views = preprocess.views_of(tf.constant(square), export.side, preprocess.SYMMETRIES).numpy()
        return [export.prepared(view) for view in views]

    def fields(self, path, row, looked, asked):
        return {"symmetry": float(asked["symmetry"])}
