from bach_keras.tree import CARCI, INVIS, NODES, NORBE, SPECIALISTS
from datasets.labels import CLASSES, MALIGNANT


def test_three_nodes_by_name():
    assert list(NODES) == ["carci", "norbe", "invis"]
    assert all(name == node.name for name, node in NODES.items())


def test_targets():
    assert CARCI.targets == {"normal": 0, "benign": 0, "insitu": 1, "invasive": 1, MALIGNANT: 1}
    assert NORBE.targets == {"normal": 0, "benign": 1}
    assert INVIS.targets == {"insitu": 0, "invasive": 1}


def test_the_specialists_answers_in_order_are_the_classes():
    assert tuple(answer for node in SPECIALISTS for answer in node.classes) == tuple(CLASSES)
