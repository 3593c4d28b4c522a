from dataclasses import replace

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


def test_soft_answer_is_the_product_by_hand(models):
    answer = Hierarchy(members(models)).images(images())
    by_hand = {name: probabilities(model, images()) for name, model in models.items()}
    carci, norbe, invis = by_hand["carci"], by_hand["norbe"], by_hand["invis"]
    expected = np.concatenate([carci[:, :1] * norbe, carci[:, 1:] * invis], axis=1)
    for name in NODES:
        np.testing.assert_allclose(answer[name], by_hand[name], atol=1e-5)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(np.sum(answer["probabilities"], axis=1), 1, atol=1e-5)
    assert [label.decode() for label in answer["label"].numpy()] == [CLASSES[i] for i in expected.argmax(axis=1)]


def test_routed_answer_is_the_chosen_specialists(models):
    answer = Hierarchy(members(models)).routed(images())
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
def test_traced_equals_eager_for_any_number_of_images(models, method):
    answer = getattr(Hierarchy(members(models)), method)
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


def test_trunks_are_shared_by_content(models):
    carci = models["carci"]
    same = {"carci": carci, "norbe": models["norbe"], "invis": with_the_same_trunk(carci)}
    assert stems(Hierarchy(members(same))) == 1
    assert stems(Hierarchy(members(models))) == 2


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


def test_each_node_needs_a_member(models):
    with pytest.raises(ValueError, match="none was given for norbe, invis"):
        Hierarchy([Member("carci", models["carci"], VIEW)])


def test_no_member_at_all_is_refused(models):
    check_members(members(models))
    with pytest.raises(ValueError, match="none was given for carci, norbe, invis"):
        check_members([])


def test_image_sizes_must_agree(models):
    odd = [*members(models), Member("invis", network(64), View(64), source="runs/larger")]
    with pytest.raises(ValueError, match=r"one image size.*runs/invis 32, runs/larger 64"):
        Hierarchy(odd)


def test_stains_are_normalised_as_the_members_images_were(models):
    pictures = np.stack([phantom.draw("benign", patient, 0)[::6, ::6] for patient in (1, 5)])
    normalised = [replace(member, view=View(SIZE, "macenko")) for member in members(models)]
    answer = Hierarchy(normalised).images(pictures)
    expected = Hierarchy(members(models)).images(preprocess.square(pictures, SIZE, "macenko"))
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-6)
    plain = Hierarchy(members(models)).images(pictures)
    assert np.abs(answer["carci"] - plain["carci"]).max() > 1e-4


def test_stain_normalisations_must_agree(models):
    first, *others = members(models)
    with pytest.raises(ValueError, match=r"one stain normalisation.*runs/carci macenko, runs/norbe none"):
        Hierarchy([replace(first, view=View(SIZE, "macenko")), *others])


def test_image_sizes_must_agree_without_sources_too(models):
    odd = [Member("carci", network(64), View(64)), *(Member(name, models[name], VIEW) for name in ("norbe", "invis"))]
    with pytest.raises(ValueError, match="one image size"):
        Hierarchy(odd)
