"""The training images that an image resembles most, in the rows of ``predict``."""

from pathlib import Path

import numpy as np

from bach_keras.evidence.neighbours import Known
from bach_keras.serving.option_names import Option
from bach_keras.serving.picture_folder import check_folder, stem
from bach_keras.serving.predict import Extra
from datasets.errors import UserError, working
from datasets.whole import whole


def check_neighbours(export, count: int, paths=(), thumbnails: Path | None = None, names=Option) -> None:
    """Refuse an export without an index, more neighbours than it has, and thumbnails that cannot be written."""
    index = export.index
    if count > len(index.images):
        raise UserError(
            f"{names.named('neighbours', count)} is more than the {len(index.images)} training images that "
            f"{export.folder} knows: give fewer."
        )
    if thumbnails is None:
        return
    if not index.thumbnails:
        raise UserError(
            f"{export.folder} has no thumbnails of its training images, as their licence does not let them be passed "
            f"on: leave out {names.named('thumbnails')}."
        )
    check_folder(names.named("thumbnails"), thumbnails, paths)


class Neighbours(Extra):
    """A row has ``neighbours``, the ``count`` nearest training images, the nearest first.

    Their thumbnails are written into the folder ``thumbnails``, which is made; without one they are None.
    """

    def __init__(self, export, count: int, thumbnails: Path | None = None):
        self.index, self.count, self.folder = export.index, count, thumbnails
        self._written = set()
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)

    def ask(self, export, prepared):
        return {"features": export.features(prepared)}

    def fields(self, path, row, looked, asked):
        # A graph may have been tampered with.
        if not np.isfinite(asked["features"]).all():
            return {"error": "The model gives features that are NaN or infinite."}
        if asked["features"].shape != self.index.features.shape[1:]:
            return {"error": "The model gives features of another width than its index of training images has."}
        (nearest,) = self.index.nearest(asked["features"][None], self.count)
        found = [
            {
                "name": each.known.name,
                "label": each.known.label,
                "distance": each.distance,
                "percentile": each.percentile,
                "thumbnail": self.thumbnail(each.known),
            }
            for each in nearest
        ]
        return {"neighbours": found}

    def thumbnail(self, known: Known) -> str | None:
        """Return where the picture of a training image is to be found, if anywhere."""
        if not (self.folder and known.thumbnail):
            return None
        place = self.folder / f"{stem(known.name)}.jpg"
        if place not in self._written:  # one there already may be another model's
            with working(), whole(place) as partial:
                partial.write_bytes(known.thumbnail)
            self._written.add(place)
        return str(place)
