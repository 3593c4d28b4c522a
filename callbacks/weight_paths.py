"""Paths of a Keras model's weights, and the regular expressions that are searched in them."""

import collections
import re
from collections.abc import Mapping

import keras


def paths_of_weights(model: keras.Model) -> dict[int, set[str]]:
    """Return the paths of each weight by its ``id``: Keras's, and the one of the names of all layers around it.

    Keras leaves nested models out of its paths, and in a loaded model wrappers too. The model's own name is not in the
    second kind. A layer that is not built has no weights, so it is in the result by its own ``id``, its path with a
    slash.
    """
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(f"Layers and their weights are those of a Keras model, not {shown(model)}.")
    paths = collections.defaultdict(set)

    def walk(layer, place: str):
        if place and not layer.built and not layer.weights:
            paths[id(layer)].add(place)
        for weight in layer._trainable_variables + layer._non_trainable_variables:
            paths[id(weight)] |= {weight.path, place + weight.name}
        for part in layer._layers:
            walk(part, f"{place}{part.name}/")

    walk(model, "")
    return dict(paths)


def compiled_patterns(patterns) -> list[re.Pattern]:
    """Return one pattern or several, compiled."""
    given = [patterns] if isinstance(patterns, (str, re.Pattern)) else patterns
    if given is None or isinstance(given, (bytes, Mapping)) or not hasattr(given, "__iter__"):
        raise ValueError(f"What to freeze is a regular expression or a list of them, not {shown(patterns)}.")
    return [compiled(pattern, "The pattern") for pattern in given]


def compiled(pattern, what: str) -> re.Pattern:
    """Return a pattern compiled; ``what`` names it in the message of the ValueError."""
    if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
        return pattern
    if not isinstance(pattern, str):
        raise ValueError(f"{what} {shown(pattern)} is not a regular expression: give it as text.")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{what} {pattern!r} is not a regular expression: {error}.") from error


def shown(value) -> str:
    """Return a value in a form short enough for a sentence."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
