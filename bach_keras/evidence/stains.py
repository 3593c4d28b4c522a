"""Which images a stain normalisation left as they are, by class: if one class stays more often, that is a cue."""

from collections import Counter

from datasets.labels import LABELS


def tally(method: str, labels, normalised) -> dict:
    """Return ``method``, and ``left`` and ``of``: label -> how many images stayed as they were, of how many.

    Args:
        method: one of ``datasets.stain.NORMALISATIONS``.
        labels, normalised: of each image, the label's name, and whether it was normalised.
    """
    pairs = list(zip(labels, map(bool, normalised), strict=True))
    of, left = Counter(label for label, _ in pairs), Counter(label for label, known in pairs if not known)
    order = [label for label in LABELS if label in of] + sorted(set(of) - set(LABELS))
    return {
        "method": method,
        "left": {label: left[label] for label in order},
        "of": {label: of[label] for label in order},
    }


def in_words(counted: dict) -> str:
    """Return a tally in words: ``macenko left 3 of 400 images as they are: 2 of 100 benign, ...``."""
    left, of = counted["left"], counted["of"]
    if not sum(left.values()):
        return f"{counted['method']} normalised all {sum(of.values())} images"
    each = ", ".join(f"{left[label]} of {count} {label}" for label, count in of.items())
    return f"{counted['method']} left {sum(left.values())} of {sum(of.values())} images as they are: {each}"


def survey(records, size: int) -> list[dict]:
    """Try every method on a data set, at a side of ``size`` pixels, and return a tally for each.

    Args:
        records: a ``tf.data.Dataset`` of dicts with ``image`` uint8 [H, W, 3] and ``label``, an index of LABELS.
    """
    import tensorflow as tf  # a tally needs none, where predictions are checked without the model

    from bach_keras import preprocess
    from datasets.stain import NORMALISATIONS

    methods = NORMALISATIONS[1:]

    def tried(record):
        square = preprocess.square(record["image"], size)
        return record["label"], tf.stack([preprocess.normalise_stain_each(square, size, m)[1] for m in methods])

    tried_records = preprocess.untuned(records.map(tried, num_parallel_calls=tf.data.AUTOTUNE))
    found = [(LABELS[label], normalised) for label, normalised in tried_records.as_numpy_iterator()]
    labels = [label for label, _ in found]
    return [tally(method, labels, [each[place] for _, each in found]) for place, method in enumerate(methods)]
