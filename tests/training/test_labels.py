"""Which nodes images can train by their labels, and what is said of those that they cannot."""

import pytest

from bach_keras.training.labels import check_answers, check_whole_tree
from bach_keras.tree import NODES, trainable
from datasets.errors import UserError
from datasets.labels import LABELS
from tests.datasets.a_set import own_records, write_set


@pytest.mark.parametrize(
    ("labels", "nodes"),
    [
        (LABELS, ("carci", "norbe", "invis")),
        (("normal", "benign", "insitu", "invasive"), ("carci", "norbe", "invis")),
        (("benign", "malignant"), ("carci",)),
        (("normal", "invasive"), ("carci",)),
        (("normal", "benign"), ("norbe",)),
        (("insitu", "invasive", "malignant"), ("invis",)),
        (("normal", "benign", "insitu"), ("carci", "norbe")),
        (("benign",), ()),
        ((), ()),
    ],
)
def test_a_node_is_trained_by_images_of_both_its_answers(labels, nodes):
    assert trainable(labels) == nodes
    for name in nodes:
        check_answers(NODES[name], labels, "own-x")


@pytest.mark.parametrize(
    ("node", "labels", "sentence"),
    [
        ("norbe", ("benign", "malignant"), "labelled normal, so it cannot learn normal. By its labels own-x can train "
         "carci alone: take norbe from a run on other images, or join some, as in --config bach+own-x."),
        ("invis", ("normal", "benign", "insitu"), "labelled invasive, so it cannot learn invasive. By its labels own-x "
         "can train carci and norbe alone"),
        ("carci", ("normal", "benign"), "labelled insitu or invasive or malignant, so it cannot learn carcinoma"),
        ("carci", ("benign",), "By its labels own-x can train no node"),
    ],
)  # fmt: skip
def test_the_error_says_which_nodes_can_be_trained(node, labels, sentence):
    with pytest.raises(UserError) as caught:
        check_answers(NODES[node], labels, "own-x")
    assert sentence in str(caught.value)


def test_table_1_wants_a_whole_tree(tmp_path):
    write_set(tmp_path, "own-a", own_records("a", {"benign": 3, "malignant": 3}))
    write_set(tmp_path, "own-b", own_records("b", dict.fromkeys(("normal", "insitu", "invasive"), 3)))
    check_whole_tree("bisque")  # whose part of the table is carci's
    check_whole_tree("own-a+own-b", tmp_path)
    with pytest.raises(UserError, match=r"by its labels own-a can train carci alone: .* --config bach\+own-a"):
        check_whole_tree("own-a", tmp_path)
