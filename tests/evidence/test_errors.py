import pytest

from bach_keras.evidence.errors import find_errors, is_right
from tests.evidence.answered import node_row, row, rows


def test_an_error_is_a_path_with_the_node_that_left_it():
    wrong = row("d.tif", "invasive", carci=0.75, invis=0.25)
    assert find_errors([*rows()[:3], wrong], "system") == {
        "left_at": {"carci": 0, "norbe": 0, "invis": 1},
        "paths": [{
            "filename": "d.tif", "truth": "invasive", "label": "insitu", "left_at": "invis", "confidence": 0.75,
            "path": [["carci", "carcinoma", 0.75], ["invis", "insitu", 0.75]],
        }],
    }  # fmt: skip


def test_an_error_of_the_root_is_the_roots():
    found = find_errors([row("a.tif", "normal", carci=0.75, invis=0.25)], "system")
    assert found["left_at"] == {"carci": 1, "norbe": 0, "invis": 0}
    assert found["paths"][0]["confidence"] == 0.75


def test_the_path_is_that_of_the_label_even_where_the_root_alone_would_go_another_way():
    # Carci leans to carcinoma, and yet normal is the likeliest of the four classes.
    split = row("a.tif", "insitu", carci=0.55, norbe=0.0, invis=0.5)
    (path,) = find_errors([split], "system")["paths"]
    assert path["label"] == "normal"
    assert path["path"] == [["carci", "noncarcinoma", pytest.approx(0.45)], ["norbe", "normal", 1.0]]
    assert (path["left_at"], path["confidence"]) == ("carci", pytest.approx(0.45))


def test_a_malignant_image_can_leave_at_carci_alone():
    missed, found = row("m.tif", "malignant", carci=0.25), row("n.tif", "malignant", carci=0.75)
    (path,) = find_errors([missed, found], "system")["paths"]
    assert (path["filename"], path["left_at"]) == ("m.tif", "carci")
    assert path["path"] == [["carci", "noncarcinoma", 0.75]]


def test_where_a_node_is_judged_the_path_is_its_answer():
    found = find_errors([row("a.tif", "benign", carci=0.25, norbe=0.25)], "carci")
    assert found["paths"] == []
    assert found["left_at"] == {"carci": 0, "norbe": 0, "invis": 0}
    alone = find_errors([node_row("a.tif", "malignant", second=0.25)], "carci")
    assert alone["left_at"] == {"carci": 1}
    assert alone["paths"][0]["path"] == [["carci", "noncarcinoma", 0.75]]


def test_of_equals_the_first_is_a_nodes_answer():
    assert is_right(row("a.tif", "benign", carci=0.5), "carci")
