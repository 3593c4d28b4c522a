"""What labels cannot say of a system: images of fewer labels judge a part of it."""

from bach_keras.evidence.scoring import is_too_coarse
from bach_keras.tree import NODES, trainable
from datasets.labels import CLASSES


def unjudged_in_words(nodes: tuple[str, ...], labels: set[str]) -> str:
    """Return a sentence on what images of these labels do not judge of a system of some nodes, or "".

    Where they are labelled too coarsely for the four classes, as BISQUE's are, the scores themselves say so.
    """
    groups = NODES[nodes[0]].labels if len(nodes) == 1 else [(name,) for name in CLASSES]
    missing = [name for group in groups if not labels & set(group) for name in group]
    if not missing or (len(nodes) > 1 and is_too_coarse(labels)):
        return ""
    unjudged = [name for name in nodes if not labels & set(NODES[name].targets)]
    halves = [name for name in nodes if name not in (*unjudged, *trainable(labels))]
    listed = " or ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
    judged = [f"{' and '.join(unjudged)} not at all"] if unjudged else []
    judged += [f"{' and '.join(halves)} by one of two answers"] if halves else []
    return f"None of these images is labelled {listed}: they judge {', and '.join(judged)}."
