import pytest

from bach_keras.evidence.unjudged import unjudged_in_words
from bach_keras.tree import NODES
from datasets.labels import CLASSES, LABELS

TREE = tuple(NODES)


@pytest.mark.parametrize(
    ("nodes", "labels"),
    [
        (TREE, CLASSES),
        (TREE, LABELS),
        # Of these the scores say themselves that they judge carci alone.
        (TREE, ("benign", "malignant")),
        (("carci",), ("normal", "malignant")),
        (("norbe",), ("normal", "benign")),
    ],
)
def test_nothing_is_said_where_everything_is_judged(nodes, labels):
    assert unjudged_in_words(nodes, set(labels)) == ""


@pytest.mark.parametrize(
    ("nodes", "labels", "sentence"),
    [
        (TREE, ("normal", "benign"),
         "None of these images is labelled insitu or invasive: they judge invis not at all, and carci by one of two "
         "answers."),
        (TREE, ("normal", "insitu"),
         "None of these images is labelled benign or invasive: they judge norbe and invis by one of two answers."),
        (TREE, ("normal", "benign", "insitu", "malignant"),
         "None of these images is labelled invasive: they judge invis by one of two answers."),
        (TREE, ("invasive",),
         "None of these images is labelled normal, benign or insitu: they judge norbe not at all, and carci and invis "
         "by one of two answers."),
        (("norbe",), ("benign",), "None of these images is labelled normal: they judge norbe by one of two answers."),
        (("carci",), ("benign",),
         "None of these images is labelled insitu, invasive or malignant: they judge carci by one of two answers."),
    ],
)  # fmt: skip
def test_what_is_not_judged_is_named(nodes, labels, sentence):
    assert unjudged_in_words(nodes, set(labels)) == sentence
