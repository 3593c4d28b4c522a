"""An export read back: a tree, or one node."""

import functools
import hashlib
import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.evidence.neighbours import FILE as INDEX
from bach_keras.evidence.neighbours import Index
from bach_keras.export_files import check_class_names, check_files
from bach_keras.fields import FieldError, read_object
from bach_keras.preprocess import View
from bach_keras.provenance import Provenance
from bach_keras.serving.answers import Outputs
from bach_keras.serving.card import CARD, calibration_of, check_card, outputs_of, ranges_of, warnings_of
from bach_keras.serving.images import as_png, as_seen
from bach_keras.serving.operations import check_operations
from bach_keras.version_folder import loadable, version_folder
from datasets.digest import sha256_of
from datasets.errors import UserError, WorkError

_EXPLAIN = "explain"
# Routing -> the signature that answers so for files, and for pixels.
ROUTINGS = {"soft": "serving_default", "routed": "routed"}
OF_PIXELS = {"soft": "images", "routed": "routed_images"}


class Export:
    """An exported tree or node; of a folder above version folders it is the highest version.

    It has what a ``Hierarchy`` says of itself (``view``, ``views``, ``nodes``, ``provenance``, ``configs`` and so on),
    and ``signatures`` as TensorFlow loads them. Its ``warnings`` are sentences that must be read before any of its
    answers.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = version_folder(Path(folder))
        try:
            check_files(self.folder)
            self.card = _card(self.folder)
            check_operations(self.folder / "saved_model.pb")
            with loadable(self.folder) as place:
                self._model = tf.saved_model.load(str(place))
            self.signatures = self._model.signatures
            self.calibration, self.ranges = calibration_of(self.card), ranges_of(self.card)
            self.outputs = outputs_of(self.card)
            _check_signatures(self.signatures, self.outputs, self.calibration is not None)
            check_class_names(self.folder, self.outputs.classes)
            self.provenance = _provenance(self.card)
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            raise WorkError(f"{self.folder} cannot be loaded: the memory of this machine is used up.") from error
        except Exception as error:  # TensorFlow may raise nearly anything for a damaged file
            reason = f" ({str(error).rstrip('.')})" if isinstance(error, FieldError) else ""
            raise UserError(
                f"{self.folder} is not an export of this project that can be read{reason}: export it again."
            ) from error
        self.warnings = warnings_of(self.card)
        self.precision = self.card.get("precision", "float32")
        if self.precision != "float32":
            self.warnings += _slow_here(self.precision)
        self.view = View(self.card["image_size"], self.card.get("stain_normalisation", "none"))
        self.configs = tuple(sorted(set(self.card["configs"])))

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the files that answer: the graph, the weights and the assets, each with its name."""
        return digest_of(self.folder)

    @property
    def side(self) -> int:
        """The height of what ``prepared`` makes."""
        return self.view.image_size

    @property
    def views(self) -> int:
        return self.outputs.views

    @property
    def nodes(self) -> tuple[str, ...]:
        return self.outputs.nodes

    @property
    def classes(self) -> tuple[str, ...]:
        return self.outputs.classes

    def prepare(self, image):
        """Return what ``images`` sees of an image, as ``Hierarchy.prepare`` does: TensorFlow ops."""
        return preprocess.part(image, self.side, self.views)

    def prepared(self, pixels: np.ndarray) -> np.ndarray:
        """Return what ``classify`` takes in place of an image, uint8 [H, W, 3]; threads may call it."""
        return as_seen(pixels, self.side, self.views)

    def classify(self, images: list, routing: str = "soft") -> dict[str, tf.Tensor]:
        """Classify images that ``prepared`` made, and the bytes of files, together."""
        are_pixels = not any(isinstance(image, bytes) for image in images)
        if are_pixels and OF_PIXELS[routing] in self.signatures:  # older exports route files only
            return self.images(np.stack(images), routing)
        return self.encoded(_as_files(images), routing)

    def images(self, images, routing: str = "soft") -> dict[str, tf.Tensor]:
        """Classify uint8 [N, H, W, 3]; see ``bach_keras.hierarchy.Hierarchy.images``."""
        return self._asked(OF_PIXELS[routing], images=tf.constant(images))

    def encoded(self, data: list[bytes], routing: str = "soft") -> dict[str, tf.Tensor]:
        """Classify PNG, JPEG or BMP files of any sizes."""
        return self._asked(ROUTINGS[routing], image_bytes=tf.constant(data))

    @property
    def explains(self) -> bool:
        """Whether it says where its nodes looked; older exports do not."""
        return _EXPLAIN in self.signatures

    def explain(self, images: list) -> dict[str, tf.Tensor]:
        """Return what ``Hierarchy.explain`` does, of what ``classify`` takes; zeros for what cannot be decoded."""
        return self._asked(_EXPLAIN, image_bytes=tf.constant(_as_files(images)))

    @functools.cached_property
    def index(self) -> Index:
        """The index of its training images; a UserError is raised of an export without one."""
        if "index" not in self.card:
            raise UserError(
                f"{self.folder} has no index of its training images: it is of an earlier version, or they were not "
                "prepared where it was made. Export its runs again."
            )
        return Index.read(self.folder / "assets.extra" / INDEX, self.card["index"]["sha256"])

    def features(self, images: list) -> np.ndarray:
        """Return what ``Hierarchy.features`` does, of what ``classify`` takes; zeros for what cannot be decoded."""
        return self._asked("features", image_bytes=tf.constant(_as_files(images)))["features"].numpy()

    def _asked(self, signature: str, **inputs) -> dict[str, tf.Tensor]:
        """Call a signature; a graph that fails was damaged or changed, as no image makes a sound one fail."""
        try:
            return self.signatures[signature](**inputs)
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            raise WorkError(f"{self.folder} cannot answer: the memory of this machine is used up.") from error
        except tf.errors.OpError as error:
            reason = " ".join(error.message.split())[:200]
            raise WorkError(f"{self.folder} fails when it answers ({reason}): export its runs again.") from error


def digest_of(folder: Path) -> str:
    """Return ``Export.digest`` of a version folder."""
    digest = hashlib.sha256()
    parts = [folder / "saved_model.pb", *(folder / name for name in ("variables", "assets"))]
    paths = [path for part in parts for path in (sorted(part.rglob("*")) if part.is_dir() else [part])]
    for path in paths:
        if path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def read_export_card(folder: Path) -> tuple[Path, dict]:
    """Return the version folder of an export and its model card, checked, without loading the model."""
    folder = version_folder(Path(folder))
    try:
        return folder, _card(folder)
    except UserError as error:
        raise UserError(
            f"{folder} is not an export that can be read ({str(error).rstrip('.')}): export it again."
        ) from error


def _as_files(images: list) -> list[bytes]:
    return [image if isinstance(image, bytes) else as_png(image) for image in images]


def _slow_here(precision: str) -> tuple[str, ...]:
    from bach_keras.network.half_precision import probe  # it brings Keras, which no other export needs

    return tuple(filter(None, [probe().warning(precision)]))


def _card(place: Path) -> dict:
    file = place / "assets" / CARD
    try:
        return check_card(read_object(file))
    except FieldError as error:
        raise FieldError(f"{file}: {error}") from error


def _provenance(card: dict) -> Provenance:
    try:
        return Provenance.read(card, frozenset(member.get("protocol", "") for member in card["members"]))
    except UserError as error:
        raise FieldError(f"{CARD}: {error}") from error


# What each signature that classifies takes and returns; None where a side of the shape is not fixed.
_TAKEN = {
    "serving_default": {"image_bytes": tf.TensorSpec([None], tf.string)},
    "routed": {"image_bytes": tf.TensorSpec([None], tf.string)},
    "images": {"images": tf.TensorSpec([None, None, None, 3], tf.uint8)},
    "routed_images": {"images": tf.TensorSpec([None, None, None, 3], tf.uint8)},
    _EXPLAIN: {"image_bytes": tf.TensorSpec([None], tf.string)},
}
# Older exports have no such signatures.
_OPTIONAL = {"routed_images", _EXPLAIN}


def _answers(outputs: Outputs, is_calibrated: bool) -> dict[str, tf.TensorSpec]:
    """Return what each of these signatures answers."""
    width = len(outputs.classes)
    doubt = {"unsure": tf.TensorSpec([None], tf.bool), "set": tf.TensorSpec([None, width], tf.bool)}
    return {
        **{name: tf.TensorSpec([None, count], tf.float32) for name, count in outputs.widths.items()},
        "label": tf.TensorSpec([None], tf.string),
        "ok": tf.TensorSpec([None], tf.bool),
        **dict.fromkeys(outputs.numbers, tf.TensorSpec([None], tf.float32)),
        **(doubt if is_calibrated else {}),
    }


# These are there only where the card says so.
_UNLESS_SAID = ("unsure", "set", "spread", "distance")


def _check_signatures(signatures, form: Outputs, is_calibrated: bool) -> None:
    """Refuse a model of something else, which would fail at the first image or whose answers would be misread."""
    of_all = _answers(form, is_calibrated)
    of_maps = [f"{form.nodes[0]}_map", *(["specialist_map"] if len(form.nodes) > 1 else [])]
    maps = dict.fromkeys(of_maps, tf.TensorSpec([None, None, None], tf.float32))
    for name, taken in _TAKEN.items():
        wanted = of_all | (maps if name == _EXPLAIN else {})
        if name not in signatures:
            if name in _OPTIONAL:
                continue
            raise FieldError(f"saved_model.pb has no signature {name}")
        given = signatures[name].structured_input_signature[1]
        if set(given) != set(taken):
            raise FieldError(f"saved_model.pb: {name} takes other things than {', '.join(sorted(taken))}")
        _check_specs(name, taken, given)
        outputs = signatures[name].structured_outputs
        if not set(wanted) <= set(outputs):
            raise FieldError(f"saved_model.pb: {name} answers other things than {', '.join(sorted(wanted))}")
        if unsaid := [each for each in _UNLESS_SAID if each in outputs and each not in wanted]:
            raise FieldError(f"saved_model.pb: {name} answers {' and '.join(unsaid)}, of which the card says nothing")
        _check_specs(name, wanted, outputs)


def _check_specs(name, wanted, there):
    for part, spec in wanted.items():
        if there[part].dtype != spec.dtype or not spec.shape.is_compatible_with(there[part].shape):
            raise FieldError(f"saved_model.pb: {part} of {name} is not {spec.dtype.name} {spec.shape}")
