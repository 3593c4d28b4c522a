"""A system without a network, to be evaluated."""

from dataclasses import dataclass, field

import numpy as np

from bach_keras.preprocess import View
from bach_keras.provenance import Provenance


@dataclass
class System:
    """Stands in for a tree: answers the same for every image."""

    provenance: Provenance
    probabilities: tuple = (0.1, 0.7, 0.1, 0.1)
    view: View = field(default_factory=lambda: View(32))
    configs: tuple = ("bisque",)

    def images(self, images):
        pair = np.full((len(images), 2), 0.5)
        return {
            "probabilities": np.tile(self.probabilities, (len(images), 1)), "label": [b"benign"] * len(images),
            "carci": pair, "norbe": pair, "invis": pair,
        }  # fmt: skip
