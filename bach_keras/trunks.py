"""The networks of all members, each split behind its trunk; trunks that hold the same weights are kept once."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.network import grad_cam
from bach_keras.network.fold import fold
from bach_keras.network.resnext import normalisation_of
from bach_keras.normalisation import IMAGENET
from bach_keras.tree import NODES


@dataclass(frozen=True)
class Part:
    """A member without its trunk, its batch norms folded.

    ``rest`` returns its logits, its pooled features, and what at each place of the last feature map speaks for its
    second class (``grad_cam.evidence``). TensorFlow computes only those that are used.
    """

    trunk: str
    rest: Callable
    width: int  # of its pooled features
    weight: float
    temperature: float


@dataclass(frozen=True)
class Networks:
    """A plain holder: tf.Module must not track Keras objects, whose names TF Serving cannot find."""

    trunks: dict[str, Callable]
    features: dict[str, tf.TensorSpec]  # what each trunk returns for the eight symmetries of a square
    parts: dict[str, list[Part]]
    weights: list[tf.Variable]
    # Of each member, in the order in which they were given: <layer>/<variable> -> its place among the weights.
    places: list[dict[str, int]]

    def of_trunks(self, inputs, nodes) -> dict[str, tf.Tensor]:
        """Return the features of some nodes' trunks, each computed once, however many members share it."""
        wanted = {part.trunk for name in nodes for part in self.parts[name]}
        return {key: self.trunks[key](inputs) for key in sorted(wanted)}

    def of_views(self, inputs, nodes, known) -> dict[str, tf.Tensor]:
        """Return what ``of_trunks`` does for one image's views, and next to it the features that are ``known``."""
        wanted = {part.trunk for name in nodes for part in self.parts[name]} - set(known)
        run = {key: self.trunks[key] for key in sorted(wanted)}
        views = inputs.shape[0]
        if views <= preprocess.SYMMETRIES:
            return known | {key: trunk(inputs) for key, trunk in run.items()}
        # The trunk's feature maps are the largest by far. A loop, as its body is in the graph once.
        slices = tf.reshape(inputs, (-1, preprocess.SYMMETRIES, *inputs.shape[1:]))
        for key, trunk in run.items():
            spec = self.features[key]
            maps = tf.map_fn(trunk, slices, parallel_iterations=1, fn_output_signature=spec)
            known = known | {key: tf.reshape(maps, (views, *spec.shape[1:]))}
        return known

    def node(self, name, features):
        """Return a node's probabilities [N, 2]."""
        return self.average(name, self.logits(name, features))

    def logits(self, name, features):
        """Return the logits of each member of a node."""
        return [logits for logits, _, _ in self.answers(name, features)]

    def answers(self, name, features):
        """Return what ``rest`` answers of each member of a node."""
        return [part.rest(features[part.trunk]) for part in self.parts[name]]

    def map(self, name, evidence, answered):
        """Return where a node looked for the classes ``answered``, int [N]: float32 [N, h, w] in 0..1.

        ``evidence`` is what each of its members' ``rest`` answers. Logits of several members share no
        scale, so each member's map is scaled before they are averaged by weight.
        """
        sign = tf.where(answered == 1, 1.0, -1.0)[:, None, None]
        parts, each = self.parts[name], [grad_cam.as_map(sign * of_member) for of_member in evidence]
        total = sum(part.weight for part in parts)
        return grad_cam.as_map(tf.add_n([part.weight / total * found for part, found in zip(parts, each, strict=True)]))

    def average(self, name, logits, scaled: bool = True):
        """Average the probabilities of a node's members by weight; ``scaled`` divides their logits by temperatures."""
        parts = self.parts[name]
        total = sum(part.weight for part in parts)
        return tf.add_n([
            part.weight / total * tf.nn.softmax(each / part.temperature if scaled else each)
            for part, each in zip(parts, logits, strict=True)
        ])  # fmt: skip


def split(members, precision) -> Networks:
    """Split each member behind its trunk, and keep one of the trunks that are equal."""
    trunks, features, parts, weights = {}, {}, {name: [] for name in NODES}, []
    of_trunk, named = {}, []
    for member in members:
        model = member.model
        seam = model.get_layer(model.trunk_output).output
        trunk = keras.Model(model.input, seam)
        key = digest_of(trunk)
        if key not in trunks:
            folded = fold(trunk, precision=precision)
            of_trunk[key] = _named(folded)
            weights += [weight.value for weight in folded.weights]
            trunks[key] = _function(folded)
            features[key] = tf.TensorSpec((preprocess.SYMMETRIES, *folded.output.shape[1:]), folded.output.dtype)
        inner = [model.get_layer("head.mean").output, grad_cam.last_map(model), model.get_layer("head.relu").output]
        rest = fold(keras.Model(seam, [model.output, *inner]), precision=precision)
        named.append(of_trunk[key] | _named(rest))
        weights += [weight.value for weight in rest.weights]
        width = rest.output[1].shape[-1]
        parts[member.node].append(Part(key, _function(rest, _with_evidence), width, member.weight, member.temperature))
    # A model that is given twice has its head's weights there twice, of which TensorFlow saves the first.
    first = {id(weight): place for place, weight in reversed(list(enumerate(weights)))}
    places = [{name: first[id(weight)] for name, weight in held.items()} for held in named]
    return Networks(trunks, features, parts, weights, places)


def _named(network) -> dict[str, tf.Variable]:
    """Return <layer>/<variable> -> the variable."""
    return {f"{layer.name}/{each.name}": each.value for layer in network.layers for each in layer.weights}


def _with_evidence(rest, answers):
    logits, pooled, maps, hidden = answers
    return logits, pooled, grad_cam.evidence(rest, maps, hidden)


def _function(network, finish=lambda network, answers: answers) -> Callable:
    """Return the network as one traced function, which all signatures of an export share."""

    @tf.function(input_signature=[tf.TensorSpec(network.input.shape, network.input.dtype)])
    def run(inputs):
        return finish(network, network(inputs, training=False))

    return lambda inputs: run(tf.cast(inputs, network.input.dtype))


def digest_of(network) -> str:
    """Return the SHA-256 of a network's weights, and of their normalisation where it is not ImageNet's, in hex."""
    digest = hashlib.sha256()
    # The same weights give other answers. Digests from before there was a choice stay as they are.
    if (normalisation := normalisation_of(network)) != IMAGENET:
        digest.update(normalisation.encode())
    for weight in network.get_weights():
        digest.update(repr(weight.shape).encode())
        digest.update(weight.tobytes())
    return digest.hexdigest()
