import pytest

from bach_keras.tree import CARCI, INVIS, NODES, NORBE, ROOT, SPECIALISTS, get_node, path_to
from datasets.labels import CLASSES, MALIGNANT


def test_three_nodes_by_name():
    assert list(NODES) == ["carci", "norbe", "invis"]
    assert all(get_node(name) is node for name, node in NODES.items())


def test_unknown_node_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"'Carci'.*carci, norbe, invis"):
        get_node("Carci")


def test_targets():
    assert CARCI.targets == {"normal": 0, "benign": 0, "insitu": 1, "invasive": 1, MALIGNANT: 1}
    assert NORBE.targets == {"normal": 0, "benign": 1}
    assert INVIS.targets == {"insitu": 0, "invasive": 1}


@pytest.mark.parametrize(
    ("label", "group", "specialist"),
    [
        ("normal", "noncarcinoma", NORBE),
        ("benign", "noncarcinoma", NORBE),
        ("insitu", "carcinoma", INVIS),
        ("invasive", "carcinoma", INVIS),
    ],
)
def test_path_to_a_leaf(label, group, specialist):
    assert path_to(label) == ((ROOT, group), (specialist, label))


def test_only_the_four_classes_are_leaves():
    with pytest.raises(ValueError, match="not a leaf"):
        path_to(MALIGNANT)


def test_the_specialists_answers_in_order_are_the_classes():
    assert tuple(answer for node in SPECIALISTS for answer in node.classes) == tuple(CLASSES)
