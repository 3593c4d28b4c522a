"""The tree as a TFLite model with float weights, whose kernels go past TensorFlow's converter.

The converter copies constants about forty times: for 290 MB of them it took 12 GB. So it is given the tree with the
kernels of its convolutions as inputs, and the model that it makes gets them as constants.
"""

import contextlib
import ctypes
import gc
import re

import numpy as np
import tensorflow as tf

from bach_keras.hierarchy import Hierarchy
from bach_keras.serving.tflite.graph import Graph


def converted(hierarchy: Hierarchy, dtype=np.float32) -> Graph:
    """Return the tree as a model of one signature, its inputs and outputs named, its weights float32 or float16."""
    traced = _traced(hierarchy)
    weights = _weights(traced)
    kernels = [name for name, weight in weights.items() if weight.shape.rank == 4]
    model = Graph(_without_kernels(traced, weights, kernels, dtype))
    _give_back_memory()
    model.bind(((_input(name), _laid_out(weights[name])) for name in kernels), dtype)
    return model


def _without_kernels(traced, weights, kernels, dtype) -> bytes:
    """Convert a tree whose kernels are inputs."""
    # The other weights are few, and the converter joins some of them with the layers around them.
    others = {name: np.asarray(weight) for name, weight in weights.items() if name not in kernels}
    graph, (images,) = _without_weights(traced), traced.structured_input_signature[0]
    ends, names = [tensor.name for tensor in traced.outputs], sorted(traced.structured_outputs)

    def tree(images, *given):
        constants = {name: tf.constant(values) for name, values in others.items()}
        places = {"images:0": images, **constants, **dict(zip(kernels, given, strict=True))}
        return dict(zip(names, tf.graph_util.import_graph_def(graph, places, ends, name="tree"), strict=True))

    inputs = [tf.TensorSpec(weights[name].shape, tf.float32, _input(name)) for name in kernels]
    module = tf.Module()
    module.tree = tf.function(tree, input_signature=[images, *inputs], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.tree.get_concrete_function()], module)
    if dtype == np.float16:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def _input(name: str) -> str:
    return re.sub("[^A-Za-z0-9_]", "_", name)


def _traced(hierarchy):
    """Trace the tree into one graph without functions in it."""
    size = hierarchy.view.image_size
    before = tf.config.functions_run_eagerly()
    # Functions that the tree calls then run as Python does, and leave their operations in the graph being traced.
    tf.config.run_functions_eagerly(True)
    try:
        signature = [tf.TensorSpec([1, size, size, 3], tf.uint8, "images")]
        return tf.function(hierarchy.squares, input_signature=signature).get_concrete_function()
    finally:
        tf.config.run_functions_eagerly(before)


def _weights(traced) -> dict:
    """Return all constants and variables that a graph captured, by the name of the tensor that operations take."""
    variables = {id(variable.handle): variable for variable in traced.graph.variables}
    captured = {inner.name: variables.get(id(outer), outer) for outer, inner in traced.graph.captures}
    # A variable is captured as its handle, and operations take what a ReadVariableOp gets from there. The converter
    # silently gets NaN.
    reads = [op for op in traced.graph.get_operations() if op.type == "ReadVariableOp"]
    weights = {name: weight for name, weight in captured.items() if not isinstance(weight, tf.Variable)}
    return weights | {op.outputs[0].name: captured[op.inputs[0].name] for op in reads}


def _without_weights(traced) -> tf.compat.v1.GraphDef:
    """Return a graph without its inputs, captures and reads of variables, and with plain sums."""
    graph = tf.compat.v1.GraphDef()
    for node in traced.graph.as_graph_def().node:
        if node.op in ("Placeholder", "ReadVariableOp"):
            continue
        kept = graph.node.add()
        kept.CopyFrom(node)
        # Reads are waited for, and are no longer there.
        del kept.input[:]
        kept.input.extend(name for name in node.input if not name.startswith("^"))
        # LiteRT has no fast kernel for ADD_N, and none of 8 bits.
        if node.op == "AddN" and node.attr["N"].i == 2:
            kept.op = "AddV2"
            del kept.attr["N"]
    return graph


def _laid_out(kernel):
    """Return a kernel of TensorFlow's, [k, k, C / groups, F], as TFLite's, [F, k, k, C / groups]."""
    return np.moveaxis(np.asarray(kernel), -1, 0)


def _give_back_memory() -> None:
    """Return what the converter took: Python keeps it in cycles, and the C library in pieces, a GB with ResNeXt-50."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not every C library can
        ctypes.CDLL(None).malloc_trim(0)
