"""The 8-bit form of a TFLite model: channels equalised, ranges read off images, biases corrected.

Per-channel kernels lose nothing by 8 bits here; what costs labels is that an activation has one scale for all its
channels and all images. So channels are first equalised, which changes no answer, and a specialist's ranges are those
of the images that come to it, as the features of an image of a class that it never saw may be a hundred times as large.
AI Edge Quantizer does the rest, and last the bias that rounding gave each network's logits is subtracted.
"""

import contextlib
import io
import logging
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer.qtyping import TFLOperationName
from ai_edge_quantizer.quantizer import Quantizer

from bach_keras.quiet import filtered
from bach_keras.serving.tflite.file import PROCESSORS
from bach_keras.serving.tflite.graph import ADD, MUL, Graph
from bach_keras.tree import ROOT, SPECIALISTS
from datasets.progress import bar

LOG = logging.getLogger(__name__)

# These ops are computed in integers behind the stem: 97 % of the work or more. The stem stays float32, as it is cheap
# and everything else builds on it. So do the heads: quantised, the maximum and the mean over places would have to share
# one scale, which leaves the mean, by far the smaller, a few levels; and a probability would come in steps of 1/256.
INT8_OPS = ("CONV_2D", "ADD", "PAD")

DYNAMIC_OPS = ("CONV_2D", "FULLY_CONNECTED")

# The quantile of the images' own extremes that becomes a range's end; values beyond it are clipped, which costs less
# than a coarser scale for all others.
QUANTILE = 0.95

# Peaks and weights below this share of the largest count as this share: a channel that is nearly zero needs no scale.
LEAST_PEAK, LEAST_USE = 1e-3, 1e-2


def quantised(graph: Graph, quantize: str, images) -> Graph:
    """Quantise a model's weights, and for ``int8`` its activations; the model given is changed.

    Args:
        graph: a tree's float32 model, its outputs named as the nodes.
        quantize: ``dynamic`` or ``int8``.
        images: uint8 [1, S, S, 3] each, such as it will see; the ranges of its activations are read off them.
    """
    LOG.info(f"calibrating on {len(images)} images")
    extremes, margins, images_of = _look(graph, images)
    LOG.info("equalising channels")
    ranges = _ranges(graph, extremes, _equalise(graph, extremes), images_of)
    # A shift of nothing stands before each softmax, so that a bias can be subtracted once it is known.
    readers = graph.of_kind("SOFTMAX")
    shifts = {logits: graph.name(graph.insert(ADD, logits, np.zeros((1, 2)), readers)) for logits in margins}
    LOG.info("rounding to 8 bits")
    made = Graph(_static(graph, ranges) if quantize == "int8" else _dynamic(graph))
    for logits, bias in _biases(graph, made, images, margins, images_of).items():
        made.set_constant(made.named(shifts[logits]), np.array([[bias / 2, -bias / 2]]))
    return made


def _static(graph, ranges):
    """Return the model with integer convolutions and sums behind the stem, and 8-bit weights elsewhere."""
    stem = set().union(*(graph.before(op.outputs[0]) for op in graph.of_kind("MAX_POOL_2D")))
    maps = [op.outputs[0] for op in graph.of_kind(*INT8_OPS) if graph.is_map(op.outputs[0])]
    quantizer = Quantizer(graph.packed())
    scope = f"^({'|'.join(re.escape(graph.name(tensor)) for tensor in maps if tensor not in stem)});$"
    for kind in INT8_OPS:
        quantizer.add_static_config(scope, TFLOperationName(kind), activation_num_bits=8, weight_num_bits=8)
    quantizer.add_dynamic_config(".*", TFLOperationName.FULLY_CONNECTED, num_bits=8)
    return _rounded(quantizer, ranges)


def _dynamic(graph):
    """Return the model with 8-bit weights, whose activations are rounded as they come."""
    quantizer = Quantizer(graph.packed())
    for kind in DYNAMIC_OPS:
        quantizer.add_dynamic_config(".*", TFLOperationName(kind), num_bits=8)
    return _rounded(quantizer)


def _rounded(quantizer, ranges=None):
    # One of its bars has no switch.
    with _keeping_activations(), contextlib.redirect_stderr(io.StringIO()):
        made = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return made.quantized_model


def _keeping_activations():
    """Suppress LiteRT's warning that keeping each activation takes memory."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)


@dataclass(frozen=True)
class _Tied:
    """Activations that share their channels' scales, and the ops that change when those are scaled."""

    maps: list
    made_by: list
    read_by: list
    pooled_by: list


def _look(graph, images):
    """Run the model on images.

    Returns:
        feature map -> its smallest and largest value of every channel, [images, 2, C];
        pair of logits -> the second minus the first, [images]; and
        specialist -> whether each image comes to it.
    """
    maps = [tensor for tensor in range(len(graph.subgraph.tensors)) if graph.is_map(tensor)]
    extremes, chosen = {tensor: [] for tensor in maps}, []
    margins = {op.inputs[0]: [] for op in graph.of_kind("SOFTMAX")}
    interpreter = _interpreter(graph)
    for _ in _answered(interpreter, images, "calibrate"):
        chosen.append(interpreter.get_tensor(graph.outputs[ROOT.name])[0].argmax())
        for tensor, found in margins.items():
            found.append(_margin(interpreter, tensor))
        for tensor, found in extremes.items():
            values = interpreter.get_tensor(tensor)
            found.append([values.min((0, 1, 2)), values.max((0, 1, 2))])
    images_of = {node.name: np.array(chosen) == index for index, node in enumerate(SPECIALISTS)}
    extremes, margins = ({key: np.array(found) for key, found in each.items()} for each in (extremes, margins))
    return extremes, margins, images_of


def _margin(interpreter, logits) -> float:
    first, second = interpreter.get_tensor(logits)[0]
    return second - first


def _interpreter(graph):
    with _keeping_activations():
        interpreter = Interpreter(
            model_content=bytes(graph.packed()), experimental_preserve_all_tensors=True, num_threads=PROCESSORS
        )
    with filtered():
        interpreter.allocate_tensors()
    return interpreter


def _answered(interpreter, images, what: str):
    """Run an interpreter on one image after the other, yielding after each."""
    (given,) = interpreter.get_input_details()
    for image in bar(images, what=what):
        interpreter.set_tensor(given["index"], image)
        interpreter.invoke()
        yield


def _equalise(graph, extremes) -> dict[int, np.ndarray]:
    """Scale channels so that all use their activation's range alike, and return map -> what each was divided by.

    The ops that make a channel are divided by its scale and those that read it multiplied, so answers do not change:
    a ReLU, a sum and a maximum let a positive factor through (cross-layer equalisation: Nagel et al. 2019, section
    4.1). The scale is the root of the channel's peak over the largest weight that reads it, so kernels' per-channel
    scales keep half of the spread (Xiao et al. 2023, equation 4).
    """
    # Peaks are those of all images: a specialist's own images alone kept no more labels.
    kernels = {id(op): graph.data(op.inputs[1]).copy() for op in graph.of_kind("CONV_2D")}
    biases = {id(op): graph.data(op.inputs[2]).copy() for op in graph.of_kind("CONV_2D")}
    scales = {}
    for tied in _tied(graph):
        peaks = np.max([np.abs(extremes[tensor]).max((0, 1)) for tensor in tied.maps], axis=0)
        use = np.max([_use(kernels[id(op)], len(peaks)) for op in tied.read_by], axis=0)
        if not peaks.any() or not use.any():
            continue
        scale = np.sqrt(np.maximum(peaks, LEAST_PEAK * peaks.max()) / np.maximum(use, LEAST_USE * use.max()))
        scale /= np.exp(np.log(scale).mean())
        for op in tied.made_by:
            kernels[id(op)] /= scale[:, None, None, None]
            biases[id(op)] /= scale
        for op in tied.read_by:
            kernels[id(op)] *= _as_read(scale, kernels[id(op)])
        for op in tied.pooled_by:
            (pooled,) = op.outputs
            graph.insert(MUL, pooled, scale[None], graph.readers(pooled))
        scales |= dict.fromkeys(tied.maps, scale)
    for op in graph.of_kind("CONV_2D"):
        # Each convolution gets constants of its own, as two may have read the same ones.
        name = graph.name(op.outputs[0])
        kernel = graph.add_constant(kernels[id(op)], f"{name}/kernel")
        op.inputs = [op.inputs[0], kernel, graph.add_constant(biases[id(op)], f"{name}/bias")]
    graph.drop_unused()
    return scales


def _tied(graph) -> list[_Tied]:
    """Return the maps that can be scaled: convolutions make and read them, and at most pooling ends them."""
    # Maps that are padded, pooled or added share one scale a channel, so they are tied together.
    ties = {tensor: {tensor} for tensor in range(len(graph.subgraph.tensors)) if graph.is_map(tensor)}
    fixed, ends = set(), defaultdict(lambda: defaultdict(list))
    for op in graph.subgraph.operators:
        kind, maps = graph.kind(op), [tensor for tensor in (*op.inputs, *op.outputs) if graph.is_map(tensor)]
        if kind == "CONV_2D":
            ends[op.outputs[0]]["made"].append(op)
            ends[op.inputs[0]]["read"].append(op)
        elif kind in ("MEAN", "REDUCE_MAX"):
            ends[op.inputs[0]]["pooled"].append(op)
        elif kind in ("PAD", "MAX_POOL_2D") or (kind == "ADD" and len(maps) == 3):  # no constant among them
            together = set().union(*(ties[tensor] for tensor in maps))
            ties |= dict.fromkeys(together, together)
        else:
            fixed |= set(maps)
    groups = {id(tie): sorted(tie) for tie in ties.values() if not tie & fixed}.values()
    gathered = [
        _Tied(maps, *([op for tensor in maps for op in ends[tensor][end]] for end in ("made", "read", "pooled")))
        for maps in groups
    ]
    return [tied for tied in gathered if tied.made_by and tied.read_by]


def _use(kernel, channels: int) -> np.ndarray:
    """Return the largest weight [C] by which a kernel [F, k, k, C / groups] reads each channel."""
    groups = channels // kernel.shape[-1]
    return np.abs(kernel).reshape(groups, -1, kernel.shape[-1]).max(axis=1).reshape(channels)


def _as_read(scale, kernel) -> np.ndarray:
    """Lay channels' scales [C] out as a kernel [F, k, k, C / groups] reads them."""
    groups = len(scale) // kernel.shape[-1]
    return np.repeat(scale.reshape(groups, -1), len(kernel) // groups, axis=0)[:, None, None, :]


def _biases(graph, made, images, margins, images_of) -> dict[int, float]:
    """Return pair of logits -> by how much its margin is too large in the quantised model.

    It is the median over the images that come to it: rounding errors do not cancel out, so a network leans to one
    side, equally for all images (bias correction: Nagel et al. 2019, section 4.2, who do it layer by layer).
    """
    own = _own(graph)
    interpreter = _interpreter(made)
    found = {logits: [] for logits in margins}
    for _ in _answered(interpreter, images, "correct biases"):
        for logits, each in found.items():
            each.append(_margin(interpreter, made.named(graph.name(logits))))
    return {
        logits: float(np.median(_chosen(found[logits] - exact, images_of, own.get(logits))))
        for logits, exact in margins.items()
    }


def _chosen(values, images_of, node) -> np.ndarray:
    """Return the values of the images that come to a specialist; for any other node, or if none comes, of all."""
    chosen = images_of.get(node, np.full(len(values), True))
    return values[chosen] if chosen.any() else values


def _ranges(graph, extremes, scales, images_of) -> dict[str, dict[str, np.ndarray]]:
    """Return name of a map -> its range, in the quantizer's own form."""
    own = _own(graph)
    ranges = {}
    for tensor, of_all in extremes.items():
        values = _chosen(of_all, images_of, own.get(tensor)) / scales.get(tensor, 1.0)
        low, high = np.moveaxis(values, 1, 0)
        ends = np.quantile(low.min(axis=1), 1 - QUANTILE), np.quantile(high.max(axis=1), QUANTILE)
        ranges[graph.name(tensor)] = {
            name: np.full((1, 1, 1, 1), end, np.float32) for name, end in zip(("min", "max"), ends, strict=True)
        }
    return ranges


def _own(graph) -> dict[int, str]:
    """Return tensor -> the specialist that it serves, of those tensors that serve no other node."""
    before = {node.name: graph.before(graph.outputs[node.name]) for node in (ROOT, *SPECIALISTS)}
    return {
        tensor: name
        for name, tensors in before.items()
        for tensor in tensors
        if name != ROOT.name and sum(tensor in others for others in before.values()) == 1
    }
