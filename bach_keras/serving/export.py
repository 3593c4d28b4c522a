"""The whole tree, or one node, as one SavedModel, a version folder that TF Serving loads as it is."""

import json
import logging
import shutil
from pathlib import Path

import tensorflow as tf

from bach_keras import exported_members, preprocess
from bach_keras.decoding.size import sized
from bach_keras.evidence.neighbours import FILE as INDEX
from bach_keras.evidence.survey import survey
from bach_keras.hierarchy import Hierarchy
from bach_keras.serving import warmup
from bach_keras.serving.agreement import HALF_PRECISION, compare
from bach_keras.serving.card import CARD, as_markdown, model_card
from bach_keras.serving.check_images import parts
from bach_keras.version_folder import is_plain, is_version
from datasets.errors import UserError, WorkError
from datasets.locked import only_one
from datasets.progress import bar
from datasets.whole import exchange

LOG = logging.getLogger(__name__)

SIGNATURES = ("serving_default", "images", "routed", "routed_images", "features", "explain", "card")


class Served(tf.Module):
    """A hierarchy with the signatures of the export; ``assets`` is a folder of the text files that go into it."""

    def __init__(self, hierarchy: Hierarchy, assets: Path):
        super().__init__(name="served")
        self.hierarchy = hierarchy
        self.card_text = (assets / CARD).read_text()
        self.assets = [tf.saved_model.Asset(str(path)) for path in sorted(assets.iterdir())]

    # tf.function requires that the first argument of a method with a signature is called self.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def serving_default(self, image_bytes):
        """Classify encoded images softly; see ``decode_each`` for broken ones."""
        return self._checked(image_bytes, self.hierarchy.images)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def routed(self, image_bytes):
        """Classify encoded images, each through the one specialist that carci chose."""
        return self._checked(image_bytes, self.hierarchy.routed)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
    def images(self, images):
        """Classify decoded images of one size softly."""
        return self._of_pixels(images, self.hierarchy.images)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
    def routed_images(self, images):
        """Classify decoded images of one size, each through the one specialist that carci chose."""
        return self._of_pixels(images, self.hierarchy.routed)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def features(self, image_bytes):
        """Return carci's pooled features of encoded images; zeros for broken ones."""
        images, ok = self._decode(image_bytes)
        return {"features": tf.where(ok[:, None], self.hierarchy.features(images), 0.0), "ok": ok}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def explain(self, image_bytes):
        """Classify encoded images softly, and say where the nodes on the path looked; zeros for broken ones."""
        return self._checked(image_bytes, self.hierarchy.explain)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "query")])
    def card(self, query):
        """Return the model card as JSON, once for each string given."""
        # No server shows the files in assets/, so a signature does.
        return {"card": tf.fill(tf.shape(query), self.card_text)}

    # A function of its own, so that the decoders are in the model once and not in each signature.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def _decode(self, image_bytes):
        return decode_each(image_bytes, self.hierarchy.view.image_size, self.hierarchy.views)

    def _of_pixels(self, images, classify):
        # Images with no pixels, too many, or too long a shape fail when run.
        with tf.control_dependencies([sized(tf.shape(images)[-3:-1])]):
            images = tf.identity(images)
        return {**classify(images), "ok": tf.ones(tf.shape(images)[:1], tf.bool)}

    def _checked(self, image_bytes, classify):
        images, ok = self._decode(image_bytes)
        answers = classify(images)
        blank = {name: tf.where(ok[:, None], answers[name], 0.0) for name in ("probabilities", *self.hierarchy.nodes)}
        blank |= {
            name: tf.where(ok[:, None, None], value, 0.0) for name, value in answers.items() if name.endswith("_map")
        }
        blank |= {name: tf.where(ok, answers[name], 0.0) for name in ("spread", "distance") if name in answers}
        # Nothing is said of an image that is not ok: it is not unsure either, and no class is in its set.
        if "unsure" in answers:
            blank |= {"unsure": answers["unsure"] & ok, "set": answers["set"] & ok[:, None]}
        return {**blank, "label": tf.where(ok, answers["label"], ""), "ok": ok}


def decode_each(image_bytes, size: int, views: int = 1):
    """Decode string [N] to what so many views are made of, uint8 [N, size, width, 3], and bool [N].

    A broken image is black and False.
    """
    count, shape = tf.shape(image_bytes)[0], (size, preprocess.part_width(size, views), 3)

    # tf.data drops an image that fails, while in a plain map it would fail the whole batch.
    def seen(index, data):
        return index, preprocess.part(preprocess.decode(data), size, views)

    decoded = (
        tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
        .map(seen, num_parallel_calls=tf.data.AUTOTUNE)
        .ignore_errors()
    )
    # One more row makes sure that there is a batch to take even when no image was good.
    spare = tf.data.Dataset.from_tensors((count, tf.zeros(shape, tf.uint8)))
    batch = preprocess.untuned(decoded.concatenate(spare).batch(tf.cast(count, tf.int64) + 1))
    rows, good = batch.get_single_element()
    # The images that were good are put back in their places; the spare row is dropped.
    images = tf.scatter_nd(rows[:, None], good, tf.stack([count + 1, *shape]))
    ok = tf.scatter_nd(rows[:, None], tf.ones_like(rows), [count + 1]) > 0
    return tf.ensure_shape(images[:count], (None, *shape)), ok[:count]


def check_destination(out, overwrite: bool = False) -> None:
    """Refuse a place where the export cannot go, or from which TensorFlow or TF Serving could not load it."""
    out = Path(out)
    if not is_plain(out):
        raise UserError(
            f"{out} cannot hold an export: TensorFlow takes [ and \\ in a path for a pattern, and a path must be text "
            "in UTF-8, so it could not load what it writes there. Choose another --out."
        )
    if not is_version(out.name):
        raise UserError(
            f"{out} cannot be served: TF Serving needs a version number as the last part, such as {out / '1'}."
        )
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists already: choose a higher version, or replace it with --overwrite.")
    if out.exists() and not (out / "saved_model.pb").is_file():
        raise UserError(f"{out} is not an export, so it is not replaced: choose another place.")


def export_tree(members, out, overwrite: bool = False, images=(), training=None, **of_tree) -> Path:
    """Write the SavedModel of a tree to its version folder ``out``, completely or not at all, and return the folder.

    Args:
        images: uint8 [H, W, 3] each, such as the tree will see. In half precision the written model answers for them
            as the tree does in float32 (``agreement.HALF_PRECISION``), or a UserError is raised.
        training: the images that trained the tree, as ``evidence.survey`` takes them; the export then knows them. Where
            they cannot be read, a line says so.
        of_tree: ``precision``, ``views`` and ``calibration``, as ``Hierarchy`` takes them. Every signature with labels
            answers what ``Hierarchy.images`` does.
    """
    out = Path(out)
    check_destination(out, overwrite)
    hierarchy = Hierarchy(members, **of_tree)
    LOG.info(f"joining {len(members)} networks into one {'tree' if len(hierarchy.nodes) > 1 else hierarchy.nodes[0]}")
    # A fixed name, so that what a killed export left behind goes with the next one.
    place = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(out):
            _restore(out)
            check_destination(out, overwrite)  # another export may have ended since, or one be there again
            shutil.rmtree(place, ignore_errors=True)
            try:
                version = _write(hierarchy, members, place, training, of_tree)
                if of_tree.get("precision", "float32") != "float32":
                    _check_numbers(version, Hierarchy(members, **{**of_tree, "precision": "float32"}), images, out)
                _replace(version, out)
            finally:
                shutil.rmtree(place, ignore_errors=True)
    except (OSError, tf.errors.OpError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error  # without its number
        raise WorkError(f"{out} could not be written, and what was there stays as it was: {reason}") from error
    return out


def _only_one(out: Path):
    refusal = f"Another process writes {out}: wait for it to end, or choose another --out."
    return only_one(out.with_name(f".{out.name}.lock"), refusal, "another export to it")


def _write(hierarchy: Hierarchy, members, place: Path, training, of_tree) -> Path:
    """Write a version folder inside a folder of its own, and return it."""
    assets, version = place / "assets", place / "version"
    assets.mkdir(parents=True)
    knows = _look_at(training, hierarchy, place)
    card = model_card(members, **of_tree, knows=knows)
    (assets / "class_names.txt").write_text("\n".join(hierarchy.classes) + "\n")
    (assets / CARD).write_text(json.dumps(card, indent=1) + "\n")
    served = Served(hierarchy, assets)
    LOG.info("writing the SavedModel")
    tf.saved_model.save(served, str(version), signatures={name: getattr(served, name) for name in SIGNATURES})
    extra = version / "assets.extra"
    extra.mkdir()
    if knows:
        (place / INDEX).rename(extra / INDEX)
    exported_members.write(version, members, hierarchy.networks, card["precision"])
    (extra / "model_card.md").write_text(as_markdown(card), encoding="utf-8")
    warmup.write(extra / warmup.NAME)
    return version


def _look_at(training, hierarchy: Hierarchy, place: Path) -> dict:
    """Make a tree know its training images, write their index into a folder, and return what a card says of it."""
    if training is None:
        return {}
    try:
        seen = survey(hierarchy, training)
    except UserError as error:
        LOG.warning(f"The export knows nothing of its training images, as they cannot be read: {error}")
        return {}
    hierarchy.compare_with(seen.index.features)
    digest = seen.index.write(place / INDEX)
    index = {"images": len(seen.index.images), "thumbnails": seen.index.thumbnails, "sha256": digest}
    return {"index": index, "ranges": seen.ranges.in_card()}


def _check_numbers(version: Path, tree: Hierarchy, images, out: Path) -> None:
    """Refuse an export in half precision that answers otherwise than its tree does in float32."""
    found, expected, seen = [], [], parts(images, tree.view.image_size, tree.views)
    exact, written = tf.function(tree.images), tf.saved_model.load(str(version)).signatures["images"]
    for part in bar(seen, what="check the export"):
        expected.append(exact(part)["probabilities"][0])
        found.append(written(images=part)["probabilities"][0])
    agreement = compare(found, expected)
    if not agreement.holds(HALF_PRECISION):
        raise UserError(
            f"{out} was not written: in half precision it does not answer as the tree does ({agreement}; "
            f"{HALF_PRECISION} is required). Take --precision float32, or give other --calibration images."
        )
    LOG.info(f"compared with the tree in float32: {agreement}")


def _replace(new: Path, place: Path) -> None:
    """Put a folder in another one's place, in one step where the file system can; else it comes back if that fails."""
    if place.exists() and exchange(new, place):
        return  # what was there goes with the folder that the new one was made in
    old = _aside(place)
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)  # a folder that is not empty cannot be replaced in one step
    try:
        new.rename(place)
    except OSError:
        _restore(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")


def _restore(place: Path) -> None:
    """Give an export its name back where its replacement ended between two renames."""
    if _aside(place).exists() and not place.exists():
        _aside(place).rename(place)
