from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf

from bach_keras.evidence.evaluate import evaluate
from bach_keras.evidence.stains import in_words, survey, tally
from bach_keras.preprocess import View
from bach_keras.provenance import Provenance
from bach_keras.serving.card import as_markdown
from bach_keras.training.batches import cache_images
from datasets.labels import CLASSES, LABELS
from tests.datasets.test_stain import stained
from tests.evidence.system import System
from tests.few_phantoms import RECIPE

BLANK = np.full((64, 64, 3), 255, np.uint8)
COUNTED = {"method": "macenko", "left": {"benign": 1, "invasive": 0}, "of": {"benign": 2, "invasive": 1}}


def records():
    return tf.data.Dataset.from_tensor_slices({
        "image": np.stack([stained(1.5, 1), BLANK, stained(0.25, 1.2)]),
        "label": np.array([LABELS.index(label) for label in ("benign", "benign", "invasive")], np.int64),
        "filename": [b"a", b"b", b"c"],
    })  # fmt: skip


class Stained:
    """Stands in for SplitData: the records are its test images."""

    config, protocol, held_out, data_dir = "bisque", "patient", "test", None
    files: ClassVar = {"train": ["x"], "validation": [], "test": ["a", "b", "c"]}
    labels: ClassVar = {"a": "benign", "b": "benign", "c": "invasive"}
    groups: ClassVar = {}
    origin: ClassVar = {"note": ""}
    prepared = SimpleNamespace(digests={"a": "a" * 64, "b": "b" * 64, "c": "c" * 64})

    def images(self, names):
        return records()


def test_images_that_were_left_are_counted_by_class():
    assert tally("macenko", ["invasive", "benign", "benign"], [True, False, True]) == COUNTED


def test_a_count_is_given_in_words():
    assert in_words(COUNTED) == "macenko left 1 of 3 images as they are: 1 of 2 benign, 0 of 1 invasive"
    assert in_words(COUNTED | {"left": {"benign": 0, "invasive": 0}}) == "macenko normalised all 3 images"


def test_every_method_is_tried_on_a_data_set():
    macenko, reinhard = survey(records(), 32)
    assert macenko == COUNTED
    assert reinhard == COUNTED | {"method": "reinhard"}


def test_the_cache_of_a_training_counts_them():
    targets = {LABELS.index("benign"): 0, LABELS.index("invasive"): 1}
    assert cache_images(records(), targets, replace(RECIPE, stain_normalisation="macenko").view).stains == COUNTED
    assert cache_images(records(), targets, RECIPE.view).stains is None


@pytest.mark.parametrize(("method", "counted"), [("macenko", COUNTED), ("none", None)])
def test_an_evaluation_counts_them(tmp_path, method, counted):
    system = System(Provenance(frozenset("x")), view=View(32, method))
    assert evaluate(system, Stained(), None, tmp_path).get("stains") == counted


def card(method, metrics):
    member = {"node": "carci", "source": "run", "weight": 1, "temperature": 1, "protocol": "paper", "metrics": metrics}
    return {
        "name": "tree", "classes": CLASSES, "image_size": 32, "limits": [], "data": {}, "trained_on": [],
        "chosen_on": [], "members": [member], "licence": "", "stain_normalisation": method,
    }  # fmt: skip


def test_the_card_says_how_many_of_each_class_were_left():
    page = as_markdown(card("macenko", {"stains": {"train": COUNTED}}))
    assert f"- carci run, train images: {in_words(COUNTED)}." in page
    assert "was not counted" in as_markdown(card("macenko", {}))
    assert "train images" not in as_markdown(card("none", {}))
