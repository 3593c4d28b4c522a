"""Members' networks, each split behind its trunk; trunks that hold the same weights are kept once."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.network.fold import fold
from bach_keras.tree import NODES


@dataclass(frozen=True)
class Part:
    """A member without its trunk, its batch norms folded; ``rest`` returns its logits and its pooled features."""

    trunk: str
    rest: Callable
    weight: float
    temperature: float


@dataclass(frozen=True)
class Networks:
    """A plain holder: tf.Module must not track Keras objects, whose names TF Serving cannot find."""

    trunks: dict[str, Callable]
    features: dict[str, tf.TensorSpec]  # what each trunk returns for the eight symmetries of a square
    parts: dict[str, list[Part]]
    weights: list[tf.Variable]


def split(members, precision) -> Networks:
    """Split each member behind its trunk, and keep one of the trunks that are equal."""
    trunks, features, parts, weights = {}, {}, {name: [] for name in NODES}, []
    for member in members:
        model = member.model
        seam = model.get_layer(model.trunk_output).output
        trunk = keras.Model(model.input, seam)
        key = _digest(trunk)
        if key not in trunks:
            folded = fold(trunk, precision=precision)
            weights += [weight.value for weight in folded.weights]
            trunks[key] = _function(folded)
            features[key] = tf.TensorSpec((preprocess.SYMMETRIES, *folded.output.shape[1:]), folded.output.dtype)
        rest = fold(keras.Model(seam, [model.output, model.get_layer("head.mean").output]), precision=precision)
        weights += [weight.value for weight in rest.weights]
        parts[member.node].append(Part(key, _function(rest), member.weight, member.temperature))
    return Networks(trunks, features, parts, weights)


def _function(network) -> Callable:
    """Return the network as one traced function, which all signatures of an export share."""

    @tf.function(input_signature=[tf.TensorSpec(network.input.shape, network.input.dtype)])
    def run(inputs):
        return network(inputs, training=False)

    return lambda inputs: run(tf.cast(inputs, network.input.dtype))


def _digest(network) -> str:
    digest = hashlib.sha256()
    for weight in network.get_weights():
        digest.update(repr(weight.shape).encode())
        digest.update(weight.tobytes())
    return digest.hexdigest()
