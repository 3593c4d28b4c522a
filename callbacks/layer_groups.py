"""Learning rates per group of layers, and frozen groups, for Keras models.

    freeze(model, [r"(^|/)(stem|layer[12])"])
    groups = [(r"(^|/)layer[34]", 1 / 3), (".*", 1.0)]
    model.compile(with_layer_groups(keras.optimizers.SGD(0.1, momentum=0.9), groups), loss)

The optimizer keeps its one learning rate, set as usual by schedules and callbacks; each group trains at that
rate times its multiplier (discriminative fine-tuning: Howard & Ruder 2018, section 3.2).

Patterns are regular expressions searched in the paths of variables, e.g. ``resnext50/layer3_0_conv1/kernel``.
In a model loaded from a file the path may begin after the model's name, so anchor a pattern by ``(^|/)`` and
do not put the model's name in it. Keras leaves the names of nested models, and after loading those of wrappers such as
``Bidirectional``, out of the paths of their weights. ``freeze`` finds these names too, as it knows the model, and
groups do so with ``model=``.
"""

import functools
import logging
import math
import re
import types
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops

from callbacks.weight_paths import compiled, compiled_patterns, paths_of_weights, shown

LOG = logging.getLogger(__name__)


def with_layer_groups(
    optimizer: keras.optimizers.Optimizer, groups: Sequence[tuple[str, float]], model: keras.Model | None = None
) -> keras.optimizers.Optimizer:
    """Return an optimizer of the same kind and settings whose learning rate differs by group.

    A variable belongs to the first group whose pattern is found in its path, and to no other. The multiplier
    scales the rate, not the gradient, and decoupled weight decay with it, which per step is rate x multiplier x
    decay x weight. So each group trains as if alone, at its own rate.
    When the optimizer is built, at the latest in the first step, one line a group is logged, and ValueError
    lists any trainable variables without a group. A group may be empty, for example when its layers are frozen; that
    is logged as a warning.

    The result is saved and loaded with the model, and each variable keeps its group; import this module before
    ``keras.saving.load_model``.

        >>> import keras
        >>> from callbacks.layer_groups import freeze, with_layer_groups
        >>> layers = [keras.layers.Dense(8, name=name) for name in ("stem", "body", "head")]
        >>> model = keras.Sequential([keras.Input((4,)), *layers])
        >>> freeze(model, "^stem/")
        >>> optimizer = with_layer_groups(keras.optimizers.SGD(0.1), [("^body/", 1 / 3), ("^head/", 1)])
        >>> model.compile(optimizer, "mse")
        >>> [layer.trainable for layer in model.layers]
        [False, True, True]

    Args:
        optimizer: a new Keras optimizer, but none that wraps another (LossScaleOptimizer) or decays weights in its own
            way (Muon). Its rate may be a schedule; ``exclude_from_weight_decay`` is to be called on the result.
        groups: ``(pattern, multiplier)`` pairs in order of precedence; multipliers are positive.
        model: the model to train, built, where patterns name nested models or wrappers in it.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            f"Layer groups need an optimizer object, such as keras.optimizers.SGD(0.1), not {shown(optimizer)}."
        )
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
    groups = _checked(groups)
    # A schedule or a function is passed as it is, as not every one can be written as a config.
    rate = optimizer._learning_rate
    rate = float(rate.numpy()) if isinstance(rate, keras.Variable) else rate
    grouped = _grouped(kind).from_config({**_settings(optimizer), "learning_rate": rate, "groups": groups})
    if model is not None:
        grouped._names = types.MappingProxyType(paths_of_weights(model))
    return grouped


def _settings(optimizer) -> dict:
    """Return an optimizer's settings except its rate."""
    rate = optimizer._learning_rate
    if isinstance(rate, keras.Variable):
        return optimizer.get_config()
    try:
        optimizer._learning_rate = 0.0
        return optimizer.get_config()
    finally:
        optimizer._learning_rate = rate


def freeze(model: keras.Model, patterns: str | Sequence[str]):
    """Freeze exactly the layers all of whose weights match one of the patterns; every other layer trains.

    A frozen layer has no optimizer slots, and a frozen batch norm runs in inference mode, its statistics
    fixed; a rate of 0 would give neither. Compile the model afterwards, otherwise Keras does not notice.

    Args:
        model: a built Keras model.
        patterns: regular expressions, one or any number, searched in Keras's paths of weights, and in those of the
            names of all layers around a weight.
    """
    patterns = compiled_patterns(patterns)
    paths, layers = paths_of_weights(model), model._flatten_layers()
    frozen, matched = set(), {}
    for pattern in patterns:
        found = {key for key, names in paths.items() if any(pattern.search(name) for name in names)}
        # A layer is judged by its weights alone, as the states of random seeds have no layer in their path; one that
        # is not built has no weights yet, and is judged by its name.
        matches = [
            layer
            for layer in layers
            if (all(id(weight) in found for weight in layer.weights) if layer.weights else id(layer) in found)
        ]
        if not matches:
            raise ValueError(
                f"No layer of {model.name!r} has weights that all match {pattern.pattern!r}: check the pattern, and "
                "that the model is built."
            )
        frozen.update(map(id, matches))
        matched[pattern.pattern] = found
        LOG.info(f"frozen {pattern.pattern!r}: {_counted(len(matches), 'layer')}")
    _warn_of_parts(model, [layer for layer in layers if id(layer) in frozen], matched)
    # Layers that train are set first, as setting a layer sets its parts, and a part may be in several layers.
    for layer in layers:
        if id(layer) not in frozen:
            layer.trainable = True
            _fix_base(layer)
    for layer in layers:
        if id(layer) in frozen:
            layer.trainable = False


def _fix_base(layer) -> None:
    """Keep the weights fixed that low-rank adapters (LoRA) are added to, as thawing their layer would train them."""
    if getattr(layer, "lora_enabled", False):
        for weight in layer._trainable_variables:
            if weight.name in ("kernel", "embeddings"):
                weight.trainable = False


def _warn_of_parts(model, frozen, matched: dict[str, set[int]]) -> None:
    """Log which weights match a pattern and train nevertheless."""
    fixed = {id(weight) for layer in frozen for weight in layer.weights}
    for pattern, found in matched.items():
        partly = [weight.path for weight in model.weights if id(weight) in found - fixed]
        if partly:
            named = ", ".join(partly[:3]) + (", ..." if len(partly) > 3 else "")
            LOG.warning(f"{pattern!r} matches only some weights of layers, which therefore train: {named}")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class _LayerGroups:
    """What with_layer_groups adds to an optimizer class."""

    def __init__(self, *, groups, members=None, **settings):
        super().__init__(**settings)
        self.groups = _checked(groups)
        # For a loaded model, each variable's path as it was and the number of its group.
        self._members = members and tuple((path, member) for path, member in members)
        # The paths of the layers around each variable, where the model was given.
        self._names = types.MappingProxyType({})

    def build(self, variables):
        if not self.built:
            # They go by index, as under a tf.distribute strategy update_step gets raw variables, which have no path.
            self._multipliers = self._resolve(variables)
        super().build(variables)

    def _resolve(self, variables) -> tuple[float, ...]:
        """Return each variable's multiplier, and log the groups."""
        paths = [getattr(variable, "path", variable.name) for variable in variables]
        if self._members is None or not _are_the_same(paths, [path for path, _ in self._members]):
            found = self._find(variables, paths)
            uncovered = [path for path, matching in zip(paths, found, strict=True) if not matching]
            if uncovered:
                raise ValueError(
                    f"No layer group matches these trainable variables: {', '.join(uncovered)}. "
                    "Add a group for them, or freeze their layers."
                )
            self._members = tuple((path, matching[0]) for path, matching in zip(paths, found, strict=True))
            self._warn_of_empty(found)
        members = [member for _, member in self._members]
        for index, (pattern, multiplier) in enumerate(self.groups):
            sizes = [math.prod(v.shape) for v, member in zip(variables, members, strict=True) if member == index]
            size = f"{_counted(len(sizes), 'variable')}, {_counted(sum(sizes), 'weight')}"
            LOG.info(f"layer group {pattern!r}: rate x {multiplier:g}, {size}")
        return tuple(self.groups[member][1] for member in members)

    def _find(self, variables, paths) -> list[list[int]]:
        """Return for each variable the groups whose pattern is found in one of its paths."""
        candidates = [{path} | self._names.get(id(v), set()) for v, path in zip(variables, paths, strict=True)]
        return [
            [index for index, (pattern, _) in enumerate(self.groups) if any(re.search(pattern, path) for path in those)]
            for those in candidates
        ]

    def _warn_of_empty(self, found):
        for index, (pattern, _) in enumerate(self.groups):
            if any(matching[0] == index for matching in found):
                continue
            if any(index in matching for matching in found):
                why = "earlier groups have every variable that it matches, as the first match wins"
            else:
                why = (
                    "it matches no trainable variable's path. Check the pattern, unless its layers are frozen; where "
                    "it names a nested model or a wrapper, set model= of with_layer_groups to the model"
                )
            LOG.warning(f"layer group {pattern!r} is empty: {why}")

    def update_step(self, gradient, variable, learning_rate):
        multiplier = self._multipliers[self._get_variable_index(variable)]
        learning_rate = ops.cast(learning_rate, variable.dtype) * multiplier
        if self.weight_decay is not None and self._use_weight_decay(variable):
            decay = ops.cast(self.weight_decay, variable.dtype)
            self.assign_sub(variable, variable * decay * learning_rate)
        super().update_step(gradient, variable, learning_rate)

    def _apply_weight_decay(self, variables):
        """Do nothing, as Keras would decay by the common rate here; update_step decays by the group's."""

    def get_config(self):
        return {
            **super().get_config(),
            "groups": [list(group) for group in self.groups],
            "members": self._members and [list(member) for member in self._members],
        }


def _are_the_same(paths: list[str], before: list[str]) -> bool:
    """Return whether paths are the same as before, except for outer names that loading a model may leave out."""
    return len(paths) == len(before) and all(
        f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")
        for one, other in zip(paths, before, strict=True)
    )


def _checked(groups) -> tuple[tuple[str, float], ...]:
    """Return the groups as plain tuples."""
    if groups is None or isinstance(groups, (str, bytes, Mapping)) or not hasattr(groups, "__iter__"):
        raise ValueError(
            "Layer groups are a list of (pattern, multiplier) pairs, such as [('(^|/)stem', 0.1), ('.*', 1)], "
            f"not {shown(groups)}."
        )
    groups = list(groups)
    if not groups:
        raise ValueError("There is no layer group: give at least one (pattern, multiplier) pair.")
    return tuple(_checked_group(group) for group in groups)


def _checked_group(group) -> tuple[str, float]:
    if not isinstance(group, (tuple, list)) or len(group) != 2:
        raise ValueError(
            f"Layer group {shown(group)} is not a pair of a pattern and a multiplier: give the groups as a list of "
            "such pairs."
        )
    pattern, multiplier = group
    if not isinstance(pattern, str):
        raise ValueError(f"Layer group {shown(pattern)} is not a regular expression: give it as text.")
    compiled(pattern, "Layer group")
    try:
        if isinstance(multiplier, (bool, np.bool_, str, bytes)):
            raise TypeError
        number = float(multiplier)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Layer group {pattern!r} has the multiplier {shown(multiplier)}, which is not a number."
        ) from error
    if not 0 < number < math.inf:
        raise ValueError(
            f"Layer group {pattern!r} has the multiplier {multiplier}, which is not positive: "
            "freeze layers by trainable=False, as at a rate of 0 their batch norm still drifts."
        )
    return pattern, number


def _can_have_groups(kind: type) -> bool:
    """Return whether a class updates variables in update_step and leaves weight decay to Keras's base class."""
    base = keras.optimizers.Optimizer
    return kind.update_step is not base.update_step and kind._apply_weight_decay is base._apply_weight_decay


@functools.cache
def _grouped(kind: type) -> type:
    """Return the subclass of an optimizer class that has groups, registered so that Keras can load it."""
    subclass = type(f"LayerGroups{kind.__name__}", (_LayerGroups, kind), {"__module__": __name__})
    return keras.saving.register_keras_serializable("layer_groups")(subclass)


# A model may be loaded before with_layer_groups is called. Optimizer classes from elsewhere are registered
# when they are first given groups.
for _kind in vars(keras.optimizers).values():
    if isinstance(_kind, type) and issubclass(_kind, keras.optimizers.Optimizer) and _can_have_groups(_kind):
        _grouped(_kind)
