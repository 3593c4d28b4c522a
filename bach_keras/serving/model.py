"""The way in from Python: a model that answers for files and for arrays, as ``predict`` does."""

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from bach_keras.serving.exported import ROUTINGS, Export
from bach_keras.serving.extras import Asked, check_asked, make_extras
from bach_keras.serving.formats import as_table
from bach_keras.serving.metadata import READERS
from bach_keras.serving.option_names import Argument
from bach_keras.serving.predict import predict_each
from bach_keras.serving.remote.client import Remote
from bach_keras.serving.views import with_views
from bach_keras.tree import VIEWS
from datasets.errors import UserError
from datasets.images.admission import NotTakenError, check_size
from datasets.images.compositing import on_white
from datasets.images.folder import find_images
from datasets.images.scale import LARGEST, SMALLEST

LOG = logging.getLogger(__name__)


class Answers(list):
    """A list of rows, one dict for each image, each as ``predict --format json`` prints it; ``print`` shows a table.

    A row that has ``error`` has no answer: the image could not be read.
    """

    def __init__(self, rows: Iterable[dict], classes: tuple[str, ...]):
        super().__init__(rows)
        self._classes = classes

    @property
    def labels(self) -> list[str | None]:
        """The label of each image; None of an error."""
        return [row.get("label") for row in self]

    @property
    def probabilities(self) -> np.ndarray:
        """The probabilities, float32 [N, classes], in the order of the model's ``classes``; NaN of an error."""
        none = dict.fromkeys(self._classes, np.nan)
        rows = [list((row.get("probabilities") or none).values()) for row in self]
        return np.array(rows, np.float32).reshape(-1, len(self._classes))

    def __str__(self):
        return "\n".join(line for _, line in as_table(self))


class Model:
    """What ``bach_keras.load`` returns. Its warnings are logged when it is made.

    Attributes:
        classes: the names of the classes, in the order of the probabilities, as the model's card says them.
        card: the model card, a dict; None of a server that has none to give.
        warnings: sentences that must be read before any answer, for example that the model learned from phantoms.
        export: the ``Export``, or the ``Remote`` of a server.
    """

    def __init__(self, export: Export | Remote, views: int | None = None):
        if views is not None and views not in VIEWS:
            raise UserError(f"views is {views!r}: choose {', '.join(map(str, VIEWS))}, or None for the model's own.")
        self.export, self._views = export, views
        self._averaged = with_views(export, views, Argument)
        self.classes, self.card, self.warnings = export.outputs.classes, export.card, self._averaged.warnings
        for sentence in self.warnings:
            LOG.warning(sentence)

    def __repr__(self):
        place = self.export.folder if isinstance(self.export, Export) else "on a server"
        return f"<Model of {', '.join(self.classes)}: {place}>"

    def predict(
        self,
        images,
        routing: str = "soft",
        *,
        um_per_pixel: float | None = None,
        icc: str = "note",
        explain: str | os.PathLike | None = None,
        neighbours: int | None = None,
    ) -> Answers:
        """Answer for images, as the command ``predict`` does with the options of these names.

            >>> from bach_keras import load
            >>> model = load("saved_models/demo/1")
            >>> answers = model.predict("slides/")
            >>> row = answers[0]
            >>> row["label"] == max(row["probabilities"], key=row["probabilities"].get)
            True
            >>> model.classes
            ('normal', 'benign', 'insitu', 'invasive')
            >>> answers.probabilities.shape == (len(answers), 4)
            True

        A file that cannot be read gives a row with ``error`` in its place. An argument that cannot be meant raises a
        ValueError before anything is answered.

        Args:
            images: a path, an array, or several of either. A path is a file or a folder, which is walked. An array is
                uint8, RGB, [height, width, 3] of any size, or [N, height, width, 3]; grey ([height, width], or one
                channel) and RGBA are taken as files of those kinds are. The ``path`` of an array's row is its place:
                ``images[0]``.
            routing: "soft", or "routed" for the specialist alone that carci chose.
            um_per_pixel: micrometres of a pixel of every image; None for what each file says.
            icc: "note" to name a file's colour profile, "apply" to convert the pixels to sRGB by it.
            explain: a folder for pictures of where the nodes looked. Rows then have ``explanation``.
            neighbours: how many training images to name that resemble each image. Rows then have ``neighbours``.
        """
        _check_choice("routing", routing, ROUTINGS)
        _check_choice("icc", icc, READERS)
        if um_per_pixel is not None and not SMALLEST <= um_per_pixel <= LARGEST:
            raise UserError(f"um_per_pixel is {um_per_pixel}: no microscope's is outside {SMALLEST} to {LARGEST}.")
        places, arrays = _places(images)
        folder = None if explain is None else Path(explain)
        asked = Asked(routing, self._views, um_per_pixel, icc, folder, neighbours)
        check_asked(asked, isinstance(self.export, Remote), Argument)
        paths = [place for place in places if isinstance(place, Path)]
        extras = make_extras(self.export, asked, paths, Argument)
        rows = predict_each(self._averaged, places, routing, extras, _reader(arrays, READERS[icc]))
        return Answers(rows, self.classes)


def open_model(model: str | os.PathLike, views: int | None = None) -> Model:
    """Return the ``Model`` of an export's folder, or of a server's address."""
    place = os.fspath(model)
    return Model(Remote(place) if "://" in place else Export(place), views)


def _check_choice(name: str, given, choices) -> None:
    if given not in choices:
        raise UserError(f"{name} is {given!r}: choose {' or '.join(map(repr, choices))}.")


def _places(images) -> tuple[list[Path | str], dict[str, np.ndarray]]:
    """Return images in order, each a file or the name of an array; and the arrays, RGB, by these names."""
    is_one = images.ndim != 4 if _is_array(images) else isinstance(images, (str, bytes, dict, os.PathLike))
    if is_one or not isinstance(images, Iterable):
        images = [images]
    places, arrays = [], {}
    for number, image in enumerate(images):
        if isinstance(image, (str, os.PathLike)):
            places += find_images([image])
        else:
            name = f"images[{number}]"
            places.append(name)
            arrays[name] = _rgb(name, image)
    return places, arrays


def _is_array(image) -> bool:
    return all(hasattr(image, name) for name in ("__array__", "dtype", "ndim"))


def _rgb(name: str, image) -> np.ndarray:
    """Return an array as RGB; refuse what only its owner can say the meaning of."""
    if not _is_array(image):
        # np.asarray of a Pillow image with a palette would be the numbers of colours, and not the colours.
        more = ": give np.asarray(image.convert('RGB'))" if hasattr(image, "convert") else ""
        raise UserError(f"{name} is a {type(image).__name__}, and neither a path nor a uint8 array{more}.")
    pixels = np.asarray(image)
    if pixels.dtype.kind == "f":
        raise UserError(
            f"{name} is {pixels.dtype}, of which nobody can tell whether 1 is white or nearly black: give uint8, 0 to "
            "255; if 1 is white, np.round(255 * image).astype(np.uint8)."
        )
    if pixels.dtype != np.uint8:
        raise UserError(f"{name} is {pixels.dtype}: give uint8, 0 to 255.")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise UserError(f"{name} has the shape {list(np.shape(image))}: give [height, width, 3], or a list of images.")
    if pixels.shape[2] == 4:
        return on_white(pixels[..., :3], pixels[..., 3])
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _reader(arrays: dict[str, np.ndarray], read: Callable[[Path], np.ndarray]) -> Callable:
    """Return what gives the pixels of an image that ``_places`` named."""

    def pixels_of(place):
        if isinstance(place, Path):
            return read(place)
        height, width = arrays[place].shape[:2]
        try:
            check_size(width, height)
        except NotTakenError as error:
            raise UserError(f"{place} {error}.") from None
        return arrays[place]

    return pixels_of
