"""A tree whose members expect images normalised in two ways: every form answers as the members do by themselves."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from bach_keras import exported_members, preprocess
from bach_keras.hierarchy import Hierarchy
from bach_keras.network.convolution import has_native_grouped_convolution
from bach_keras.network.head import Classifier
from bach_keras.network.resnext import normalisation_of
from bach_keras.provenance import Provenance
from bach_keras.serving.export import export_tree
from bach_keras.serving.exported import Export
from bach_keras.serving.tflite import convert as tflite
from bach_keras.serving.tflite.file import TFLite
from tests.serving.conftest import IMAGES

SOME = np.stack(IMAGES[:8])


@pytest.fixture(scope="module")
def mixed(sure_members):
    """Return members of which carci, with norbe's own trunk weights, is for pixels / 255."""
    carci, norbe, invis = sure_members
    unit = Classifier.from_config({
        **carci.model.get_config(), "backbone": {**carci.model.get_config()["backbone"], "normalisation": "unit"}
    })  # fmt: skip
    for layer in unit.layers:
        if layer.weights:
            same = norbe.model if layer.name.startswith(("conv1", "bn1", "layer1", "layer2")) else carci.model
            layer.set_weights(same.get_layer(layer.name).get_weights())
    seen = Provenance(frozenset({"a.tif"}), frozenset(), frozenset({"patient"}))
    return [replace(member, provenance=seen) for member in (replace(carci, model=unit), norbe, invis)]


def alone(member):
    squares = preprocess.square(SOME, member.view.image_size)
    return tf.nn.softmax(member.model(preprocess.normalise(squares), training=False)).numpy()


def test_the_tree_keeps_trunks_apart_that_differ_in_nothing_else(mixed):
    tree = Hierarchy(mixed)
    assert len(tree.networks.trunks) == 3
    answers = tree.images(SOME)
    for member in mixed:
        np.testing.assert_allclose(answers[member.node], alone(member), atol=1e-5)


@pytest.fixture(scope="module")
def exported(mixed, tmp_path_factory):
    return export_tree(mixed, tmp_path_factory.mktemp("models") / "1")


def test_an_export_answers_as_its_members_do(mixed, exported):
    answers = Export(exported).images(SOME)
    for member in mixed:
        np.testing.assert_allclose(answers[member.node], alone(member), atol=1e-5)


def test_what_starts_from_a_member_of_an_export_is_for_the_same_images(exported):
    found = {node: exported_members.find(f"{exported}:{node}", None) for node in ("carci", "norbe")}
    assert {node: normalisation_of(member.read_model()) for node, member in found.items()} == {
        "carci": "unit", "norbe": "imagenet"
    }  # fmt: skip


@pytest.mark.skipif(not has_native_grouped_convolution(), reason="nothing is converted where TensorFlow has no oneDNN")
@pytest.mark.parametrize(("quantize", "most"), [("none", 1e-5), ("float16", 2e-2), ("int8", None)])
def test_small_devices_get_it_too(mixed, tmp_path, quantize, most):
    tflite.convert(mixed, tmp_path / "tree.tflite", quantize, IMAGES)
    found = TFLite(tmp_path / "tree.tflite").images(SOME)
    for member in mixed:
        if most:
            np.testing.assert_allclose(found[member.node], alone(member), atol=most)
        else:
            assert np.median(np.abs(found[member.node] - alone(member))) < 0.05
