"""The tree written as one TFLite file for small devices, after its answers were compared with the tree's.

The file answers for one picture of the training size at a time. After the model's end, where
interpreters do not look and any unzip does, is an archive with the class names and the
model card, as TFLite's own associated files are.
"""

import json
import logging
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from bach_keras.calibration import Calibration
from bach_keras.hierarchy import Hierarchy
from bach_keras.network.convolution import has_native_grouped_convolution
from bach_keras.serving.agreement import LIMITS, Agreement, compare
from bach_keras.serving.card import CARD, model_card
from bach_keras.serving.check_images import parts
from bach_keras.serving.tflite.file import TFLite
from bach_keras.serving.tflite.floats import converted
from bach_keras.serving.tflite.graph import Graph
from bach_keras.serving.tflite.int8 import quantised
from datasets.errors import UserError
from datasets.labels import CLASSES
from datasets.progress import bar
from datasets.whole import whole

LOG = logging.getLogger(__name__)

# The forms that are made with calibration images.
EIGHT_BITS = ("dynamic", "int8")

CLASS_NAMES = "class_names.txt"


def convert(
    members, file, quantize: str, images, overwrite: bool = False, calibration: Calibration | None = None
) -> Agreement:
    """Write the tree as a TFLite file, unless its answers differ from the tree's.

    Args:
        quantize: one of ``file.QUANTIZATIONS``: float32, float16 weights, 8-bit weights, or 8-bit
            weights and activations.
        images: uint8 [H, W, 3] each, such as the tree was trained on. ``int8`` calibrates its
            activations' ranges on two thirds of them, and the others check the file; otherwise all check it.
        calibration: of these members; the file's card names its thresholds.
    """
    file = Path(file)
    check_destination(file, overwrite)
    check_members(members)
    LOG.info(f"joining {len(members)} networks into one tree")
    hierarchy = Hierarchy(members, calibration=calibration)
    seen = parts(images, hierarchy.view.image_size)

    # What the tree answers for the images that will check the file.
    is_rounded = quantize in EIGHT_BITS
    probes = seen[::3] if is_rounded else seen
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
        graph = quantised(graph, quantize, [square for index, square in enumerate(seen) if index % 3])
    graph.refuse_other_shapes()
    LOG.info(f"writing {file}")
    card = model_card(members, calibration=calibration) | {"quantize": quantize}
    return write_checked(graph, file, card, probes, expected)


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
    if not has_native_grouped_convolution(gradients=False):
        raise UserError(
            "TensorFlow has no grouped convolutions on this machine, and what stands in for them is many times as slow "
            "in TFLite: convert on another machine."
        )
    if any(member.view.stain_normalisation != "none" for member in members):
        raise UserError("A TFLite file cannot normalise stains: use runs trained without it, or the SavedModel.")


def _probabilities(form, squares, what: str) -> np.ndarray:
    return np.concatenate([np.asarray(form(square)["probabilities"]) for square in bar(squares, what=what)])
