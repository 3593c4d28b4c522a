"""The tree as one system: members for each node, joined into the four-class answer."""

import functools
import hashlib
import operator
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.calibration import Calibration, check_calibrated, digest_of_tree
from bach_keras.network.fold import fold
from bach_keras.network.head import Classifier
from bach_keras.preprocess import View
from bach_keras.provenance import Provenance
from bach_keras.tree import NODES, ROOT, SPECIALISTS, TEMPERATURES, WEIGHTS
from datasets.errors import UserError
from datasets.labels import CLASSES


@dataclass(frozen=True)
class Member:
    """One trained network of a node, as an ensemble takes it."""

    node: str
    model: Classifier
    view: View
    weight: float = 1.0  # its share in the node's average, before the shares are made to sum to 1
    temperature: float = 1.0  # its logits are divided by this (Guo et al. 2017)
    source: str = ""  # what a message or a model card calls it
    config: str = ""  # the data set configuration it was trained on
    provenance: Provenance = field(default_factory=Provenance)  # its own, so it has one protocol
    metrics: dict = field(default_factory=dict)  # what its run measured; empty where nothing was
    fitted_views: int | None = None  # on how many views of an image its temperature was fitted; None where it was not

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of its weights."""
        return _digest(self.model)

    def __post_init__(self):
        # A value outside these bounds makes all answers alike, or NaN.
        for name, least, most in (("weight", *WEIGHTS), ("temperature", *TEMPERATURES)):
            value = getattr(self, name)
            if not least <= value <= most:
                raise UserError(
                    f"The {name} of {self.source or self.node} must be from {least} to {most}, not {value}."
                )


@dataclass(frozen=True)
class _Part:
    """A member without its trunk, its batch norms folded; ``rest`` returns its logits and its pooled features."""

    trunk: str
    rest: Callable
    weight: float
    temperature: float


@dataclass(frozen=True)
class _Networks:
    """A plain holder: tf.Module must not track Keras objects, whose names TF Serving cannot find."""

    trunks: dict[str, Callable]
    parts: dict[str, list[_Part]]
    weights: list[tf.Variable]


class Hierarchy(tf.Module):
    """The four-class system of Koné & Boulmane (2018), Figure 1.

    Members whose trunks hold the same weights share one, found by content: the
    recipe never changes stem, layer1 and layer2, so they are computed once for each image.

    In ``precision`` bfloat16 or float16 the feature maps are computed and the kernels kept in that type; heads, softmax
    and the products of the tree stay float32. With a ``calibration`` that was made for these members, answers also say
    where the tree is ``unsure``, bool [N], and which classes cannot be ruled out, ``set`` bool [N, 4].
    """

    def __init__(
        self,
        members: list[Member],
        precision: str = "float32",
        views: int = 1,
        calibration: Calibration | None = None,
    ):
        super().__init__(name="hierarchy")
        check_members(members)
        check_calibrated(members, views, calibration)
        self.calibration = calibration
        self.digest = digest_of_tree(members, precision, views, calibration)
        self.view = members[0].view
        self.provenance = functools.reduce(operator.or_, [member.provenance for member in members])
        if calibration:
            self.provenance |= Provenance(chosen_on=frozenset(calibration.chosen_on))
        # A set, as tf.Module would take a tuple for a part of the model and save it.
        self._configs = frozenset(member.config for member in members)
        self._networks = _split(members, precision)
        # An export is loaded without Keras, so tf.Module must find TensorFlow's own variables here.
        self._weights = self._networks.weights

    @property
    def configs(self) -> tuple[str, ...]:
        """The data set configurations its members were trained on, sorted."""
        return tuple(sorted(self._configs))

    def images(self, images) -> dict[str, tf.Tensor]:
        """Classify images softly: a class's probability is its group's times its own within the group.

        Args:
            images: uint8 [N, H, W, 3] of any height and width.

        Returns:
            ``probabilities`` float32 [N, 4] in the order of ``CLASSES``, ``label`` string [N],
            and ``carci``, ``norbe``, ``invis`` float32 [N, 2] in the orders of the tree; of a calibrated tree also
            ``unsure`` bool [N] and ``set`` bool [N, 4].
        """
        probabilities, nodes = self._soft(self._normalised(images))
        return _answer(probabilities, nodes | self._doubt(probabilities), tf.shape(images)[0])

    def with_uncalibrated(self, images) -> dict[str, tf.Tensor]:
        """Return what ``images`` does, and each node's pair without temperatures, ``carci_uncalibrated`` and so on."""
        logits = self._all_logits(self._normalised(images))
        probabilities, nodes = self._joined(logits)
        plain = {f"{name}_uncalibrated": self._average(name, each, scaled=False) for name, each in logits.items()}
        return _answer(probabilities, nodes | self._doubt(probabilities) | plain, tf.shape(images)[0])

    def logits(self, images) -> dict[str, tf.Tensor]:
        """Return each node's logits without temperatures, float32 [members, N, views, 2], members in their order."""
        count = tf.shape(images)[0]
        logits = self._all_logits(self._normalised(images))
        return {name: tf.stack(each)[:, :count, None] for name, each in logits.items()}

    def squares(self, images) -> dict[str, tf.Tensor]:
        """Classify squares that ``View.square`` made: the tree alone, for small devices.

        Takes uint8 [N, image_size, image_size, 3] with N > 0, and returns what ``images`` does without ``label``.
        """
        probabilities, nodes = self._soft(preprocess.normalise(images))
        return {"probabilities": probabilities, **nodes}

    def features(self, images) -> tf.Tensor:
        """Return carci's pooled features, for search and for monitoring: uint8 [N, H, W, 3] -> float32 [N, 2048].

        They are the spatial mean of the last feature map of carci's first member: each member has
        a feature space of its own, so a mean over members would lie in none of them.
        """
        part = self._networks.parts[ROOT.name][0]
        _, features = part.rest(self._networks.trunks[part.trunk](self._normalised(images)))
        return features[: tf.shape(images)[0]]

    def routed(self, images) -> dict[str, tf.Tensor]:
        """Classify images, each through the one specialist that its carci answer chose.

        Takes and returns what ``images`` does; the other specialist's pair and
        the losing classes are 0, and the chosen two sum to 1.
        """
        count = tf.shape(images)[0]
        inputs = self._normalised(images)
        rows_in_all = tf.shape(inputs)[0]
        # Carci answers for every image.
        features = self._trunk_features(inputs, [ROOT.name])
        nodes = {ROOT.name: self._node(ROOT.name, features)}
        chosen = tf.argmax(nodes[ROOT.name], axis=1)
        # Each specialist answers for its own rows, and its answers are put back in their places.
        for index, node in enumerate(SPECIALISTS):
            rows = tf.where(chosen == index)[:, 0]
            # A specialist whom no image comes to is not run.
            pair = tf.cond(
                tf.size(rows) > 0,
                lambda rows=rows, node=node: self._specialist(node.name, rows, inputs, features),
                lambda: tf.zeros((0, 2)),
            )
            nodes[node.name] = tf.scatter_nd(rows[:, None], pair, tf.cast((rows_in_all, 2), tf.int64))
        pairs = tf.concat([nodes[node.name] for node in SPECIALISTS], axis=1)
        doubt = self.calibration.routed_doubt(nodes[ROOT.name], pairs) if self.calibration else {}
        return _answer(pairs, nodes | doubt, count)

    def _normalised(self, images):
        size = self.view.image_size
        sides = tuple(images.shape[1:3])
        # Some convolutions refuse an empty batch, so one black image stands in and is dropped at the end.
        images = tf.pad(images, [[0, tf.maximum(0, 1 - tf.shape(images)[0])], [0, 0], [0, 0], [0, 0]])
        # Squares are not scaled again: that would change nothing and cost milliseconds an image.
        if sides == (size, size):
            squares = images
        else:
            is_square = tf.reduce_all(tf.shape(images)[1:3] == size)
            squares = tf.cond(is_square, lambda: images, lambda: preprocess.square(images, size))
        squares = tf.ensure_shape(squares, (None, size, size, 3))
        return preprocess.normalise(preprocess.normalise_stain(squares, size, self.view.stain_normalisation))

    def _doubt(self, probabilities) -> dict[str, tf.Tensor]:
        return self.calibration.doubt(probabilities) if self.calibration else {}

    def _soft(self, inputs):
        return self._joined(self._all_logits(inputs))

    def _all_logits(self, inputs):
        features = self._trunk_features(inputs, NODES)
        return {name: self._logits(name, features) for name in NODES}

    def _joined(self, logits):
        nodes = {name: self._average(name, each) for name, each in logits.items()}
        group = nodes[ROOT.name]
        pairs = [group[:, i, None] * nodes[node.name] for i, node in enumerate(SPECIALISTS)]
        return tf.concat(pairs, axis=1), nodes

    def _trunk_features(self, inputs, nodes) -> dict[str, tf.Tensor]:
        # Each trunk is computed once, however many members share it.
        wanted = {part.trunk for name in nodes for part in self._networks.parts[name]}
        return {key: self._networks.trunks[key](inputs) for key in sorted(wanted)}

    def _specialist(self, name, rows, inputs, features):
        """Run one specialist on some rows, on carci's trunk features where it has the same trunk."""
        own = {part.trunk for part in self._networks.parts[name]}
        chosen = {key: tf.gather(features[key], rows) for key in sorted(own & set(features))}
        if own - set(features):
            some = tf.gather(inputs, rows)
            chosen |= {key: self._networks.trunks[key](some) for key in sorted(own - set(features))}
        return self._node(name, chosen)

    def _node(self, name, features):
        return self._average(name, self._logits(name, features))

    def _logits(self, name, features):
        """Return the logits of each member of a node."""
        return [part.rest(features[part.trunk])[0] for part in self._networks.parts[name]]

    def _average(self, name, logits, scaled: bool = True):
        """Average the probabilities of a node's members by weight; ``scaled`` divides their logits by temperatures."""
        parts = self._networks.parts[name]
        total = sum(part.weight for part in parts)
        return tf.add_n([
            part.weight / total * tf.nn.softmax(each / part.temperature if scaled else each)
            for part, each in zip(parts, logits, strict=True)
        ])  # fmt: skip


def check_members(members) -> None:
    """Refuse members that do not make a tree: a node has none, or their views differ."""
    missing = [name for name in NODES if not any(member.node == name for member in members)]
    if missing:
        raise UserError(f"The tree needs a run for each node: none was given for {', '.join(missing)}.")
    if all(member.view == members[0].view for member in members):
        return
    of_size = {member.view.image_size for member in members}
    name = "image_size" if len(of_size) > 1 else "stain_normalisation"
    listed = ", ".join(f"{member.source or member.node} {getattr(member.view, name)}" for member in members)
    raise UserError(f"All runs of a tree must share one {name.replace('_', ' ')}, but these differ: {listed}.")


def _split(members, precision) -> _Networks:
    """Split each member behind its trunk, and keep one of the trunks that are equal."""
    trunks, parts, weights = {}, {name: [] for name in NODES}, []
    for member in members:
        model = member.model
        seam = model.get_layer(model.trunk_output).output
        trunk = keras.Model(model.input, seam)
        key = _digest(trunk)
        if key not in trunks:
            folded = fold(trunk, precision=precision)
            weights += [weight.value for weight in folded.weights]
            trunks[key] = _function(folded)
        rest = fold(keras.Model(seam, [model.output, model.get_layer("head.mean").output]), precision=precision)
        weights += [weight.value for weight in rest.weights]
        parts[member.node].append(_Part(key, _function(rest), member.weight, member.temperature))
    return _Networks(trunks, parts, weights)


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


def _answer(probabilities, nodes, count):
    label = tf.gather(tf.constant(CLASSES), tf.argmax(probabilities, axis=1))
    # The black image that stands in for an empty batch is dropped here.
    answers = {"probabilities": probabilities, "label": label, **nodes}
    return {name: value[:count] for name, value in answers.items()}
