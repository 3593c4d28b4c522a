"""Networks whose weights are for pixels / 255 alone, against an implementation in NumPy, border included."""

import io
import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.network.fold import fold
from bach_keras.network.head import Classifier, weight_count
from bach_keras.network.resnext import Architecture, Rescale, ResNeXt, normalisation_of
from bach_keras.network.weights import load_weights, port_torch
from bach_keras.trunks import digest_of
from datasets.errors import UserError
from tests.network import golden
from tests.network.layout_files import tiatoolbox, write
from tests.network.numpy_resnext import stages
from tests.network.small_network import CLASSES, draw_tensors, torchvision_shapes

SMALL = {"blocks": (1, 1, 1, 1), "cardinality": 2, "base_width": 2, "stem": 4}
UNIT = {**SMALL, "normalisation": "unit"}
# From black to white, so that a border of wrong zeros shows.
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 45, 37, 3)).astype(np.uint8)
# Without a top, and without PyTorch's counts.
TENSORS = golden.draw_tensors({
    name: shape for name, shape in torchvision_shapes().items() if shape and not name.startswith("fc.")
})  # fmt: skip


def network(backbone):
    model = ResNeXt((None, None, 3), architecture=Architecture(**backbone))
    port_torch(model, TENSORS)
    return model


def outputs(model, folded=False, **options):
    made = fold(model, **options) if folded else model
    ends = keras.Model(made.input, [made.get_layer(name).output for name in model.stage_outputs])
    return [np.asarray(each, np.float64) for each in ends(preprocess.normalise(PIXELS), training=False)]


def error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("folded", [False, True], ids=["plain", "folded"])
def test_pixels_over_255_give_the_activations_of_the_weights_own_network(folded):
    expected = stages(TENSORS, PIXELS / 255)
    found = outputs(network(UNIT), folded)
    for one, other in zip(found, expected, strict=True):
        assert error(one, other) < 1e-5
        # The corners and edges by themselves, which folding the statistics into conv1 would spoil.
        assert error(one[:, 0], other[:, 0]) < 1e-5
        assert error(one[:, :, -1], other[:, :, -1]) < 1e-5


def test_imagenets_statistics_give_theirs():
    normal = (PIXELS / 255 - preprocess.MEAN) / preprocess.DEVIATION
    for one, other in zip(outputs(network(SMALL)), stages(TENSORS, normal), strict=True):
        assert error(one, other) < 1e-5


def test_the_comparison_sees_a_normalisation_that_is_folded_into_the_first_convolution():
    """Which is right inside an image, and wrong along its border."""
    tensors = dict(TENSORS)
    deviation, mean = np.array(preprocess.DEVIATION), np.array(preprocess.MEAN)
    kernel = tensors["conv1.weight"]
    tensors["bn1.running_mean"] = tensors["bn1.running_mean"] - (kernel * mean[:, None, None]).sum((1, 2, 3))
    tensors["conv1.weight"] = kernel * deviation[:, None, None]
    expected, found = stages(TENSORS, PIXELS / 255), stages(tensors, (PIXELS / 255 - mean) / deviation)
    assert error(found[0][:, 3:-3, 3:-3], expected[0][:, 3:-3, 3:-3]) < 1e-6
    assert error(found[0][:, 0], expected[0][:, 0]) > 1e-3


def test_the_way_back_to_pixels_costs_only_rounding():
    values = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)[None, None]
    back = Rescale()(preprocess.normalise(values))
    np.testing.assert_allclose(back, values / 255, atol=1.2e-7)


def test_a_network_by_default_has_no_such_layer_and_the_weights_it_had():
    plain, unit = Classifier(32, backbone=SMALL), Classifier(32, backbone=UNIT)
    assert not any(isinstance(layer, Rescale) for layer in plain.layers)
    assert [weight.path for weight in plain.weights] == [weight.path for weight in unit.weights]
    assert weight_count(**UNIT) == weight_count(**SMALL) == unit.count_params()
    assert (normalisation_of(plain), normalisation_of(unit)) == ("imagenet", "unit")
    with pytest.raises(ValueError, match="normalisation must be one of imagenet, unit, not 'inception'"):
        Architecture(normalisation="inception")


def test_a_network_is_saved_with_it_and_one_from_before_has_the_default(tmp_path):
    unit = ResNeXt((32, 32, 3), architecture=Architecture(**UNIT))
    again = ResNeXt.from_config(unit.get_config())
    assert normalisation_of(again) == "unit"
    older = {name: value for name, value in unit.get_config().items() if name != "normalisation"}
    assert normalisation_of(ResNeXt.from_config(older)) == "imagenet"
    Classifier(32, backbone=UNIT).save(tmp_path / "model.keras")
    assert normalisation_of(keras.saving.load_model(tmp_path / "model.keras")) == "unit"
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert json.load(io.TextIOWrapper(archive.open("config.json")))["config"]["backbone"]["normalisation"] == "unit"


def test_equal_weights_for_other_images_are_another_trunk():
    one, other = network(SMALL), network(UNIT)
    for model in (one, other):
        model.trunk = keras.Model(model.input, model.get_layer(model.trunk_output).output)
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
    assert digest_of(one.trunk) != digest_of(other.trunk)
    assert digest_of(other.trunk) == digest_of(keras.Model(other.input, other.trunk.output))


def test_weights_are_refused_by_a_network_for_other_images(tmp_path):
    path = write(tmp_path / "w.pth", tiatoolbox(CLASSES))
    unit = ResNeXt((None, None, 3), architecture=Architecture(**UNIT))
    load_weights(unit, path)
    np.testing.assert_array_equal(unit.get_layer("bn1").gamma, draw_tensors()["bn1.weight"])
    with pytest.raises(UserError, match=r"is for pixels / 255 alone, .* and the network is for imagenet"):
        load_weights(ResNeXt((None, None, 3), architecture=Architecture(**SMALL)), path)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_stays_near(precision):
    exact = outputs(network(UNIT))
    found = outputs(network(UNIT), folded=True, precision=precision)
    assert error(found[-1], exact[-1]) < 0.05


def test_training_steps_go_through_it():
    model = Classifier(32, backbone=UNIT)
    images = preprocess.normalise(PIXELS[:, :32, :32])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(each is not None and np.isfinite(each).all() for each in gradients)
