"""A tree of tiny networks that is sure of its answers, and an export that knows where it is not."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from bach_keras import preprocess
from bach_keras.hierarchy import Hierarchy, Member
from bach_keras.network.head import Classifier
from bach_keras.preprocess import View
from bach_keras.provenance import Provenance
from bach_keras.tree import NODES
from datasets import phantom
from datasets.labels import CLASSES
from tests.calibrations import calibration, softened
from tests.few_phantoms import training_records

PATIENTS = 12
IMAGES = [phantom.draw(label, 910 + patient, 0) for patient in range(PATIENTS) for label in CLASSES]


@pytest.fixture(scope="session")
def export(exported):
    """The export of ``members``, loaded once; a test that changes it takes a copy."""
    from bach_keras.serving.exported import Export

    return Export(exported)


@pytest.fixture(scope="session")
def sure_members(recipe):
    """Three random networks whose last layer was solved for, so that no answer on IMAGES is near a tie.

    What a run of a few steps trains may be too wild for eight bits, and how wild is no matter of this test.
    """
    size = recipe.image_size
    inputs = preprocess.normalise(preprocess.square(np.stack(IMAGES), size))
    made = []
    for seed, node in enumerate(NODES.values()):
        keras.utils.set_random_seed(seed)
        model = Classifier(size, backbone=recipe.backbone, seed=seed)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.0  # so that they know the tissue at one look
        model(inputs, training=True)
        last = model.get_layer("head.dense2")
        hidden = keras.Model(model.input, last.input)(inputs, training=False).numpy()
        answers = [node.targets.get(label, 0) for label in CLASSES] * PATIENTS
        kernel = np.linalg.pinv(hidden) @ (3 * np.eye(2)[answers])
        last.set_weights([kernel.astype(np.float32), np.zeros(2, np.float32)])
        made.append(Member(node.name, model, View(size), source=f"runs/{node.name}", config="phantom"))
    return made


@pytest.fixture(scope="session")
def knowing(sure_members, few_phantoms, tmp_path_factory):
    """An export that knows the sixteen images of ``few_phantoms`` that train."""
    from bach_keras.serving.export import export_tree

    origin = Provenance(frozenset(few_phantoms.files["train"]), frozenset(), frozenset({"patient"}))
    members = [replace(member, provenance=origin) for member in sure_members]
    place = tmp_path_factory.mktemp("models") / "knowing" / "1"
    return export_tree(members, place, training=training_records(few_phantoms))


@pytest.fixture(scope="session")
def doubting(members):
    """The members of ``exported``, less sure, and thresholds that half of the answers for IMAGES reach."""
    soft = softened(members)
    given = np.sort(Hierarchy(soft).images(np.stack(IMAGES))["probabilities"].numpy(), axis=1)
    largest, second = (np.sort(given[:, place])[PATIENTS : PATIENTS + 2].mean() for place in (3, 2))
    return soft, calibration(soft, float(largest), float(second))


@pytest.fixture(scope="session")
def calibrated(doubting, tmp_path_factory):
    """A calibrated export."""
    from bach_keras.serving.export import export_tree

    soft, thresholds = doubting
    return export_tree(soft, tmp_path_factory.mktemp("models") / "doubting" / "1", calibration=thresholds)
