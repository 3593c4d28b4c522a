"""The tree written as one TFLite file for small devices, after its answers were compared with the tree's.

The file answers for one picture of the training size at a time. After the model's end, where
interpreters do not look and any unzip does, is an archive with the class names and the
model card, as TFLite's own associated files are.
"""

import json
import logging
import random
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.hierarchy import Hierarchy
from bach_keras.network.convolution import has_native_grouped_convolution
from bach_keras.serving.agreement import LIMITS, Agreement, compare
from bach_keras.serving.card import CARD, model_card
from bach_keras.serving.tflite.file import TFLite
from bach_keras.serving.tflite.floats import converted
from bach_keras.serving.tflite.graph import Graph
from bach_keras.serving.tflite.int8 import quantised
from bach_keras.wording import counted
from datasets.bach_bisque.prepared import Prepared
from datasets.errors import UserError
from datasets.images.folder import find_images
from datasets.images.read import read_rgb
from datasets.labels import CLASSES
from datasets.progress import bar
from datasets.whole import whole

LOG = logging.getLogger(__name__)

# How many images are looked at; two thirds calibrate, a third is kept to check the file on.
IMAGES = 150
LEAST_IMAGES = 9

# The forms that are made with calibration images.
EIGHT_BITS = ("dynamic", "int8")

CLASS_NAMES = "class_names.txt"


def convert(members, file, quantize: str, images, overwrite: bool = False) -> Agreement:
    """Write the tree as a TFLite file, unless its answers differ from the tree's.

    Args:
        quantize: one of ``file.QUANTIZATIONS``: float32, float16 weights, 8-bit weights, or 8-bit
            weights and activations.
        images: uint8 [H, W, 3] each, such as the tree was trained on. ``int8`` calibrates its
            activations' ranges on two thirds of them, and the others check the file; otherwise all check it.
    """
    file = Path(file)
    check_destination(file, overwrite)
    check_members(members)
    LOG.info(f"joining {len(members)} networks into one tree")
    hierarchy = Hierarchy(members)
    squares = [hierarchy.view.square(image).numpy()[None] for image in bar(images, what="read images")]
    check_count(len(squares))

    # What the tree answers for the images that will check the file.
    is_rounded = quantize in EIGHT_BITS
    probes = squares[::3] if is_rounded else squares
    expected = _probabilities(tf.function(hierarchy.squares), probes, "ask the tree")
    if is_rounded and len(set(expected.argmax(axis=1))) == 1:
        raise UserError(
            f"The tree calls all {len(probes)} images to check on {CLASSES[expected[0].argmax()]}, so a file that "
            "always answers this would pass: give --calibration images of several classes."
        )

    LOG.info(f"converting the tree to TFLite ({quantize})")
    graph = converted(hierarchy, np.float16 if quantize == "float16" else np.float32)
    del hierarchy  # the graph has its own copy of the weights
    if is_rounded:
        graph = quantised(graph, quantize, [square for index, square in enumerate(squares) if index % 3])
    graph.refuse_other_shapes()
    LOG.info(f"writing {file}")
    return write_checked(graph, file, model_card(members) | {"quantize": quantize}, probes, expected)


def write_checked(graph: Graph, file: Path, card: dict, probes, expected) -> Agreement:
    """Write a model with its card, unless its answers for the probes, squares, differ too much from those expected."""
    quantize = card["quantize"]
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole(file) as partial:
        partial.write_bytes(graph.packed())
        with zipfile.ZipFile(partial, "a") as archive:
            archive.writestr(CLASS_NAMES, "\n".join(CLASSES) + "\n")
            archive.writestr(CARD, json.dumps(card, indent=1) + "\n")
        # A conversion that goes wrong gives no error, so the file itself is asked before it gets its name.
        agreement = compare(_probabilities(TFLite(partial).images, probes, "check the file"), expected)
        if not agreement.holds(LIMITS[quantize]):
            raise UserError(
                f"{file} was not written: the {quantize} form does not answer as the tree does ({agreement}; "
                f"{LIMITS[quantize]} is required). Choose another --quantize, or give other --calibration images."
            )
    return agreement


def check_destination(file, overwrite: bool = False) -> None:
    """Refuse a folder, and a file that may not be replaced."""
    if Path(file).is_dir():
        raise UserError(f"{file} is a folder: give a file, such as {Path(file) / 'tree.tflite'}.")
    if Path(file).exists() and not overwrite:
        raise UserError(f"{file} exists already: choose another name, or replace it with --overwrite.")


def check_members(members) -> None:
    """Refuse a tree that has no TFLite form, or would get a slow one."""
    if not has_native_grouped_convolution():
        raise UserError(
            "Without oneDNN, TensorFlow gives the grouped convolutions a form that is many times as slow in TFLite: "
            "convert on another machine, or without TF_ENABLE_ONEDNN_OPTS=0."
        )
    if any(member.view.stain_normalisation != "none" for member in members):
        raise UserError("A TFLite file cannot normalise stains: use runs trained without it, or the SavedModel.")


def check_count(count: int) -> None:
    """Refuse fewer images than are needed to make and check a file."""
    if count < LEAST_IMAGES:
        found = f"{counted(count, 'image')} {'is' if count == 1 else 'are'}"
        raise UserError(
            f"{found} too few to make and check a TFLite file: give at least {LEAST_IMAGES} with --calibration DIR."
        )


def folder_images(folder, most: int = IMAGES) -> Iterator[np.ndarray]:
    """Read some of a folder's images as uint8 [H, W, 3], always the same choice, each when it is needed."""
    return map(read_rgb, _some(find_images([folder]), most))


def training_images(members, most: int = IMAGES) -> Iterator[np.ndarray]:
    """Read some of the images that the first member was trained on, as ``folder_images`` does."""
    config = members[0].config
    names = _some(training_names(config, members[0].provenance.trained_on), most)
    records = Prepared(config).load(names)
    return (record["image"] for record in preprocess.untuned(records).as_numpy_iterator())


def training_names(config: str, trained_on: Iterable[str]) -> list[str]:
    """Return which of some images a data set that is prepared on this machine has; a UserError if it is not."""
    try:
        return sorted(set(trained_on) & {record.filename for record in Prepared(config).records})
    except UserError as error:
        raise UserError(f"The training images cannot be read ({error}) Give --calibration DIR.") from error


def _some(names: list, most: int) -> list:
    # A generator of its own draws the same images every time.
    return random.Random(0).sample(names, min(most, len(names)))


def _probabilities(form, squares, what: str) -> np.ndarray:
    return np.concatenate([np.asarray(form(square)["probabilities"]) for square in bar(squares, what=what)])
