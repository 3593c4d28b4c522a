"""The model of a `bulk`, looked at once before anything starts."""

import os
from dataclasses import dataclass
from pathlib import Path

from bach_keras.evidence.ranges import Ranges
from bach_keras.serving.answers import Outputs
from bach_keras.serving.bulk.plan import Answering, Looking


@dataclass(frozen=True)
class ModelSeen:
    """What the processes that read and answer have to know of a model."""

    answering: Answering
    form: Outputs
    side: int
    ranges: Ranges | None
    warnings: tuple[str, ...]  # to be read before any of its answers

    def looking(self, time_limit: float, um_per_pixel: float | None, icc: str) -> Looking:
        return Looking(self.side, self.form.views, self.ranges, time_limit, None, um_per_pixel, icc)


def look_at_model(folder: Path, views: int | None, routing: str, batch: int) -> ModelSeen:
    """Load an export, so that one that cannot be used is refused, and return what is needed of it."""
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # this process computes nothing, and would take the GPU's memory
    from bach_keras.serving.exported import Export
    from bach_keras.serving.views import with_views

    export = with_views(Export(folder), views)
    answering = Answering(os.path.abspath(export.folder), export.digest, views, routing, batch)
    return ModelSeen(answering, export.outputs, export.side, export.ranges, tuple(export.warnings))
