"""The export with the true ResNeXt-50 (32x4d), at the paper's image size."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bach_keras.hierarchy import Hierarchy, Member
from bach_keras.network.head import Classifier
from bach_keras.preprocess import View
from bach_keras.serving.export import export_tree
from bach_keras.serving.images import as_png
from datasets import phantom
from datasets.labels import CLASSES


@pytest.mark.long
def test_the_tree_of_full_networks_answers_as_keras_does_and_keeps_its_trunk_once(tmp_path):
    carci = Classifier(288)
    members = [Member("carci", carci, View(288), config="phantom")]
    for seed, node in enumerate(("norbe", "invis"), start=1):
        model = Classifier(288, seed=seed)
        model.set_weights(carci.get_weights())
        model.get_layer("head.dense2").kernel.assign_add(np.full((512, 2), [0.0, 0.01 * seed], np.float32))
        members.append(Member(node, model, View(288), config="phantom"))
    out = export_tree(members, tmp_path / "tree" / "1")
    trunk = keras.Model(carci.input, carci.get_layer(carci.trunk_output).output)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    # In float32; three trunks instead of one would be two trunks more.
    assert size < 4 * (3 * carci.count_params() - trunk.count_params())
    signatures = tf.saved_model.load(str(out)).signatures
    tissue = [phantom.draw(label, 902, 0) for label in CLASSES[:2]]
    answers = signatures["serving_default"](image_bytes=tf.constant([as_png(image) for image in tissue]))
    expected = Hierarchy(members).images(np.stack(tissue))
    for name in ("probabilities", "carci", "norbe", "invis"):
        np.testing.assert_allclose(answers[name], expected[name], atol=1e-4)
