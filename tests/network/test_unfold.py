"""A network from its folded form: as good as the one that was folded, to answer and to train."""

import keras
import numpy as np
import pytest

from bach_keras.network.fold import fold
from bach_keras.network.head import Classifier
from bach_keras.network.resnext import BatchNorm
from bach_keras.network.unfold import digest_of, lost_by_folding, unfolded

TINY = {"blocks": (1, 2, 1, 1), "cardinality": 2, "base_width": 4, "stem": 8}
PRECISIONS = {"float32": 1e-5, "bfloat16": 3e-2, "float16": 3e-3}


def squares(count=4):
    return np.random.default_rng(0).normal(size=(count, 64, 64, 3)).astype(np.float32)


@pytest.fixture
def network():
    """A classifier whose batch norms are as after a training: some factors negative, 0 or tiny."""
    model, random = Classifier(64, backbone=TINY), np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
        if isinstance(layer, BatchNorm):
            gamma = layer.gamma.numpy() * random.choice([-1, 1], layer.gamma.shape)
            gamma[:4] = 0, 1e-42, 1e-30, 3
            layer.gamma.assign(gamma)
    return model


def refilled(network, precision="float32"):
    """Fold a network and undo it; return the new one and what was kept for that."""
    twin = fold(network, precision=precision)

    def folded(layer, name):
        (found,) = [each for each in twin.get_layer(layer).weights if each.name == name]
        return np.asarray(found).astype(np.float32)

    lost = lost_by_folding(network, folded, precision)
    numbers = unfolded(Classifier(64, backbone=TINY), folded, lost)
    again = Classifier(64, backbone=TINY)
    for layer in again.layers:
        for weight in layer.weights:
            weight.assign(numbers.pop(f"{layer.name}/{weight.name}"))
    assert not numbers
    return again, lost


def off(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return np.linalg.norm(one - other) / np.linalg.norm(other)


@pytest.mark.parametrize("training", [False, True], ids=["answering", "training"])
def test_an_unfolded_network_answers_and_trains_as_the_one_that_was_folded(network, training):
    again, _ = refilled(network)
    for layer in (*again.layers, *network.layers):
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0
    # In training the batch's own statistics take the place of the running ones, so the kernels must be right by
    # themselves, and not only together with what they were folded with.
    assert off(again(squares(), training=training), network(squares(), training=training)) < 1e-5
    for one, other in zip(again.weights, network.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5, err_msg=one.path)  # statistics moved alike too


def test_a_channel_that_was_folded_away_is_given_back_bit_for_bit(network):
    again, lost = refilled(network)
    np.testing.assert_array_equal(lost["conv1/channels"], [0, 1])  # 1e-42 is below what float32 holds in full
    np.testing.assert_array_equal(again.get_layer("conv1").kernel[..., :2], network.get_layer("conv1").kernel[..., :2])
    assert np.abs(network.get_layer("conv1").kernel[..., 0]).max() > 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_half_precision_is_off_by_its_rounding_alone(network, precision):
    again, _ = refilled(network, precision)
    for one, other in zip(again.weights, network.weights, strict=True):
        most = np.abs(other).max()
        assert np.isfinite(one).all()
        assert np.abs(one.numpy() - other.numpy()).max() <= PRECISIONS[precision] * most, one.path
    assert off(again(squares(), training=False), network(squares(), training=False)) < 10 * PRECISIONS[precision]


def test_the_same_folded_network_gives_the_same_bits(network):
    digests = set()
    for _ in range(2):
        again, _ = refilled(network)
        digests.add(digest_of({f"{layer.name}/{w.name}": w.numpy() for layer in again.layers for w in layer.weights}))
    assert len(digests) == 1
