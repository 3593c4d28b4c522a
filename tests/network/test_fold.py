import keras
import numpy as np
import pytest
import tensorflow as tf

from bach_keras.network.convolution import has_native_grouped_convolution
from bach_keras.network.fold import fold
from bach_keras.network.head import Classifier
from bach_keras.network.resnext import Architecture, BatchNorm, ResNeXt
from callbacks.layer_groups import freeze

TINY = {"blocks": (1, 2, 1, 1), "cardinality": 2, "base_width": 4, "stem": 8}


def images(count=2):
    return np.random.default_rng(0).normal(size=(count, 45, 61, 3)).astype(np.float32)


def stir(model):
    """Give the batch norms statistics as if they had been trained."""
    random = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    return model


@pytest.fixture
def network():
    return stir(ResNeXt((None, None, 3), include_top=True, classes=5, architecture=Architecture(**TINY)))


@pytest.fixture
def classifier():
    return stir(Classifier(64, backbone=TINY))


def close(one, other, tolerance=1e-5):
    one, other = np.asarray(one), np.asarray(other)
    return np.linalg.norm(one - other) < tolerance * np.linalg.norm(other)


def test_a_folded_network_equals_the_unfolded_one(network):
    twin = fold(network)
    assert not [layer for layer in twin.layers if isinstance(layer, BatchNorm)]
    assert close(twin(images(), training=False), network(images(), training=False))


def test_the_network_itself_stays_as_it_was(network):
    before = network.get_weights()
    answer = network(images(), training=False)
    fold(network)
    np.testing.assert_array_equal(network(images(), training=False), answer)
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_parts_of_a_network_fold_and_join(classifier):
    squares = images()[:, :32, :32].repeat(2, 1).repeat(2, 2)
    seam = classifier.get_layer(classifier.trunk_output).output
    trunk, rest = fold(keras.Model(classifier.input, seam)), fold(keras.Model(seam, classifier.output))
    assert close(rest(trunk(squares)), classifier(squares, training=False))


def test_folding_the_frozen_trunk_leaves_the_rest_to_train(classifier):
    freeze(classifier, [classifier.layer_groups["trunk"]])
    twin = fold(classifier, where=lambda layer: not layer.trainable)
    shared = {id(variable) for variable in twin.trainable_variables}
    assert shared == {id(variable) for variable in classifier.trainable_variables}
    squares, answers = images(4)[:, :32, :32].repeat(2, 1).repeat(2, 2), np.array([0, 1, 0, 1])

    def gradients(model):
        for number, layer in enumerate(each for each in model.layers if isinstance(each, keras.layers.Dropout)):
            layer.seed_generator.state.assign([number, 0])
        with tf.GradientTape() as tape:
            logits = model(squares, training=True)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(answers, logits)
        return tape.gradient(loss, [variable.value for variable in classifier.trainable_variables])

    for one, other in zip(gradients(twin), gradients(classifier), strict=True):
        # Batch norm of four images magnifies the last digits.
        assert close(one, other, 1e-3)


def test_grouped_convolutions_of_a_folded_network_run_compiled(network):
    """Grappler fuses a bias into the convolution before it, which must not end in an op that fails."""
    compiled = tf.function(fold(network))
    assert close(compiled(tf.constant(images()), training=False), network(images(), training=False))


@pytest.mark.skipif(not has_native_grouped_convolution(), reason="without oneDNN nothing is fused")
def test_a_blocks_sum_and_relu_are_done_within_its_last_convolution(network, tmp_path):
    """Also for batches of any size, whose shapes TensorFlow does not know."""
    twin, module, v1 = fold(network), tf.Module(), tf.compat.v1
    module.weights = [weight.value for weight in twin.weights]
    signature = [tf.TensorSpec((None, 45, 61, 3), tf.float32)]
    serve = tf.function(lambda batch: twin(batch, training=False), input_signature=signature)
    tf.saved_model.save(module, tmp_path, signatures=serve)
    with v1.Session(graph=tf.Graph()) as session:
        loaded = v1.saved_model.load(session, ["serve"], str(tmp_path)).signature_def["serving_default"]
        (given,), (answer,) = loaded.inputs.values(), loaded.outputs.values()
        metadata = v1.RunMetadata()
        wanted = v1.RunOptions(output_partition_graphs=True)
        found = session.run(answer.name, {given.name: images()}, wanted, metadata)
    assert close(found, network(images(), training=False))
    nodes = [node for graph in metadata.partition_graphs for node in graph.node]
    fused = [[word.decode() for word in node.attr["fused_ops"].list.s] for node in nodes if "FusedConv2D" in node.op]
    assert fused.count(["BiasAdd", "Add", "Relu"]) == sum(TINY["blocks"])
    assert not [node.name for node in nodes if node.op in ("AddN", "AddV2", "Relu")]
