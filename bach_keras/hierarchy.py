"""The tree as one system: members for each node, joined into the four-class answer; or one node by itself."""

import functools
from dataclasses import dataclass, field

import tensorflow as tf

from bach_keras import joining, preprocess
from bach_keras.calibration import Calibration, check_calibrated, digest_of_tree
from bach_keras.network.head import Classifier
from bach_keras.preprocess import View
from bach_keras.provenance import Provenance
from bach_keras.tree import NODES, ROOT, SPECIALISTS, TEMPERATURES, VIEWS, WEIGHTS, classes_of
from bach_keras.trunks import digest_of, split
from datasets.errors import UserError


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
    weights_origin: dict = field(default_factory=dict)  # what its run says of the public weights that it comes from
    fitted_views: int | None = None  # on how many views of an image its temperature was fitted; None where it was not

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of its weights."""
        return digest_of(self.model)

    def __post_init__(self):
        # A value outside these bounds makes all answers alike, or NaN.
        for name, least, most in (("weight", *WEIGHTS), ("temperature", *TEMPERATURES)):
            value = getattr(self, name)
            if not least <= value <= most:
                raise UserError(
                    f"The {name} of {self.source or self.node} must be from {least} to {most}, not {value}."
                )


class Hierarchy(tf.Module):
    """The four-class system of Koné & Boulmane (2018), Figure 1, or one of its nodes with two classes.

    Members whose trunks hold the same weights share one, found by content: the
    recipe never changes stem, layer1 and layer2, so they are computed once for each image.

    In ``precision`` bfloat16 or float16 the feature maps are computed and the kernels kept in that type; heads, softmax
    and the products of the tree stay float32. With several ``views`` (one of ``tree.VIEWS``) a node's answer is the
    mean of its answers for each view of an image, taken before the tree's product. With a ``calibration`` that was made
    for these members and views, answers also say where the tree is ``unsure``, bool [N], and which classes cannot be
    ruled out, ``set`` bool [N, 4].
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
        if views not in VIEWS:
            raise UserError(f"An image has {', '.join(map(str, VIEWS))} views, not {views}.")
        check_calibrated(members, views, calibration)
        self.calibration = calibration
        self.digest = digest_of_tree(members, precision, views, calibration)
        self.view, self.views = members[0].view, views
        self.provenance = Provenance.of_members(members)
        if calibration:
            self.provenance |= calibration.provenance
        # A set, as tf.Module would take a tuple for a part of the model and save it.
        self._configs = frozenset(member.config for member in members)
        self.networks = split(members, precision)
        # An export is loaded without Keras, so tf.Module must find TensorFlow's own variables here.
        self._weights = self.networks.weights
        self._known = None

    def compare_with(self, features) -> None:
        """Make answers say ``distance``, how far an image is from the nearest with these ``features`` [n, width]."""
        # A variable, as a constant would be in the graph of each signature.
        self._known = tf.Variable(features, trainable=False, name="known", dtype=tf.float32)

    @property
    def configs(self) -> tuple[str, ...]:
        """The data set configurations its members were trained on, sorted."""
        return tuple(sorted(self._configs))

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that it has, in the order of the tree: all, or one."""
        return tuple(name for name in NODES if self.networks.parts[name])

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that it answers, in the order of ``probabilities``."""
        return classes_of(self.nodes)

    def prepare(self, image):
        """Return what ``images`` sees of an image, uint8 [..., H, W, 3], which it then answers for alike.

        That is the central square, or for 24 views the three squares side by side (``preprocess.part``).
        """
        return preprocess.part(image, self.view.image_size, self.views)

    def images(self, images) -> dict[str, tf.Tensor]:
        """Classify images softly: a class's probability is its group's times its own within the group.

        Args:
            images: uint8 [N, H, W, 3] of any height and width.

        Returns:
            ``probabilities`` float32 [N, 4] in the order of ``CLASSES``, ``label`` string [N],
            and ``carci``, ``norbe``, ``invis`` float32 [N, 2] in the orders of the tree; of a calibrated tree also
            ``unsure`` bool [N] and ``set`` bool [N, 4]; and with several views ``spread`` float32 [N], the standard
            deviation over the views of the probability of the label; and after ``compare_with`` also ``distance``
            float32 [N]. A node by itself has its own pair only, which is its ``probabilities`` [N, 2] too.
        """
        logits, features = self._logits_of(images)
        return self._answer(self._averages(logits), features, joining.soft, tf.shape(images)[0])

    def with_uncalibrated(self, images) -> dict[str, tf.Tensor]:
        """Return what ``images`` does, and each node's pair without temperatures, ``carci_uncalibrated`` and so on."""
        count, (logits, features) = tf.shape(images)[0], self._logits_of(images)
        plain = self._averages(logits, scaled=False)
        of_images = {f"{name}_uncalibrated": joining.over_views(pairs)[:count] for name, pairs in plain.items()}
        return self._answer(self._averages(logits), features, joining.soft, count) | of_images

    def logits(self, images) -> dict[str, tf.Tensor]:
        """Return each node's logits without temperatures, float32 [members, N, views, 2], members in their order."""
        count, (logits, _) = tf.shape(images)[0], self._logits_of(images)
        stacked = {name: tf.stack(each)[:, :count] for name, each in logits.items()}
        return stacked if self.views > 1 else {name: each[:, :, None] for name, each in stacked.items()}

    def squares(self, images) -> dict[str, tf.Tensor]:
        """Classify squares that ``View.square`` made: the tree alone, for small devices.

        Takes uint8 [N, image_size, image_size, 3] with N > 0, and returns what ``images`` does without ``label``.
        """
        trunks = self.networks.of_trunks(preprocess.normalise(images), self.nodes)
        nodes = self._averages({name: self.networks.logits(name, trunks) for name in self.nodes})
        return {"probabilities": joining.soft(nodes), **nodes}

    def features(self, images) -> tf.Tensor:
        """Return carci's pooled features, for search and for monitoring: uint8 [N, H, W, 3] -> float32 [N, 2048].

        They are the spatial mean of the last feature map of carci's first member: each member has
        a feature space of its own, so a mean over members would lie in none of them. They are of the
        central square, whatever the views; of a node by itself they are its own first member's.
        """
        part = self.networks.parts[self.nodes[0]][0]
        _, features, _ = part.rest(self.networks.trunks[part.trunk](self._normalised(images)))
        return features[: tf.shape(images)[0]]

    def explain(self, images) -> dict[str, tf.Tensor]:
        """Return what ``images`` does, and where the nodes on each image's path looked (``network.grad_cam``).

        ``carci_map`` float32 [N, h, w] in 0..1 is for the class that carci answered, ``specialist_map`` for that of the
        specialist whom carci chose; a node by itself has its own only. All are of the central square.
        """
        count = tf.shape(images)[0]
        trunks = self.networks.of_trunks(self._normalised(images), self.nodes)
        found = {name: tuple(zip(*self.networks.answers(name, trunks), strict=True)) for name in self.nodes}
        logits = {name: each[0] for name, each in found.items()} if self.views == 1 else self._logits_of(images)[0]
        answers = self._answer(self._averages(logits), found[self.nodes[0]][1][0], joining.soft, count)
        # The black image that stands in for an empty batch has evidence, but no answer.
        given = {name: tf.pad(answers[name], [[0, tf.maximum(0, 1 - count)], [0, 0]]) for name in self.nodes}
        answered = {name: tf.argmax(pair, axis=1) for name, pair in given.items()}
        maps = {name: self.networks.map(name, found[name][2], each)[:count] for name, each in answered.items()}
        if len(self.nodes) == 1:
            return answers | {f"{name}_map": each for name, each in maps.items()}
        first, second = (maps[node.name] for node in SPECIALISTS)
        chosen = (answered[ROOT.name][:count] == 1)[:, None, None]
        return answers | {f"{ROOT.name}_map": maps[ROOT.name], "specialist_map": tf.where(chosen, second, first)}

    def routed(self, images) -> dict[str, tf.Tensor]:
        """Classify images, each through the one specialist that its carci answer chose.

        Takes and returns what ``images`` does; the other specialist's pair and
        the losing classes are 0, and the chosen two sum to 1. Carci's mean over all views chooses.
        A node by itself has no specialist to choose and answers as ``images`` does.
        """
        if len(self.nodes) == 1:
            return self.images(images)
        count = tf.shape(images)[0]
        if self.views > 1:
            shapes = dict.fromkeys(self.nodes, (self.views, 2)) | self._shape_of_features
            pairs = self._of_each(images, self._routed_nodes, shapes)
            return self._answer(pairs, pairs.pop("features"), joining.routed, count)
        inputs = self._normalised(images)
        rows_in_all = tf.shape(inputs)[0]
        # Carci answers for every image.
        trunks = self.networks.of_trunks(inputs, [ROOT.name])
        found = self.networks.answers(ROOT.name, trunks)
        nodes = {ROOT.name: self.networks.average(ROOT.name, [logits for logits, _, _ in found])}
        chosen = tf.argmax(nodes[ROOT.name], axis=1)
        # Each specialist answers for its own rows, and its answers are put back in their places.
        for index, node in enumerate(SPECIALISTS):
            rows = tf.where(chosen == index)[:, 0]
            # A specialist whom no image comes to is not run.
            pair = tf.cond(
                tf.size(rows) > 0,
                lambda rows=rows, node=node: self._specialist(node.name, rows, inputs, trunks),
                lambda: tf.zeros((0, 2)),
            )
            nodes[node.name] = tf.scatter_nd(rows[:, None], pair, tf.cast((rows_in_all, 2), tf.int64))
        return self._answer(nodes, found[0][1], joining.routed, count)

    def _normalised(self, images):
        """Return the central squares as the networks take them, float32 [N, size, size, 3] with N > 0."""
        parts = self._parts(images)
        return preprocess.normalise(parts if self.views == 1 else preprocess.centre_crop(parts, self.view.image_size))

    def _parts(self, images):
        """Return what the views are made of, stains normalised: uint8 [N, size, width, 3] with N > 0."""
        size = self.view.image_size
        seen = size, preprocess.part_width(size, self.views)
        sides = tuple(images.shape[1:3])
        # Some convolutions refuse an empty batch, so one black image stands in and is dropped at the end.
        images = tf.pad(images, [[0, tf.maximum(0, 1 - tf.shape(images)[0])], [0, 0], [0, 0], [0, 0]])
        # Parts are not scaled again: that would change nothing and cost milliseconds an image.
        if sides == seen:
            parts = images
        else:
            is_part = tf.reduce_all(tf.shape(images)[1:3] == seen)
            parts = tf.cond(is_part, lambda: images, lambda: self.prepare(images))
        parts = tf.ensure_shape(parts, (None, *seen, 3))
        return preprocess.normalise_stain(parts, size, self.view.stain_normalisation)

    def _logits_of(self, images) -> tuple[dict[str, list], tf.Tensor]:
        """Return each node's logits of each member, [N, 2] and with several views [N, views, 2], and ``features``."""
        if self.views == 1:
            return self._all_logits(self.networks.of_trunks(self._normalised(images), self.nodes))

        def of_image(inputs):
            logits, features = self._all_logits(self.networks.of_views(inputs, self.nodes, {}))
            return {name: tf.stack(each) for name, each in logits.items()} | self._of_centre(features)

        shapes = {name: (len(self.networks.parts[name]), self.views, 2) for name in self.nodes}
        found = self._of_each(images, of_image, shapes | self._shape_of_features)
        features = found.pop("features")
        return {name: tf.unstack(each, axis=1) for name, each in found.items()}, features

    def _of_each(self, images, of_image, shapes):
        """Ask one image's views after the other's, so that the memory for feature maps does not grow with the images.

        ``of_image`` takes float32 [views, size, size, 3], and returns by name what has the ``shapes``.
        """

        def of_part(part):
            return of_image(preprocess.normalise(preprocess.views_of(part, self.view.image_size, self.views)))

        specs = {name: tf.TensorSpec(shape) for name, shape in shapes.items()}
        return tf.map_fn(of_part, self._parts(images), parallel_iterations=1, fn_output_signature=specs)

    def _all_logits(self, trunks) -> tuple[dict[str, list], tf.Tensor]:
        """Return each node's logits of each member, and the features of the first node's first member."""
        found = {name: self.networks.answers(name, trunks) for name in self.nodes}
        logits = {name: [each for each, _, _ in answers] for name, answers in found.items()}
        return logits, found[self.nodes[0]][0][1]

    @property
    def _shape_of_features(self) -> dict[str, tuple[int]]:
        return {"features": (self.networks.parts[self.nodes[0]][0].width,)}

    def _of_centre(self, features) -> dict[str, tf.Tensor]:
        """Return the features of the central square as it is, out of those of all views of an image [views, width]."""
        return {"features": features[preprocess.central_view(self.views)]}

    def _averages(self, logits, scaled: bool = True) -> dict[str, tf.Tensor]:
        return {name: self.networks.average(name, each, scaled) for name, each in logits.items()}

    def _answer(self, pairs, features, product, count) -> dict[str, tf.Tensor]:
        """Answer for the first ``count`` images, from what ``joining.answer`` takes and carci's features [N, width]."""
        answers = joining.answer(pairs, product, self.classes, self.calibration)
        if self._known is not None:
            answers["distance"] = joining.distance(features, self._known)
        # The black image that stands in for an empty batch is dropped here.
        return {name: value[:count] for name, value in answers.items()}

    def _routed_nodes(self, inputs):
        trunks = self.networks.of_views(inputs, [ROOT.name], {})
        found = self.networks.answers(ROOT.name, trunks)
        nodes = {ROOT.name: self.networks.average(ROOT.name, [logits for logits, _, _ in found])}
        chosen = tf.argmax(tf.reduce_mean(nodes[ROOT.name], axis=0))
        for index, node in enumerate(SPECIALISTS):
            nodes[node.name] = tf.cond(
                chosen == index,
                lambda name=node.name: self.networks.node(name, self.networks.of_views(inputs, [name], trunks)),
                lambda: tf.zeros((self.views, 2)),
            )
        return nodes | self._of_centre(found[0][1])

    def _specialist(self, name, rows, inputs, features):
        """Run one specialist on some rows, on carci's trunk features where it has the same trunk."""
        own = {part.trunk for part in self.networks.parts[name]}
        chosen = {key: tf.gather(features[key], rows) for key in sorted(own & set(features))}
        if own - set(features):
            some = tf.gather(inputs, rows)
            chosen |= {key: self.networks.trunks[key](some) for key in sorted(own - set(features))}
        return self.networks.node(name, chosen)


def check_members(members) -> None:
    """Refuse members that make neither a tree nor one node, or whose views differ."""
    missing = [name for name in NODES if not any(member.node == name for member in members)]
    if len(missing) not in (0, len(NODES) - 1):
        raise UserError(
            f"The tree needs a run for each node: none was given for {', '.join(missing)}. Only one node may be given "
            "by itself."
        )
    if all(member.view == members[0].view for member in members):
        return
    of_size = {member.view.image_size for member in members}
    name = "image_size" if len(of_size) > 1 else "stain_normalisation"
    listed = ", ".join(f"{member.source or member.node} {getattr(member.view, name)}" for member in members)
    raise UserError(f"All runs of a tree must share one {name.replace('_', ' ')}, but these differ: {listed}.")
