from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from bach_keras import preprocess
from bach_keras.hierarchy import Hierarchy, Member
from bach_keras.network.convolution import has_native_grouped_convolution
from bach_keras.network.head import Classifier
from bach_keras.serving.tflite import floats, int8
from bach_keras.serving.tflite.graph import Graph
from tests.serving.conftest import IMAGES

pytestmark = pytest.mark.skipif(
    not has_native_grouped_convolution(), reason="nothing is converted where TensorFlow has no oneDNN"
)


def convert(members):
    return bytes(floats.converted(Hierarchy(members)).packed())


def answers(model, squares):
    run = Interpreter(model_content=bytes(model)).get_signature_runner()
    found = [run(images=square) for square in squares]
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def make_uneven(member):
    """The same network but for rounding, some channels within its blocks 200 times as large as their fellows."""
    model = Classifier.from_config(member.model.get_config())
    model.set_weights(member.model.get_weights())
    for block in ("layer1.0", "layer2.0", "layer3.0", "layer4.0"):
        norm, reader = model.get_layer(f"{block}.bn2"), model.get_layer(f"{block}.conv3")
        factors = np.where(np.arange(norm.gamma.shape[0]) % 4 == 0, 200, 1).astype(np.float32)
        norm.gamma.assign(norm.gamma * factors)
        norm.beta.assign(norm.beta * factors)
        reader.kernel.assign(reader.kernel / factors[:, None])
    return Member(member.node, model, member.view)


@pytest.fixture(scope="module")
def squares(recipe):
    return [preprocess.square(image, recipe.image_size).numpy()[None] for image in IMAGES]


@pytest.fixture(scope="module")
def uneven(sure_members):
    return convert([make_uneven(member) for member in sure_members])


@pytest.fixture(scope="module")
def sure(sure_members):
    return convert(sure_members)


def quantised(model, squares, quantize="int8"):
    return int8.quantised(Graph(model), quantize, squares).packed()


def equalised(model, squares):
    graph = Graph(model)
    extremes, *_ = int8._look(graph, squares)
    scales = int8._equalise(graph, extremes)
    return graph.packed(), extremes, scales


def test_equalised_channels_change_no_answer(uneven, squares):
    even, *_ = equalised(uneven, squares)
    expected, found = answers(uneven, squares), answers(even, squares)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)
    # Kernels that are no longer read take no room.
    assert len(even) < 1.05 * len(uneven)


def test_equalised_channels_use_their_range_alike(uneven, squares):
    _, extremes, scales = equalised(uneven, squares)
    spreads = []
    for tensor, scale in scales.items():
        peaks = np.abs(extremes[tensor]).max((0, 1))
        live = peaks > 1e-3 * peaks.max()
        spreads.append([np.log(values[live]).std() for values in (peaks, peaks / scale)])
    assert len(spreads) > 3 * 4 * 2  # three networks, four blocks, two maps within each at the least
    before, after = np.mean(spreads, axis=0)
    assert after < 0.7 * before


def test_uneven_channels_do_not_spoil_the_answers(uneven, squares, monkeypatch):
    expected = answers(uneven, squares)["probabilities"]

    def median_difference():
        found = answers(quantised(uneven, squares), squares)["probabilities"]
        return np.median(np.abs(found - expected).max(axis=1))

    with_equalisation = median_difference()
    monkeypatch.setattr(int8, "_equalise", lambda graph, extremes: {})
    assert with_equalisation < 0.05
    assert with_equalisation < 0.5 * median_difference()


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_channel_is_read_by_the_filters_of_its_group(groups):
    channels, filters = 8, 12
    kernel = np.random.default_rng(0).normal(size=(filters, 3, 3, channels // groups))
    scale = np.random.default_rng(1).uniform(1, 9, channels)
    use, read = np.zeros(channels), kernel.copy()
    for channel in range(channels):
        group, place = divmod(channel, channels // groups)
        own = slice(group * filters // groups, (group + 1) * filters // groups)
        use[channel] = np.abs(kernel[own, :, :, place]).max()
        read[own, :, :, place] *= scale[channel]
    np.testing.assert_array_equal(int8._use(kernel, channels), use)
    np.testing.assert_allclose(kernel * int8._as_read(scale, kernel), read)


def test_a_specialists_ranges_are_those_of_its_own_images(sure, squares):
    graph = Graph(sure)
    extremes, _, images_of = int8._look(graph, squares)
    # Two classes of four go to each.
    half = len(IMAGES) // 2
    assert {name: int(chosen.sum()) for name, chosen in images_of.items()} == {"norbe": half, "invis": half}
    own = int8._own(graph)
    assert set(own.values()) == {"norbe", "invis"}
    assert not set(own) & graph.before(graph.outputs["carci"])
    ranges = int8._ranges(graph, extremes, {}, images_of)
    told_apart = 0
    for tensor, values in extremes.items():
        name = own.get(tensor)
        chosen = values if name is None else values[images_of[name]]
        expected = np.quantile(chosen[:, 1].max(axis=1), int8.QUANTILE)
        np.testing.assert_allclose(ranges[graph.name(tensor)]["max"], expected, rtol=1e-6)
        told_apart += not np.isclose(expected, np.quantile(values[:, 1].max(axis=1), int8.QUANTILE))
    assert told_apart > 10


def leanings(model, made, squares, images_of):
    """By how much each node's log-odds are off at the median over the images that come to it."""
    exact, found = (answers(form, squares) for form in (model, made))
    margins = [
        {name: np.log(of[name][:, 1] / of[name][:, 0]) for name in ("carci", *images_of)} for of in (exact, found)
    ]
    chosen = {"carci": slice(None), **images_of}
    return [np.median((margins[1][name] - margins[0][name])[chosen[name]]) for name in chosen]


def test_no_node_leans_to_one_side(sure, squares, monkeypatch):
    *_, images_of = int8._look(Graph(sure), squares)
    corrected = leanings(sure, quantised(sure, squares), squares, images_of)
    monkeypatch.setattr(int8, "_biases", lambda *given: {})
    left = leanings(sure, quantised(sure, squares), squares, images_of)
    assert np.abs(corrected).max() < 1e-3 < np.abs(left).max()


def test_each_member_of_an_ensemble_is_corrected_on_its_own(sure_members, squares):
    """The same network once as it is and once at another temperature, whose logits are the first one's and more."""
    carci, norbe, invis = sure_members
    model = convert([carci, norbe, replace(norbe, temperature=2.0), invis, replace(invis, temperature=4.0, weight=0.5)])
    graph = Graph(model)
    _, margins, images_of = int8._look(graph, squares)
    assert len(margins) == len(graph.of_kind("SOFTMAX")) == 5
    made = quantised(model, squares)
    assert np.abs(leanings(model, made, squares, images_of)).max() < 0.05
    difference = answers(made, squares)["probabilities"] - answers(model, squares)["probabilities"]
    assert np.median(np.abs(difference).max(axis=1)) < 0.05


def test_what_the_model_says_of_itself_stays(sure, squares):
    def described(model):
        held = Graph(model).model
        return {entry.name: bytes(held.buffers[entry.buffer].data) for entry in held.metadata}

    assert b"min_runtime_version" in described(sure)
    assert described(quantised(sure, squares)).items() >= described(sure).items()


def test_a_specialist_no_image_comes_to_takes_the_ranges_of_all(sure, squares):
    graph = Graph(sure)
    extremes, _, images_of = int8._look(graph, squares)
    nobody = {name: np.zeros_like(chosen) for name, chosen in images_of.items()}
    everybody = {name: np.ones_like(chosen) for name, chosen in images_of.items()}
    found, expected = (int8._ranges(graph, extremes, {}, of) for of in (nobody, everybody))
    assert found == expected


def test_networks_that_share_their_kernels_stay_right(sure_members, squares):
    one = sure_members[0]
    # With another stem, so that the converter finds equal kernels and not one network.
    other = Classifier.from_config(one.model.get_config())
    other.set_weights(one.model.get_weights())
    other.get_layer("conv1").kernel.assign(0.5 * other.get_layer("conv1").kernel)
    model = convert([one, replace(one, node="norbe", model=other), replace(one, node="invis")])
    graph = Graph(model)
    convolutions = graph.of_kind("CONV_2D")
    assert len({graph.subgraph.tensors[op.inputs[1]].buffer for op in convolutions}) < len(convolutions)
    even, *_ = equalised(model, squares)
    found = answers(even, squares)
    for name, values in answers(model, squares).items():
        np.testing.assert_allclose(found[name], values, atol=1e-4)


def test_a_dead_map_is_left_alone(sure_members, squares):
    member = make_uneven(sure_members[0])
    norm = member.model.get_layer("layer2.0.bn1")
    norm.gamma.assign(0 * norm.gamma)
    norm.beta.assign(0 * norm.beta)
    model = convert([member, *sure_members[1:]])
    even, _, scales = equalised(model, squares)
    assert all(np.isfinite(scale).all() for scale in scales.values())
    np.testing.assert_allclose(
        answers(even, squares)["probabilities"], answers(model, squares)["probabilities"], atol=1e-4
    )
