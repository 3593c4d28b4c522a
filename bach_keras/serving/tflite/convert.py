"""The tree as one TFLite file for small devices, held against the tree before it is written.

The file answers for one picture of the training size at a time. Behind its end, where
interpreters do not look and any unzip does, lies an archive with the class names and the
model card, as TFLite's own associated files do.
"""

import contextlib
import json
import os
import random
import threading
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from bach_keras import preprocess
from bach_keras.hierarchy import Hierarchy
from bach_keras.network.convolution import has_native_grouped_convolution
from bach_keras.serving.agreement import TOLERANCES, Agreement, allowed, compare
from bach_keras.serving.card import CARD, model_card
from bach_keras.serving.tflite.graph import Graph
from bach_keras.serving.tflite.int8 import PROCESSORS, quantised
from bach_keras.wording import counted
from datasets.bach_bisque.prepared import Prepared
from datasets.errors import UserError
from datasets.images.admission import NotTakenError, check_size
from datasets.images.folder import find_images
from datasets.images.read import read_rgb
from datasets.labels import CLASSES

QUANTIZATIONS = tuple(TOLERANCES)

# How many images are looked at; two thirds calibrate, a third is kept to check the file on.
IMAGES = 150
LEAST_IMAGES = 9

CLASS_NAMES = "class_names.txt"


class TFLite:
    """A TFLite file of the tree, run by LiteRT on the processor; threads may share one.

    Args:
        file: what ``convert`` wrote.

    Attributes:
        file: the same.
        card: its model card, with ``quantize`` beside what an export's holds.

    Raises:
        UserError: the file is not one of this project's.
    """

    def __init__(self, file: str | os.PathLike):
        self.file = Path(file)
        try:
            with zipfile.ZipFile(self.file) as archive:
                self.card = json.loads(archive.read(CARD))
            interpreter = Interpreter(os.fsencode(self.file), num_threads=PROCESSORS)
            self._run = interpreter.get_signature_runner()
            (taken,) = interpreter.get_input_details()
            _, self._size, *_ = map(int, taken["shape"])
            is_ours = self.card["image_size"] == self._size and self.card["quantize"] in QUANTIZATIONS
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
            raise UserError(f"{file} is no TFLite file of this project: make one with 'export --tflite'.") from error
        if not is_ours:
            raise UserError(f"{file} is not what its own card says: make it again with 'export --tflite'.")
        self._lock = threading.Lock()

    def images(self, images) -> dict[str, np.ndarray]:
        """Classify images of any one size softly; ``Hierarchy.images`` says what comes back, but for ``label``.

        Args:
            images: uint8 [N, H, W, 3], N not 0.

        Raises:
            UserError: they are anything else, or larger or longer than an export takes.
        """
        images = _as_batch(images)
        squares = preprocess.square(images, self._size).numpy()
        answers = [self._answer(square[None]) for square in squares]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _answer(self, square):
        # An interpreter has one place for its input and one for its answer.
        with self._lock:
            return self._run(images=square)


def _as_batch(images) -> np.ndarray:
    try:
        images = np.asarray(images)
    except ValueError:  # a list of several sizes
        images = np.empty(0, object)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size:
        raise UserError(
            f"Images are taken as uint8 [N, H, W, 3], all of one size, and not as {images.dtype} {list(images.shape)}: "
            "one image is images[None]."
        )
    height, width = images.shape[1:3]
    try:
        check_size(width, height)
    except NotTakenError as error:
        raise UserError(f"The image {error}.") from error
    return images


def convert(members, file, quantize: str, images, overwrite: bool = False) -> Agreement:
    """Write the tree as a TFLite file, unless its answers are not the tree's.

    Args:
        members: ``bach_keras.hierarchy.Member`` objects, at least one for each node.
        file: where to.
        quantize: one of ``QUANTIZATIONS``: float32, float16 weights, 8-bit weights, or 8-bit
            weights and activations.
        images: some of uint8 [H, W, 3], such as the tree was trained on; ``int8`` calibrates its
            activations' ranges on two thirds, and the rest, all of them otherwise, check the file.
        overwrite: replace a file that is there.

    Returns:
        How the file agrees with the tree.

    Raises:
        UserError: the file is there, too few images or, for ``int8``, images that the tree
            calls all the same, members that do not fit together or normalise stains, a
            TensorFlow without native grouped convolutions, or answers that differ too much
            from the tree's.
        OSError: it could not be written.
    """
    file = Path(file)
    check_destination(file, overwrite)
    check_members(members)
    hierarchy = Hierarchy(members)
    squares = [preprocess.square(image, hierarchy.image_size).numpy()[None] for image in images]
    check_count(len(squares))
    is_int8 = quantize == "int8"
    probes = squares[::3] if is_int8 else squares
    expected = _probabilities(tf.function(hierarchy.squares), probes)
    if is_int8 and len(set(expected.argmax(axis=1))) == 1:
        raise UserError(
            f"The tree calls all {len(probes)} images to check on {CLASSES[expected[0].argmax()]}, so a file that "
            "always answers so would pass: give --calibration images of several classes."
        )
    rest = [square for index, square in enumerate(squares) if index % 3]
    model = _convert(_frozen(hierarchy), quantize, rest)
    partial = file.with_name(f".{file.name}.part")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_bytes(model)
        with zipfile.ZipFile(partial, "a") as archive:
            archive.writestr(CLASS_NAMES, "\n".join(CLASSES) + "\n")
            archive.writestr(CARD, json.dumps(model_card(members) | {"quantize": quantize}, indent=1) + "\n")
        agreement = compare(_probabilities(TFLite(partial).images, probes), expected)
        if not agreement.holds(quantize):
            raise UserError(
                f"{file} was not written: the {quantize} form does not answer as the tree does ({agreement}; "
                f"{allowed(quantize)} is asked for). Choose another --quantize, or give other --calibration images."
            )
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return agreement


def check_destination(file, overwrite: bool = False) -> None:
    """Refuse a place where the file cannot go.

    Raises:
        UserError: it is a folder, or there is a file and ``overwrite`` is not set.
    """
    if Path(file).is_dir():
        raise UserError(f"{file} is a folder: give a file, such as {Path(file) / 'tree.tflite'}.")
    if Path(file).exists() and not overwrite:
        raise UserError(f"{file} is there already: choose another name, or replace it with --overwrite.")


def check_members(members) -> None:
    """Refuse a tree that has no TFLite form.

    Raises:
        UserError: its members normalise stains, or TensorFlow has no native grouped convolutions here.
    """
    if not has_native_grouped_convolution():
        raise UserError(
            "Without oneDNN, TensorFlow gives the grouped convolutions a form that is many times as slow in TFLite: "
            "convert on another machine, or without TF_ENABLE_ONEDNN_OPTS=0."
        )
    if any(member.stain_normalisation != "none" for member in members):
        raise UserError("A TFLite file cannot normalise stains: use runs trained without, or the SavedModel.")


def check_count(count: int) -> None:
    """Refuse fewer images than a file can be made and checked with.

    Raises:
        UserError: there are fewer than LEAST_IMAGES.
    """
    if count < LEAST_IMAGES:
        found = f"{counted(count, 'image')} {'is' if count == 1 else 'are'}"
        raise UserError(
            f"{found} too few to make and check a TFLite file: give at least {LEAST_IMAGES} with --calibration DIR."
        )


def folder_images(folder) -> Iterable[np.ndarray]:
    """Read at most IMAGES of a folder as uint8 [H, W, 3], always the same choice, one after the other.

    Raises:
        UserError: it holds no image.
        UserError: one cannot be read.
    """
    return map(read_rgb, _some(find_images([folder])))


def training_images(members) -> Iterable[np.ndarray]:
    """Read at most IMAGES that the first member trained on, as ``folder_images`` does.

    Raises:
        UserError: its data set is not prepared on this machine.
    """
    member = members[0]
    here = training_names(member.config, member.trained_on)
    with _asking_for_others():
        records = Prepared(member.config).load(_some(here))
    return (record["image"] for record in preprocess.untuned(records).as_numpy_iterator())


def training_names(config: str, trained_on) -> list[str]:
    """Return which of some images a prepared data set has here.

    Raises:
        UserError: it is not prepared on this machine.
    """
    with _asking_for_others():
        return sorted(set(trained_on) & {record.filename for record in Prepared(config).records})


@contextlib.contextmanager
def _asking_for_others():
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"The training images cannot be read ({error}) Give --calibration DIR.") from error


def _some(names: list) -> list:
    return random.Random(0).sample(names, min(IMAGES, len(names)))


def _frozen(hierarchy: Hierarchy) -> tf.lite.TFLiteConverter:
    """Return a converter of the tree, its inputs and outputs named.

    The converter turns variables, which the heads hold, into NaN without a word, so they are made constants first.
    """
    size = hierarchy.image_size
    one = [tf.TensorSpec([1, size, size, 3], tf.uint8, "images")]
    traced = tf.function(hierarchy.squares, input_signature=one).get_concrete_function()
    frozen = _with_plain_sums(convert_variables_to_constants_v2(traced))
    names = sorted(traced.structured_outputs)
    module = tf.Module()
    module.tree = tf.function(lambda images: dict(zip(names, frozen(images), strict=True)), input_signature=one)
    return tf.lite.TFLiteConverter.from_concrete_functions([module.tree.get_concrete_function()], module)


def _with_plain_sums(function):
    """Return a frozen function whose sums of two are AddV2: ADD_N has no fast kernel in LiteRT, and none of 8 bits."""
    graph = function.graph.as_graph_def()
    for node in graph.node:
        if node.op == "AddN" and node.attr["N"].i == 2:
            node.op = "AddV2"
            del node.attr["N"]
    whole = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    return whole.prune(*([tensor.name for tensor in part] for part in (function.inputs, function.outputs)))


def _convert(converter: tf.lite.TFLiteConverter, quantize: str, calibration) -> bytes:
    if quantize in ("float16", "dynamic"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    model = converter.convert()
    graph = Graph(quantised(model, calibration) if quantize == "int8" else model)
    graph.refuse_other_shapes()
    return graph.packed()


def _probabilities(form, squares) -> np.ndarray:
    return np.concatenate([np.asarray(form(square)["probabilities"]) for square in squares])
