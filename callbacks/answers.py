"""What a classifier's images, labels and outputs mean, in any of Keras's usual forms.

Each function refuses what it would have to guess, with a ValueError that says what to give.
"""

import numbers
from collections.abc import Mapping, Sequence

import keras
import numpy as np

# Probabilities in half precision, and labels, may miss a sum of 1 by so much.
_SUM = 0.02


def as_pictures(images) -> np.ndarray:
    """Return images as uint8 [n, height, width, 3], to look at.

    They are [n, height, width] or have 1, 3 or 4 channels; integers of 0 to 255, or floats of 0 to 1 or 0 to 255.
    """
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4) or not images.size:
        raise ValueError(
            f"Images have the shape {list(images.shape)}: give [n, height, width, channels], with 1, 3 or 4 channels."
        )
    drawn = _as_levels(images)
    if drawn.shape[-1] == 4:
        alpha = drawn[..., 3:].astype(int)
        drawn = ((drawn[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.broadcast_to(drawn, (*drawn.shape[:3], 3))


def _as_levels(images) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.number) and images.dtype != bool:
        raise ValueError(f"Images are of {images.dtype}: give numbers, preferably uint8.")
    values = images.astype(np.float64)
    low, high = values.min(), values.max()
    is_share = high <= 1 and (images.dtype == bool or np.issubdtype(images.dtype, np.floating))
    # A highest value between 1 and 16 means normalised images, as no picture is that dark.
    if not low >= 0 or not (high <= 1 or 16 <= high <= 255):
        raise ValueError(
            f"Images reach from {low:.3g} to {high:.3g}, so they cannot be drawn: give uint8 of 0 to 255, "
            "or floats of 0 to 1, and turn them into the model's inputs by preprocess."
        )
    return np.round(values * (255 if is_share else 1)).astype(np.uint8)


def as_classes(labels, count: int, class_names: Sequence[str], output=None) -> np.ndarray:
    """Return the labels of ``count`` images as int [n], places in ``class_names``.

    They are numbers of classes [n] or [n, 1], their names, one-hot rows [n, classes], or a dict of these by output.
    """
    if isinstance(labels, Mapping):
        labels = labels[_choose(list(labels), output, "labels are given for the outputs")]
    if isinstance(labels, tuple) and any(np.ndim(part) for part in labels):
        raise ValueError("Labels are a tuple of arrays, as with sample weights: give the labels alone.")
    labels = np.asarray(labels)
    if labels.ndim < 1 or len(labels) != count:
        given = len(labels) if labels.ndim else "no"
        raise ValueError(f"There are {given} labels and {count} images: give one for each image.")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.shape[1] == len(class_names):
        return _of_one_hot(labels)
    if labels.ndim != 1:
        raise ValueError(
            f"Labels have the shape {list(labels.shape)}: give [{count}], or one-hot [{count}, {len(class_names)}]."
        )
    if labels.dtype.kind in "USO":
        return _of_names(labels, class_names)
    numbers = labels.astype(np.float64)
    inside = (numbers >= 0) & (numbers < len(class_names)) & (numbers == np.floor(numbers))
    if not inside.all():
        raise ValueError(
            f"The label {numbers[~inside][0]:g} is not a class: give whole numbers of 0 to {len(class_names) - 1}."
        )
    return numbers.astype(int)


def _of_one_hot(labels) -> np.ndarray:
    """Return the class of the largest share, which smoothed labels have too."""
    values = labels.astype(np.float64)
    if not (values >= 0).all() or not np.allclose(values.sum(axis=1), 1, atol=_SUM):
        raise ValueError(
            "Labels mark several classes of an image, or none: each image needs one class, so give one-hot rows."
        )
    return values.argmax(axis=1)


def _of_names(labels, class_names) -> np.ndarray:
    places = {name: place for place, name in enumerate(class_names)}
    words = [word.decode(errors="replace") if isinstance(word, bytes) else word for word in labels.tolist()]
    for word in words:
        if word not in places:
            raise ValueError(f"The label {word!r} is not one of the class_names.")
    return np.array([places[word] for word in words])


def choose_output(outputs, count: int, names: Sequence[str], output=None) -> np.ndarray:
    """Return the output of a model that is to be shown, [n, classes].

    ``outputs`` are [n, classes]; [n] or [n, 1] of one sigmoid; or a dict or list of these, with the ``names`` of a
    list if they are known. Of several, ``output`` is the key, name or place of the one to take.
    """
    if isinstance(outputs, (list, tuple)):
        names = names if len(names) == len(outputs) else range(len(outputs))
        outputs = dict(zip(names, outputs, strict=True))
        is_place = isinstance(output, numbers.Integral) and 0 <= output < len(outputs)
        output = list(outputs)[output] if is_place else output
    if isinstance(outputs, Mapping):
        outputs = outputs[_choose(list(outputs), output, "model has the outputs")]
    elif output is not None and output not in (0, *names):
        raise ValueError(f"The model has one output, so there is no output {output!r}: remove output=.")
    values = keras.ops.convert_to_numpy(outputs)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or len(values) != count:
        raise ValueError(
            f"The model answers {list(values.shape)} for {count} images: only [{count}, classes] can be shown."
        )
    return values


def check_answers(values: np.ndarray, class_names: Sequence[str], from_logits: bool) -> None:
    """Refuse answers of ``choose_output`` that do not fit the class names, or ``from_logits``."""
    if values.shape[1] == 1 and len(class_names) != 2:
        raise ValueError(
            f"The model has one output, which separates two classes, and class_names are {len(class_names)}: give "
            "what 0 means and what 1 means."
        )
    if values.shape[1] not in (1, len(class_names)):
        raise ValueError(f"The model answers {values.shape[1]} classes and class_names are {len(class_names)}.")
    tolerance = 1e-3 if values.dtype in (np.float32, np.float64) else _SUM
    known = values[np.isfinite(values).all(axis=1)].astype(np.float64)
    is_inside = bool((known >= 0).all() and (known <= 1).all())
    if not from_logits and not is_inside:
        raise ValueError("The model's answers are outside of 0 to 1: say from_logits=True if they are logits.")
    if values.shape[1] == 1 or not len(known):
        return
    off = np.abs(known.sum(axis=1) - 1)
    if not from_logits and (off > tolerance).any():
        raise ValueError(
            "The model's answers do not add up to 1, so they are not probabilities of one class per image: say "
            "from_logits=True if they are logits; a model of several labels per image cannot be shown."
        )
    if from_logits and is_inside and (off < 1e-5).all():
        raise ValueError("The model answers probabilities: remove from_logits.")


def as_probabilities(values: np.ndarray, from_logits: bool) -> np.ndarray:
    """Return answers as probabilities, float64 [n, classes], two classes for one sigmoid; NaN stays NaN."""
    values = values.astype(np.float64)
    if values.shape[1] == 1:
        likely = 0.5 * (1 + np.tanh(values / 2)) if from_logits else values
        return np.concatenate([1 - likely, likely], axis=1)
    if from_logits:
        with np.errstate(invalid="ignore"):  # logits that overflowed become NaN
            values = np.exp(values - values.max(axis=1, keepdims=True))
            values /= values.sum(axis=1, keepdims=True)
    return values


def _choose(there: list, output, words: str):
    """Return the key of the output that is meant."""
    if output is None and len(there) == 1:
        return there[0]
    if output not in there:
        listed = ", ".join(map(repr, there))
        raise ValueError(f"The {words} {listed}: name one of them with output=.")
    return output
