from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.hierarchy import Hierarchy
from bach_keras.serving.images import as_png
from datasets import phantom
from datasets.labels import CLASSES

TISSUE = np.stack([phantom.draw(label, 903, 0) for label in CLASSES])


@pytest.fixture(scope="module")
def pooled(members):
    """The mean over places of carci's last feature map, by Keras."""
    carci = members[0].model
    body = keras.Model(carci.input, carci.get_layer("head.mean").output)
    return body(preprocess.normalise(preprocess.square(TISSUE, members[0].view.image_size)), training=False).numpy()


def assert_alike(found, pooled):
    """Features have no fixed scale: float32 rounding goes with the largest of them."""
    np.testing.assert_allclose(found, pooled, rtol=0, atol=1e-5 * pooled.max())


def test_features_are_carcis_pooled_ones(members, pooled):
    found = Hierarchy(members).features(TISSUE).numpy()
    assert found.dtype == np.float32
    assert pooled.std() > 0.01
    assert_alike(found, pooled)


def test_of_several_carci_members_the_first_is_asked(members, pooled):
    again = [*members, replace(members[0], model=members[1].model)]
    assert_alike(Hierarchy(again).features(TISSUE), pooled)


def test_the_signature_gives_zeros_for_a_broken_image(export, pooled):
    signature = export.signatures["features"]
    answers = signature(image_bytes=tf.constant([as_png(TISSUE[0]), b"text", as_png(TISSUE[1])]))
    assert set(answers) == {"features", "ok"}
    assert answers["ok"].numpy().tolist() == [True, False, True]
    assert_alike(answers["features"].numpy()[[0, 2]], pooled[:2])
    assert not answers["features"].numpy()[1].any()
    assert signature(image_bytes=tf.zeros([0], tf.string))["features"].shape == (0, pooled.shape[1])
