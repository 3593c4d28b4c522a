"""Learning rates per group of layers, and frozen groups, for Keras models.

    freeze(model, [r"(^|/)(stem|layer[12])"])
    groups = [(r"(^|/)layer[34]", 1 / 3), (".*", 1.0)]
    model.compile(with_layer_groups(keras.optimizers.SGD(0.1, momentum=0.9), groups), loss)

The optimizer keeps its one learning rate, set as usual by schedules and callbacks; each group trains at that
rate times its multiplier (discriminative fine-tuning: Howard & Ruder 2018, section 3.2).

Patterns are regular expressions searched in the paths of variables, e.g. ``resnext50/layer3_0_conv1/kernel``.
In a model loaded from a file the path may begin after the model's name, so anchor a pattern by ``(^|/)`` and
never name the model in it.
"""

import functools
import logging
import math
import re
from collections.abc import Sequence

import keras
from keras import ops

logger = logging.getLogger(__name__)


def with_layer_groups(
    optimizer: keras.optimizers.Optimizer, groups: Sequence[tuple[str, float]]
) -> keras.optimizers.Optimizer:
    """Return an optimizer of the same kind and settings whose learning rate differs by group.

    A variable belongs to the first group whose pattern is found in its path, and to no other. The multiplier
    scales the rate, not the gradient, and decoupled weight decay with it, which per step is rate x multiplier x
    decay x weight: each group trains as if alone, at its own rate.
    When the optimizer is built, at the latest in the first step, one line a group is logged, and ValueError
    lists any trainable variables without a group. A group may be empty, as when its layers are frozen.

    The result is saved and loaded with the model; import this module before ``keras.saving.load_model``.

    Args:
        optimizer: a new Keras optimizer; ``exclude_from_weight_decay`` is to be called on the result.
        groups: ``(pattern, multiplier)`` pairs in order of precedence; multipliers are positive.

    Raises:
        ValueError: a bad group, an optimizer that is built or has groups already, or a kind that cannot have
            them: one that wraps another (LossScaleOptimizer) or decays weights in its own way (Muon).
    """
    kind = type(optimizer)
    if isinstance(optimizer, _LayerGroups):
        raise ValueError("This optimizer already has layer groups: start from a plain one.")
    if not _can_have_groups(kind):
        raise ValueError(
            f"{kind.__name__} cannot have layer groups: give them to the optimizer that it wraps, if any, "
            "or choose one whose update_step takes the learning rate and that decays weights as Keras does."
        )
    if optimizer.built or hasattr(optimizer, "_exclude_from_weight_decay"):
        raise ValueError(
            f"Layer groups need a new {kind.__name__}: add them before it is built, and call "
            "exclude_from_weight_decay on the optimizer that with_layer_groups returns."
        )
    return _grouped(kind).from_config({**optimizer.get_config(), "groups": groups})


def freeze(model: keras.Model, patterns: str | Sequence[str]):
    """Freeze exactly the layers all of whose variables match one of the patterns; every other layer trains.

    A frozen layer has no optimizer slots, and a frozen batch norm runs in inference mode, its statistics
    fixed; a rate of 0 would give neither. Compile the model afterwards: Keras does not see it otherwise.

    Args:
        model: a built Keras model.
        patterns: regular expressions, one or any number, searched in the paths of variables.

    Raises:
        ValueError: a pattern that matches no layer.
    """
    # Parents come before their parts, as they must: setting a parent sets its parts.
    layers = [layer for layer in model._flatten_layers() if layer.variables]
    frozen = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matches = [layer for layer in layers if all(re.search(pattern, v.path) for v in layer.variables)]
        if not matches:
            raise ValueError(
                f"No layer of {model.name!r} matches {pattern!r}: check the pattern, and that the model is built."
            )
        frozen.update(map(id, matches))
        logger.info("frozen %r: %d layers", pattern, len(matches))
    for layer in layers:
        layer.trainable = id(layer) not in frozen


class _LayerGroups:
    """What with_layer_groups adds to an optimizer class."""

    def __init__(self, *, groups, **settings):
        super().__init__(**settings)
        self.groups = _checked(groups)

    def build(self, variables):
        if not self.built:
            # By index: under a tf.distribute strategy update_step gets raw variables, which have no path.
            self._multipliers = self._resolve(variables)
        super().build(variables)

    def _resolve(self, variables) -> tuple[float, ...]:
        """Return each variable's multiplier, and log the groups."""
        paths = [getattr(variable, "path", variable.name) for variable in variables]
        members = [
            next((index for index, (pattern, _) in enumerate(self.groups) if re.search(pattern, path)), None)
            for path in paths
        ]
        uncovered = [path for path, member in zip(paths, members, strict=True) if member is None]
        if uncovered:
            raise ValueError(
                f"No layer group matches these trainable variables: {', '.join(uncovered)}. "
                "Add a group for them, or freeze their layers."
            )
        for index, (pattern, multiplier) in enumerate(self.groups):
            sizes = [math.prod(v.shape) for v, member in zip(variables, members, strict=True) if member == index]
            logger.info(
                "layer group %r: rate x %g, %d variables, %d weights",
                pattern,
                multiplier,
                len(sizes),
                sum(sizes),
            )
        return tuple(self.groups[member][1] for member in members)

    def update_step(self, gradient, variable, learning_rate):
        multiplier = self._multipliers[self._get_variable_index(variable)]
        learning_rate = ops.cast(learning_rate, variable.dtype) * multiplier
        if self.weight_decay is not None and self._use_weight_decay(variable):
            decay = ops.cast(self.weight_decay, variable.dtype)
            self.assign_sub(variable, variable * decay * learning_rate)
        super().update_step(gradient, variable, learning_rate)

    def _apply_weight_decay(self, variables):
        """Do nothing: here Keras would decay by the common rate; update_step does by the group's."""

    def get_config(self):
        return {**super().get_config(), "groups": [list(group) for group in self.groups]}


def _checked(groups) -> tuple[tuple[str, float], ...]:
    """Return the groups as plain tuples, or raise ValueError."""
    if not groups:
        raise ValueError("There is no layer group: give at least one (pattern, multiplier) pair.")
    for pattern, multiplier in groups:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"Layer group {pattern!r} is not a regular expression: {error}.") from error
        if not 0 < multiplier < math.inf:
            raise ValueError(
                f"Layer group {pattern!r} has the multiplier {multiplier}, which is not positive: "
                "freeze layers by trainable=False, for at a rate of 0 their batch norm still drifts."
            )
    return tuple((pattern, float(multiplier)) for pattern, multiplier in groups)


def _can_have_groups(kind: type) -> bool:
    """Whether a class updates variables in update_step and leaves weight decay to Keras's base class."""
    base = keras.optimizers.Optimizer
    return kind.update_step is not base.update_step and kind._apply_weight_decay is base._apply_weight_decay


@functools.cache
def _grouped(kind: type) -> type:
    """Return the one subclass of an optimizer class that has groups, registered so that Keras can load it."""
    subclass = type(f"LayerGroups{kind.__name__}", (_LayerGroups, kind), {"__module__": __name__})
    return keras.saving.register_keras_serializable("layer_groups")(subclass)


# A model may be loaded before with_layer_groups is called. Optimizer classes from elsewhere are registered
# when they are first given groups.
for _kind in vars(keras.optimizers).values():
    if isinstance(_kind, type) and issubclass(_kind, keras.optimizers.Optimizer) and _can_have_groups(_kind):
        _grouped(_kind)
