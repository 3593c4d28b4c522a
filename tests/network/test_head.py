import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from bach_keras.network.head import Classifier
from bach_keras.network.resnext import Architecture, ResNeXt
from tests.few_phantoms import TINY


@pytest.fixture(scope="module")
def classifier():
    return Classifier(64, backbone=TINY)


@pytest.fixture(scope="module")
def images():
    return tf.constant(np.random.default_rng(0).normal(size=(3, 64, 64, 3)), tf.float32)


def test_the_answer_is_two_float32_logits(classifier, images):
    logits = classifier(images, training=False)
    assert (tuple(logits.shape), logits.dtype) == ((3, 2), tf.float32)


def test_arrays_give_the_same_answers_as_tensors(classifier, images):
    np.testing.assert_array_equal(classifier(images.numpy(), training=False), classifier(images, training=False))


def test_images_may_have_an_odd_size():
    odd = Classifier(45, classes=3, backbone=TINY)
    assert tuple(odd(tf.ones((1, 45, 45, 3)), training=False).shape) == (1, 3)


def test_the_head_has_the_papers_layers(classifier):
    head = [layer for layer in classifier.layers if layer.name.startswith("head.")]
    kinds = [type(layer).__name__ for layer in head if "max" not in layer.name and "mean" not in layer.name]
    assert kinds == [
        "Concatenate", "BatchNormalization", "Dropout", "Dense",
        "ReLU", "BatchNormalization", "Dropout", "Dense",
    ]  # fmt: skip
    assert classifier.get_layer("head.pool").output.shape == (None, 2 * 32 * 8)
    assert [classifier.get_layer(f"head.dropout{i}").rate for i in (1, 2)] == [0.25, 0.5]
    assert classifier.get_layer("head.dense1").kernel.shape == (512, 512)
    assert classifier.get_layer("head.dense2").kernel.shape == (512, 2)


def test_pool_is_the_maximum_then_the_mean(classifier, images):
    ends = [classifier.get_layer(name).output for name in ("layer4.0.relu", "head.pool")]
    features, pooled = keras.Model(classifier.inputs, ends)(images, training=False)
    expected = np.concatenate([np.max(features, (1, 2)), np.mean(features, (1, 2))], axis=1)
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


def test_groups_hold_every_variable_exactly_once(classifier):
    patterns = classifier.layer_groups
    held = {
        variable.path: [name for name, pattern in patterns.items() if re.search(pattern, variable.path)]
        for variable in classifier.weights
    }
    wrong = {path: groups for path, groups in held.items() if len(groups) != 1}
    assert not wrong
    assert {groups[0] for groups in held.values()} == {"trunk", "middle", "head"}


def test_trunk_ends_where_its_group_ends(classifier):
    trunk = keras.Model(classifier.inputs, classifier.get_layer(classifier.trunk_output).output)
    pattern = classifier.layer_groups["trunk"]
    inside = {variable.path for variable in trunk.weights}
    assert inside == {variable.path for variable in classifier.weights if re.search(pattern, variable.path)}


def test_backbone_keeps_the_names_of_the_plain_network(classifier):
    body = ResNeXt((64, 64, 3), architecture=Architecture(**TINY))
    names = [layer.name for layer in classifier.layers if not layer.name.startswith("head.")]
    # The first is the input, which Keras numbers.
    assert names[1:] == [layer.name for layer in body.layers][1:]


def test_saved_and_loaded_classifier_gives_equal_answers(classifier, images, tmp_path):
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    assert type(loaded) is Classifier
    assert loaded.layer_groups == classifier.layer_groups
    assert loaded.trunk_output == classifier.trunk_output
    np.testing.assert_array_equal(loaded(images, training=False), classifier(images, training=False))


def test_dropout_follows_the_seed():
    ones = np.ones((2, 512), np.float32)
    first, again, other = (
        np.asarray(Classifier(64, backbone=TINY, seed=seed).get_layer("head.dropout2")(ones, training=True))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
