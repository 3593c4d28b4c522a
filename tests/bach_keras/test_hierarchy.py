from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.hierarchy import Hierarchy, Member, check_members
from bach_keras.network.head import Classifier
from bach_keras.preprocess import View
from bach_keras.provenance import Provenance
from bach_keras.tree import NODES
from datasets import phantom
from datasets.labels import CLASSES

SIZE = 32
VIEW = View(SIZE)
SEED = 0  # the root sends images both ways by the mean over the views too
TINY = {"blocks": (1, 1, 1, 1), "cardinality": 2, "base_width": 4, "stem": 8}


def network(image_size=SIZE):
    return Classifier(image_size, backbone=TINY)


def with_the_same_trunk(first):
    """Another network, with the first one's weights up to the trunk's end."""
    other = network()
    for layer in first.layers:
        if layer.weights and not layer.name.startswith(("layer3", "layer4", "head")):
            other.get_layer(layer.name).set_weights(layer.get_weights())
    return other


@pytest.fixture(scope="module")
def models():
    """Carci and norbe share a trunk, invis has its own; the root sends images both ways."""
    # The fixture that seeds each test comes after those of a module.
    keras.utils.set_random_seed(SEED)
    carci = network()
    found = {"carci": carci, "norbe": with_the_same_trunk(carci), "invis": network()}
    difference = np.sort(np.subtract(*np.transpose(probabilities(carci, images(), temperature=None))))
    last = carci.get_layer("head.dense2")
    kernel, _ = last.get_weights()
    last.set_weights([kernel, np.array([-difference[1:3].mean(), 0], np.float32)])
    return found


def images():
    rng = np.random.default_rng(0)
    levels = np.linspace(20, 230, 5)[:, None, None, None]
    return np.clip(levels + rng.normal(0, 25, (5, 40, 48, 3)), 0, 255).astype(np.uint8)


def probabilities(model, pictures, temperature=1.0):
    """Softmax of a Keras model's logits / temperature; the logits themselves for None."""
    logits = model(preprocess.normalise(preprocess.square(pictures, SIZE)), training=False)
    return logits.numpy() if temperature is None else tf.nn.softmax(logits / temperature).numpy()


def members(models):
    return [Member(name, model, VIEW, source=f"runs/{name}") for name, model in models.items()]


@pytest.fixture(scope="module")
def tree(models):
    return Hierarchy(members(models))


def test_soft_answer_is_the_product_by_hand(models, tree):
    answer = tree.images(images())
    by_hand = {name: probabilities(model, images()) for name, model in models.items()}
    carci, norbe, invis = by_hand["carci"], by_hand["norbe"], by_hand["invis"]
    expected = np.concatenate([carci[:, :1] * norbe, carci[:, 1:] * invis], axis=1)
    for name in NODES:
        np.testing.assert_allclose(answer[name], by_hand[name], atol=1e-5)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(np.sum(answer["probabilities"], axis=1), 1, atol=1e-5)
    assert [label.decode() for label in answer["label"].numpy()] == [CLASSES[i] for i in expected.argmax(axis=1)]


def test_routed_answer_is_the_chosen_specialists(models, tree):
    answer = tree.routed(images())
    by_hand = {name: probabilities(model, images()) for name, model in models.items()}
    chosen = by_hand["carci"].argmax(axis=1)
    assert set(chosen) == {0, 1}
    expected = np.zeros((len(chosen), 4))
    for row, group in enumerate(chosen):
        expected[row, 2 * group : 2 * group + 2] = by_hand[("norbe", "invis")[group]][row]
    found = answer["probabilities"].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found[expected == 0] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([answer["norbe"], answer["invis"]], axis=1), expected, atol=1e-5)
    assert [label.decode() for label in answer["label"].numpy()] == [CLASSES[i] for i in expected.argmax(axis=1)]


def test_labels_differ_only_where_the_likeliest_class_is_of_the_group_that_lost(models):
    """Soft takes the largest group x class, routed the largest group first.

    So they differ where the chosen specialist hesitates more than carci does: its larger answer is at least 1/2,
    the other's at most 1, hence carci gave the group that won less than 2/3. Were all answers of the three nodes
    equally likely, that would be 1 image in 18. Here norbe is made sure, invis unsure, and carci gives invis's group
    2/3 on half of the images that it sends there, so that it is many.
    """
    pictures = np.concatenate([images() + np.uint8(shift) for shift in range(0, 20, 5)])
    lead = np.subtract(*np.transpose(probabilities(models["carci"], pictures, temperature=None)))
    sure = {"carci": np.median(-lead[lead < 0]) / np.log(2), "norbe": 0.01, "invis": 100.0}
    tree = Hierarchy([replace(member, temperature=float(sure[member.node])) for member in members(models)])
    soft, routed = tree.images(pictures), tree.routed(pictures)
    winner = soft["carci"].numpy().max(axis=1)
    outside = soft["probabilities"].numpy().argmax(axis=1) // 2 != soft["carci"].numpy().argmax(axis=1)
    differ = soft["label"].numpy() != routed["label"].numpy()
    np.testing.assert_array_equal(differ, outside)
    assert 0 < differ.sum() < len(pictures), f"{differ.sum()} of {len(pictures)} labels differ"
    assert winner[differ].max() < 2 / 3


@pytest.mark.parametrize("method", ["images", "routed"])
def test_traced_equals_eager_for_any_number_of_images(tree, method):
    answer = getattr(tree, method)
    traced = tf.function(answer, input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
    for count in (1, 5):
        eager, graph = answer(images()[:count]), traced(images()[:count])
        np.testing.assert_allclose(graph["probabilities"], eager["probabilities"], atol=1e-5)


def stems(tree):
    """How often a tree's graph computes a stem, and so a trunk: each has one pooling."""
    traced = tf.function(tree.images).get_concrete_function(tf.TensorSpec((1, SIZE, SIZE, 3), tf.uint8))
    library = traced.graph.as_graph_def().library.function
    poolings = {body.signature.name for body in library if any(node.op == "MaxPool" for node in body.node_def)}
    calls = [operation.get_attr("f").name for operation in traced.graph.get_operations() if "Call" in operation.type]
    return sum(name in poolings for name in calls)


def test_trunks_are_shared_by_content(models, tree):
    carci = models["carci"]
    same = {"carci": carci, "norbe": models["norbe"], "invis": with_the_same_trunk(carci)}
    assert stems(Hierarchy(members(same))) == 1
    assert stems(tree) == 2


def test_a_tree_knows_what_its_members_saw(models):
    carci, *others = members(models)
    carci = replace(carci, config="bach", provenance=Provenance(frozenset("a"), frozenset("b"), frozenset(["paper"])))
    others = [
        replace(member, config="bisque", provenance=Provenance(frozenset("c"), protocols=frozenset(["patient"])))
        for member in others
    ]
    tree = Hierarchy([carci, *others])
    assert tree.provenance == Provenance(frozenset("ac"), frozenset("b"), frozenset(["paper", "patient"]))
    assert tree.configs == ("bach", "bisque")
    assert tree.view == VIEW


def test_average_by_weight_and_temperature(models):
    second = network()
    ensemble = [
        *(member for member in members(models) if member.node != "carci"),
        Member("carci", models["carci"], VIEW, weight=1.0, temperature=2.0),
        Member("carci", second, VIEW, weight=3.0, temperature=0.5),
    ]
    first = probabilities(models["carci"], images(), 2.0)
    expected = 0.25 * first + 0.75 * probabilities(second, images(), 0.5)
    np.testing.assert_allclose(Hierarchy(ensemble).images(images())["carci"], expected, atol=1e-5)


@pytest.mark.parametrize("missing", NODES)
def test_two_nodes_are_not_a_tree(models, missing):
    with pytest.raises(ValueError, match=f"none was given for {missing}. Only one node"):
        Hierarchy([member for member in members(models) if member.node != missing])


def test_no_member_at_all_is_refused(models):
    check_members(members(models))
    with pytest.raises(ValueError, match="none was given for carci, norbe, invis"):
        check_members([])


def test_image_sizes_must_agree(models):
    odd = [*members(models), Member("invis", network(64), View(64), source="runs/larger")]
    with pytest.raises(ValueError, match=r"one image size.*runs/invis 32, runs/larger 64"):
        Hierarchy(odd)


def test_stains_are_normalised_as_the_members_images_were(models, tree):
    pictures = np.stack([phantom.draw("benign", patient, 0)[::6, ::6] for patient in (1, 5)])
    normalised = [replace(member, view=View(SIZE, "macenko")) for member in members(models)]
    answer = Hierarchy(normalised).images(pictures)
    expected = tree.images(preprocess.square(pictures, SIZE, "macenko"))
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-6)
    plain = tree.images(pictures)
    assert np.abs(answer["carci"] - plain["carci"]).max() > 1e-4


def test_stain_normalisations_must_agree(models):
    first, *others = members(models)
    with pytest.raises(ValueError, match=r"one stain normalisation.*runs/carci macenko, runs/norbe none"):
        Hierarchy([replace(first, view=View(SIZE, "macenko")), *others])


def test_image_sizes_must_agree_without_sources_too(models):
    odd = [Member("carci", network(64), View(64)), *(Member(name, models[name], VIEW) for name in ("norbe", "invis"))]
    with pytest.raises(ValueError, match="one image size"):
        Hierarchy(odd)


@pytest.fixture(scope="module")
def trees(models, tree):
    """The tree by its number of views."""
    return {1: tree} | {views: Hierarchy(members(models), views=views) for views in (8, 24)}


def by_hand(models, pictures, views):
    """Each node's pairs for each view, by NumPy and Keras: node -> [N, views, 2]."""
    resized = preprocess.resize_shorter(pictures, SIZE).numpy()
    height, width = resized.shape[1:3]
    places = [1] if views == 8 else [0, 1, 2]
    squares = [
        resized[:, (height - SIZE) * place // 2 :, (width - SIZE) * place // 2 :][:, :SIZE, :SIZE] for place in places
    ]
    seen = [
        np.rot90(each, turns, axes=(1, 2))
        for square in squares
        for each in (square, square[:, :, ::-1])
        for turns in range(4)
    ]
    every, count = np.concatenate(seen), len(pictures)
    return {
        name: probabilities(model, every).reshape(len(seen), count, 2).swapaxes(0, 1) for name, model in models.items()
    }


@pytest.mark.parametrize(("views", "upright"), [(8, False), (24, False), (24, True)])
def test_a_nodes_answer_is_its_mean_over_the_views(models, trees, views, upright):
    pictures = images().transpose(0, 2, 1, 3) if upright else images()
    nodes = by_hand(models, pictures, views)
    carci, norbe, invis = (nodes[name].mean(axis=1) for name in ("carci", "norbe", "invis"))
    expected = np.concatenate([carci[:, :1] * norbe, carci[:, 1:] * invis], axis=1)
    answer = trees[views].images(pictures)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    leaves = np.concatenate([nodes["carci"][..., :1] * nodes["norbe"], nodes["carci"][..., 1:] * nodes["invis"]], -1)
    spread = leaves.std(axis=1)[np.arange(len(pictures)), expected.argmax(axis=1)]
    assert spread.max() > 1e-3
    np.testing.assert_allclose(answer["spread"], spread, atol=1e-5)
    assert answer["spread"].dtype == tf.float32


@pytest.mark.parametrize("views", [8, 24])
def test_carcis_mean_over_the_views_chooses_the_specialist(models, trees, views):
    nodes = by_hand(models, images(), views)
    answer = trees[views].routed(images())
    chosen = nodes["carci"].mean(axis=1).argmax(axis=1)
    assert set(chosen) == {0, 1}
    for row, group in enumerate(chosen):
        pairs = nodes[("norbe", "invis")[group]][row]
        expected = np.zeros(4)
        expected[2 * group : 2 * group + 2] = pairs.mean(axis=0)
        np.testing.assert_allclose(answer["probabilities"][row], expected, atol=1e-5)
        assert answer["label"][row].numpy().decode() == CLASSES[expected.argmax()]
        np.testing.assert_allclose(answer["spread"][row], pairs.std(axis=0)[0], atol=1e-5)


@pytest.mark.parametrize(("views", "method"), [(1, "images"), (8, "routed"), (24, "images"), (24, "routed")])
def test_a_prepared_image_is_answered_as_the_whole_one(trees, views, method):
    tree = trees[views]
    answer = tf.function(getattr(tree, method), input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
    whole, part = answer(images()), answer(tree.prepare(images()))
    for name, value in whole.items():
        np.testing.assert_array_equal(part[name], value, err_msg=name)
    assert answer(images()[:0])["probabilities"].shape == (0, 4)
    assert ("spread" in whole) == (views > 1)


def test_the_stains_of_all_views_are_measured_on_the_central_square(models, trees):
    pictures = np.stack([phantom.draw("benign", patient, 0)[::6, ::6] for patient in (1, 5)])
    stained = [replace(member, view=View(SIZE, "macenko")) for member in members(models)]
    resized, known = View(SIZE, "macenko").resized(pictures)
    assert known.numpy().all()
    answer = Hierarchy(stained, views=24).images(pictures)
    expected = trees[24].images(resized)
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-5)


def test_features_are_of_the_central_square_whatever_the_views(trees):
    expected = trees[1].features(images())
    for views in (8, 24):
        found = trees[views].features(images())
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("views", [8, 24])
def test_a_graph_of_many_views_holds_each_network_once(trees, views):
    for method in (trees[views].images, trees[views].routed):
        traced = tf.function(method).get_concrete_function(tf.TensorSpec((None, None, None, 3), tf.uint8))
        definition = traced.graph.as_graph_def()
        nodes = [*definition.node, *(node for body in definition.library.function for node in body.node_def)]
        called = [node.attr["f"].func.name for node in nodes if "PartitionedCall" in node.op]
        assert len(called) == len(set(called)) == 5  # two trunks and three nodes behind them


@pytest.mark.parametrize("views", [0, 2, -8, 25, "8"])
def test_another_number_of_views_is_refused(models, views):
    with pytest.raises(ValueError, match=f"1, 8, 24 views, not {views}"):
        Hierarchy(members(models), views=views)


@pytest.mark.parametrize("name", NODES)
def test_a_node_by_itself_answers_its_two_classes(models, name):
    second = network()
    alone = [Member(name, models[name], VIEW), Member(name, second, VIEW, weight=3.0)]
    expected = 0.25 * probabilities(models[name], images()) + 0.75 * probabilities(second, images())
    node = Hierarchy(alone)
    assert (node.nodes, node.classes) == ((name,), NODES[name].classes)
    for answer in (node.images(images()), node.routed(images())):
        assert set(answer) == {"probabilities", "label", name}
        np.testing.assert_allclose(answer[name], expected, atol=1e-5)
        np.testing.assert_array_equal(answer["probabilities"], answer[name])
        assert [label.decode() for label in answer["label"].numpy()] == [
            NODES[name].classes[i] for i in expected.argmax(axis=1)
        ]
    assert node.features(images()).shape[0] == len(images())


def test_a_node_by_itself_has_views_too(models):
    pairs = by_hand({"invis": models["invis"]}, images(), 24)["invis"]
    answer = Hierarchy([Member("invis", models["invis"], VIEW)], views=24).routed(images())
    np.testing.assert_allclose(answer["invis"], pairs.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(answer["spread"], pairs.std(axis=1)[:, 0], atol=1e-5)


def test_a_tree_has_all_nodes_and_the_four_classes(models):
    tree = Hierarchy(members(models))
    assert (tree.nodes, tree.classes, tree.views) == (tuple(NODES), CLASSES, 1)
