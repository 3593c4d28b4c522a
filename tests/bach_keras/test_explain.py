"""Where the nodes looked: Grad-CAM in closed form, against TensorFlow's own gradients."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.hierarchy import Hierarchy, Member
from bach_keras.network import grad_cam
from bach_keras.network.head import Classifier
from bach_keras.preprocess import View
from bach_keras.tree import NODES
from datasets import phantom
from datasets.labels import CLASSES
from tests.few_phantoms import TINY

# 65 pixels make maps of 3 x 3 whose centres, 0, 32 and 64, lie on each other's places in a mirror.
SIZE = 65
TISSUE = np.stack([phantom.draw(label, 905, 0) for label in CLASSES])


def network(seed, image_size=SIZE):
    """A network of random weights whose batch norms know the tissue and whose biases are not 0."""
    keras.utils.set_random_seed(seed)
    model = Classifier(image_size, backbone=TINY, seed=seed)
    inputs = preprocess.normalise(preprocess.square(TISSUE, image_size))
    for _ in range(5):
        model(inputs, training=True)
    for name in ("head.bn1", "head.bn2"):
        gamma, beta, *moving = model.get_layer(name).get_weights()
        draws = np.random.default_rng(seed)
        model.get_layer(name).set_weights(
            [draws.normal(1, 0.3, gamma.shape), draws.normal(0, 0.3, beta.shape), *moving]
        )
    return model


def with_weights(weights):
    model = Classifier(SIZE, backbone=TINY)
    model.set_weights(weights)
    return model


@pytest.fixture(scope="module")
def members():
    return [Member(node, network(seed), View(SIZE), source=node, config="phantom") for seed, node in enumerate(NODES)]


def inputs(pictures=TISSUE):
    return preprocess.normalise(preprocess.square(pictures, SIZE))


def by_tape(model, pictures, answered):
    """Grad-CAM as the paper writes it, by TensorFlow's gradients."""
    body = keras.Model(model.input, grad_cam.last_map(model))
    head = keras.Model(grad_cam.last_map(model), model.output)
    maps = body(pictures, training=False)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        logits = head(maps, training=False)
        own = tf.gather(logits, answered, axis=1, batch_dims=1)
        score = own - tf.gather(logits, 1 - answered, axis=1, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2), keepdims=True)
    above = np.maximum(tf.reduce_sum(weights * maps, axis=-1).numpy(), 0)
    largest = above.max(axis=(1, 2), keepdims=True)
    return above / np.where(largest > 0, largest, 1)


def test_the_closed_form_is_the_tapes_gradient(members):
    answers = {name: value.numpy() for name, value in Hierarchy(members).explain(TISSUE).items()}
    taped = {m.node: by_tape(m.model, inputs(), answers[m.node].argmax(axis=1)) for m in members}
    chosen = answers["carci"].argmax(axis=1)[:, None, None]
    np.testing.assert_allclose(answers["carci_map"], taped["carci"], atol=1e-5)
    np.testing.assert_allclose(answers["specialist_map"], np.where(chosen, taped["invis"], taped["norbe"]), atol=1e-5)
    assert answers["carci_map"].shape == (len(TISSUE), 3, 3)
    assert answers["carci_map"].std() > 0.05


def test_the_answers_are_those_of_images(members):
    tree = Hierarchy(members)
    expected, found = tree.images(TISSUE), tree.explain(TISSUE)
    assert set(found) == {*expected, "carci_map", "specialist_map"}
    for name in ("probabilities", *NODES):
        np.testing.assert_array_equal(found[name], expected[name])


def test_maps_lie_from_0_to_1_and_reach_1_where_anything_speaks_for_the_class(members):
    answers = Hierarchy(members).explain(TISSUE)
    for name in ("carci_map", "specialist_map"):
        found = answers[name].numpy()
        largest = found.max(axis=(1, 2))
        assert found.min() >= 0
        assert ((np.abs(largest - 1) < 1e-6) | (largest == 0)).all()


def test_a_map_is_0_where_nothing_speaks_for_the_class(members):
    carci = with_weights(members[0].model.get_weights())
    last = carci.get_layer("head.dense2")
    last.set_weights([np.zeros_like(last.kernel), np.array([1, 0], np.float32)])
    answers = Hierarchy([replace(members[0], model=carci)]).explain(TISSUE)
    assert not answers["carci_map"].numpy().any()


def test_other_weights_in_the_last_layers_give_other_maps(members):
    """The check of Adebayo et al. (2018): a map that stays shows the image's edges, not what the network learned."""
    carci = members[0].model
    before = Hierarchy(members).explain(TISSUE)["carci_map"].numpy()
    other = with_weights(carci.get_weights())
    for name in ("head.dense1", "head.dense2"):
        layer = other.get_layer(name)
        draws = np.random.default_rng(3).normal(0, 0.1, layer.kernel.shape)
        layer.set_weights([draws.astype(np.float32), layer.get_weights()[1]])
    after = Hierarchy([replace(members[0], model=other), *members[1:]]).explain(TISSUE)["carci_map"].numpy()
    assert np.abs(after - before).mean() > 0.1


def mirrored(model):
    """The network that sees a mirrored image as ``model`` sees the image."""
    return with_weights([weight[:, ::-1] if weight.ndim == 4 else weight for weight in model.get_weights()])


def test_a_mirrored_network_gives_a_mirrored_image_the_mirrored_map(members):
    """The map is neither turned nor moved against the image: a network of symmetric kernels would be its own mirror."""
    squares = preprocess.square(TISSUE, SIZE).numpy()
    plain = Hierarchy(members).explain(squares)
    turned = Hierarchy([replace(m, model=mirrored(m.model)) for m in members]).explain(squares[:, :, ::-1])
    for name in ("carci_map", "specialist_map"):
        np.testing.assert_allclose(turned[name][:, :, ::-1], plain[name], atol=1e-4)
        assert np.abs(turned[name].numpy() - plain[name].numpy()).max() > 0.05


def test_a_cells_centre_lies_where_stride_says():
    """What a cell answers depends on the pixels around STRIDE times its place, and not on the middle of a tile."""
    body = Classifier(288, backbone=TINY).features()
    images = tf.random.normal((2, 288, 288, 3))
    with tf.GradientTape() as tape:
        tape.watch(images)
        of_cell = tf.reduce_sum(body(images, training=False)[:, 4, 4])
    pull = np.square(tape.gradient(of_cell, images).numpy()).sum(axis=(0, 3))
    for side in (pull.sum(axis=0), pull.sum(axis=1)):
        assert abs((side * np.arange(288)).sum() / side.sum() - 4 * grad_cam.STRIDE) < 8


def test_members_are_averaged_by_weight(members):
    second = replace(members[1], node="carci", weight=3.0)
    both = Hierarchy([members[0], second]).explain(TISSUE)
    answered = both["carci"].numpy().argmax(axis=1)
    maps = [by_tape(each.model, inputs(), answered) for each in (members[0], second)]
    mean = 0.25 * maps[0] + 0.75 * maps[1]
    np.testing.assert_allclose(both["carci_map"], mean / mean.max(axis=(1, 2), keepdims=True), atol=1e-5)


@pytest.mark.parametrize("views", [8, 24])
def test_of_several_views_the_maps_are_of_the_central_square(members, views):
    one, several = Hierarchy(members), Hierarchy(members, views=views)
    plain, found = one.explain(TISSUE[:4]), several.explain(TISSUE[:4])
    np.testing.assert_allclose(found["probabilities"], several.images(TISSUE[:4])["probabilities"], atol=1e-5)
    # Where the mean over the views answers another class, the map is of that class.
    same = plain["carci"].numpy().argmax(axis=1) == found["carci"].numpy().argmax(axis=1)
    assert same.any()
    np.testing.assert_allclose(found["carci_map"].numpy()[same], plain["carci_map"].numpy()[same], atol=1e-5)


def test_a_node_by_itself_has_its_own_map_alone(members):
    found = Hierarchy(members[1:2]).explain(TISSUE)
    assert set(found) == {"probabilities", "label", "norbe", "norbe_map"}


def test_no_image_has_no_map(members):
    assert Hierarchy(members).explain(np.zeros((0, 80, 90, 3), np.uint8))["specialist_map"].shape == (0, 3, 3)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_looks_at_the_same_places(members, precision):
    try:
        found = Hierarchy(members, precision).explain(TISSUE)["carci_map"].numpy()
    except tf.errors.OpError:
        pytest.skip(f"convolutions in {precision} cannot be computed here")
    assert found.dtype == np.float32
    exact = Hierarchy(members).explain(TISSUE)["carci_map"].numpy()
    # Single cells may differ, where a hidden unit near 0 falls on its other side.
    assert np.abs(found - exact).mean() < 0.1
