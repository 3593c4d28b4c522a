import keras
import numpy as np
import pytest
import tensorflow as tf

from bach_keras.network.convolution import Convolution
from bach_keras.network.resnext import Architecture, BatchNorm, MaxPool, ResNeXt, resnext50
from tests import few_phantoms

TINY = Architecture(**few_phantoms.TINY)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def must_compile(function, *args):
    """Whether XLA must compile any part of a function's graph."""
    graph = tf.function(function).get_concrete_function(*args).graph.as_graph_def()
    nodes = [*graph.node, *(node for part in graph.library.function for node in part.node_def)]
    return any(holder.attr["_XlaMustCompile"].b for holder in [*nodes, *graph.library.function])


def test_a_network_is_built_again_from_the_config_that_keras_saves(tiny):
    # The numbers of its architecture stand next to the others, as they always have in saved files.
    saved = {
        "input_shape": [None, None, 3], "include_top": True, "classes": 5, "name": "resnext50",
        **few_phantoms.TINY,
    }  # fmt: skip
    assert tiny.get_config() == {**saved, "input_shape": (None, None, 3), "normalisation": "imagenet"}
    again = ResNeXt.from_config(saved)
    assert [weight.path for weight in again.weights] == [weight.path for weight in tiny.weights]
    assert again.trunk_output == tiny.trunk_output


@pytest.fixture(scope="module")
def full():
    return resnext50((None, None, 3), include_top=True)


@pytest.fixture(scope="module")
def tiny():
    return ResNeXt((None, None, 3), include_top=True, classes=5, architecture=TINY)


def test_the_full_network_has_the_published_number_of_parameters(full):
    assert sum(int(np.prod(variable.shape)) for variable in full.trainable_variables) == 25_028_904


def test_layers_with_weights_are_named_as_in_torchvision(full):
    expected = {"conv1", "bn1", "fc"}
    for stage, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)):
        for block in range(blocks):
            expected |= {f"layer{stage}.{block}.{kind}{i}" for kind in ("conv", "bn") for i in (1, 2, 3)}
        expected |= {f"layer{stage}.0.downsample.{i}" for i in (0, 1)}
    assert {layer.name for layer in full.layers if layer.weights} == expected


def test_kernels_of_the_full_network_have_the_published_shapes(full):
    assert full.get_layer("conv1").kernel.shape == (7, 7, 3, 64)
    assert full.get_layer("layer1.0.conv2").kernel.shape == (3, 3, 4, 128)
    assert full.get_layer("layer4.2.conv2").kernel.shape == (3, 3, 32, 1024)
    assert full.get_layer("layer4.2.conv3").kernel.shape == (1, 1, 1024, 2048)


@pytest.mark.parametrize(
    ("height", "width", "places"),
    [
        (64, 64, [(16, 16), (16, 16), (8, 8), (4, 4), (2, 2)]),
        (45, 61, [(12, 16), (12, 16), (6, 8), (3, 4), (2, 2)]),
    ],
)
def test_each_stage_after_the_first_halves_the_sides(tiny, height, width, places):
    stages = keras.Model(tiny.inputs, [tiny.get_layer(name).output for name in tiny.stage_outputs])
    answers = stages(tf.constant(normal(2, height, width, 3)), training=False)
    expected = [(2, *place, depth) for place, depth in zip(places, (8, 32, 64, 128, 256), strict=True)]
    assert [tuple(answer.shape) for answer in answers] == expected
    assert [shape[1:] for shape in stages.compute_output_shape((2, height, width, 3))] == [
        shape[1:] for shape in expected
    ]


def test_the_stride_is_in_the_grouped_convolution(tiny):
    block = "layer2.0."
    strides = {name: tiny.get_layer(block + name).stride for name in ("conv1", "conv2", "conv3", "downsample.0")}
    assert strides == {"conv1": 1, "conv2": 2, "conv3": 1, "downsample.0": 2}


def test_the_top_gives_float32_logits(tiny):
    logits = tiny(tf.constant(normal(2, 45, 61, 3)), training=False)
    assert (tuple(logits.shape), logits.dtype) == ((2, 5), tf.float32)


@pytest.mark.parametrize("side", [8, 9])
def test_max_pool_pads_by_one(side):
    images = np.abs(normal(1, side, side, 2))
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    places = range(0, side, 2)
    expected = [[padded[0, y : y + 3, x : x + 3].max(axis=(0, 1)) for x in places] for y in places]
    np.testing.assert_array_equal(MaxPool()(images)[0], expected)


@pytest.fixture
def norms():
    """This batch norm and Keras's, with the same weights."""
    ours, theirs = BatchNorm(), keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    weights = [normal(6), normal(6, seed=1), normal(6, seed=2), 0.5 + np.abs(normal(6, seed=3))]
    for layer in (ours, theirs):
        layer.build((None, None, None, 6))
        layer.set_weights(weights)
    return ours, theirs


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_equals_keras(norms, training):
    images = tf.constant(3 * normal(4, 5, 7, 6) + 1)
    results = []
    for layer in norms:
        with tf.GradientTape() as tape:
            tape.watch(images)
            answer = layer(images, training=training)
            loss = tf.reduce_sum(answer**3)
        results.append([answer, *tape.gradient(loss, [images, layer.gamma.value, layer.beta.value])])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(results[0][0], results[1][0], atol=1e-5)


def test_batch_norm_moves_its_statistics_as_pytorch_does(norms):
    ours = norms[0]
    images = 3 * normal(4, 5, 7, 6) + 1
    mean, variance = ours.moving_mean.numpy(), ours.moving_variance.numpy()
    ours(images, training=True)
    batch_mean, batch_variance = images.mean((0, 1, 2)), images.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(ours.moving_mean, 0.9 * mean + 0.1 * batch_mean, atol=1e-5)
    np.testing.assert_allclose(ours.moving_variance, 0.9 * variance + 0.1 * batch_variance, rtol=1e-5)


def test_batch_norm_that_is_not_trainable_stays_as_it_is(norms):
    ours = norms[0]
    ours.trainable = False
    before = ours.get_weights()
    images = 3 * normal(4, 5, 7, 6) + 1
    np.testing.assert_array_equal(ours(images, training=True), ours(images, training=False))
    for one, other in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_saved_and_loaded_network_gives_equal_answers(tiny, tmp_path):
    images = tf.constant(normal(2, 45, 61, 3))
    tiny.save(tmp_path / "tiny.keras")
    loaded = keras.saving.load_model(tmp_path / "tiny.keras")
    assert type(loaded) is ResNeXt
    assert loaded.layer_groups == tiny.layer_groups
    np.testing.assert_array_equal(loaded(images, training=False), tiny(images, training=False))


def test_xla_must_compile_nothing(tiny):
    images = tf.constant(normal(1, 32, 32, 3))
    # Keras's own grouped convolution shows that the check sees what it looks for.
    assert must_compile(keras.layers.Conv2D(6, 3, groups=3), images)
    assert not must_compile(tiny, images)
    assert not must_compile(Convolution(6, 3, groups=3), images)


@pytest.fixture(params=["mixed_bfloat16", "mixed_float16"])
def half_precision(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield keras.config.dtype_policy().compute_dtype
    keras.config.set_dtype_policy(before)


def test_mixed_precision_computes_in_halves_and_keeps_float32(half_precision):
    model = ResNeXt((None, None, 3), include_top=True, classes=5, architecture=TINY)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    images = tf.constant(normal(2, 45, 61, 3))
    features = keras.Model(model.input, model.get_layer("layer4.0.relu").output)(images)
    assert features.dtype == half_precision
    logits = model(images, training=False)
    assert logits.dtype == tf.float32
    keras.config.set_dtype_policy("float32")
    exact = ResNeXt.from_config(model.get_config())
    exact.set_weights(model.get_weights())
    # bfloat16 keeps eight bits: a relative error of 2^-9 a value, gathered over thirteen layers.
    expected = exact(images, training=False)
    assert np.linalg.norm(logits - expected) / np.linalg.norm(expected) < 0.05


def test_mixed_precision_trains(half_precision):
    model = ResNeXt((32, 32, 3), include_top=True, classes=2, architecture=TINY)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, jit_compile=False)
    images, labels = normal(4, 32, 32, 3), np.array([0, 1, 0, 1])
    before = model.get_weights()
    # In float16 the first steps may overflow; each of those changes nothing but the scale of the loss.
    losses = [model.train_on_batch(images, labels) for _ in range(15)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    moved = [not np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True)]
    assert all(moved)
