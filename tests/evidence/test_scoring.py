from unittest.mock import ANY

import pytest

from bach_keras.evidence.metrics import scores
from bach_keras.evidence.scoring import accuracy_in_words, headline, score
from tests.evidence.answered import node_row, predictions, row, rows


def scored(some, node=None, **options):
    return score(predictions(some, node), **options)


def test_a_trees_figures_are_those_of_its_rows():
    result = scored(rows())
    expected = scores(
        range(4), [[each[name] for name in ("normal", "benign", "insitu", "invasive")] for each in rows()],
        ("normal", "benign", "insitu", "invasive"), ["1", "1", "2", ""],
    )  # fmt: skip
    assert {name: result[name] for name in expected if name != "why"} == {
        name: value for name, value in expected.items() if name != "why"
    }
    assert (result["kind"], result["headline"], result["n"], result["groups"]) == ("system", "system", 4, 3)
    assert {name: each["n"] for name, each in result["nodes"].items()} == {"carci": 4, "norbe": 2, "invis": 2}
    assert result["errors"]["left_at"] == {"carci": 0, "norbe": 0, "invis": 1}


def test_malignant_counts_for_carci_alone():
    result = scored([*rows(), row("m.tif", "malignant", carci=0.9)])
    assert result["headline"] == "system"
    assert result["n"] == 4
    assert {name: each["n"] for name, each in result["nodes"].items()} == {"carci": 5, "norbe": 2, "invis": 2}


def test_the_headline_is_what_labels_as_coarse_as_bisques_can_judge():
    result = scored([row("b.tif", "benign", carci=0.2), row("m.tif", "malignant", carci=0.9)])
    assert result["headline"] == "carci"
    assert result["accuracy"] is None
    assert result["confusion_matrix"] is None
    assert (result["n"], result["groups"]) == (2, result["nodes"]["carci"]["groups"])
    assert "more coarsely than the four classes" in result["why"]["accuracy"]
    assert headline(result) == ("carci", result["nodes"]["carci"])
    assert accuracy_in_words(result).startswith("carci accuracy 1.000 (95 % interval ")
    assert set(result["nodes"]) == {"carci", "norbe"}


def test_one_node_alone_is_its_own_headline():
    result = scored([node_row("b.tif", "benign", second=0.2), node_row("m.tif", "malignant", second=0.3)], "carci")
    assert (result["kind"], result["node"], result["headline"]) == ("node", "carci", "carci")
    assert result["accuracy"] == 0.5
    assert result["confusion_matrix"] == [[1, 0], [1, 0]]
    assert list(result["nodes"]) == ["carci"]
    assert result["errors"]["left_at"] == {"carci": 1}


def test_one_image_of_one_patient_is_judged_and_what_it_cannot_tell_is_none_with_a_reason():
    result = scored([row("b.tif", "benign", norbe=0.8, group="1")])
    assert (result["n"], result["groups"], result["accuracy"]) == (1, 1, 1)
    assert result["absent"] == ["normal", "insitu", "invasive"]
    missing = {name for name, value in result.items() if value is None} - {"model_digest"}
    assert "auroc" in missing
    assert missing <= set(result["why"])


def test_the_most_confident_answers_come_first():
    result = scored([row("a.tif", "normal", carci=0.0, norbe=0.0), row("b.tif", "benign", carci=0.4, norbe=0.4)])
    assert result["coverage"] == [
        {"coverage": 0.5, "accuracy": 1.0, "n": 1}, {"coverage": 1.0, "accuracy": 0.5, "n": 2}
    ]  # fmt: skip


def test_nothing_is_said_of_doubt_where_nothing_was_calibrated():
    result = scored(rows())
    assert (result["unsure"], result["sets"], result["uncalibrated"]) == (None, None, None)
    assert {"unsure", "sets", "uncalibrated"} <= set(result["why"])


def test_unsure_answers_are_counted_and_the_errors_among_them():
    first, second, third, wrong = rows()
    some = [
        {**first, "unsure": False}, {**second, "unsure": True}, {**third, "unsure": False}, {**wrong, "unsure": True}
    ]  # fmt: skip
    assert scored(some)["unsure"] == {
        "n": 4, "n_unsure": 2, "share": 0.5, "errors": 1, "errors_unsure": 1, "accuracy_of_sure": 1.0,
        "sure": {"n": 2, "groups": 2, "effective_n": pytest.approx(2), "accuracy": 1.0, "accuracy_ci95": ANY},
    }  # fmt: skip
    assert scored([{**each, "unsure": True} for each in rows()])["unsure"]["accuracy_of_sure"] is None


def test_prediction_sets_are_counted_at_both_levels():
    some = [{**each, "set": ["normal", "insitu"], "set.0.8": ["normal"]} for each in rows()]
    found = scored(some)["sets"]
    assert {level: (each["covered"], each["n"], each["mean_size"]) for level, each in found.items()} == {
        "0.8": (0.25, 4, 1), "0.9": (0.5, 4, 2)
    }  # fmt: skip
    assert found["0.9"]["covered_ci95"][0] < 0.5 < found["0.9"]["covered_ci95"][1]
    assert list(scored([{**each, "set": []} for each in rows()])["sets"]) == ["0.9"]


def test_what_was_said_before_calibration_is_scored_too():
    before = {"carci": [0.5, 0.5], "norbe": [0.5, 0.5], "invis": [0.5, 0.5]}
    found = scored([{**each, "uncalibrated": before} for each in rows()])["uncalibrated"]
    assert list(found) == ["carci", "norbe", "invis", "system"]
    assert set(found["system"]) == {"log_loss", "brier", "calibration_error", "reliability"}
    assert found["system"]["brier"] == pytest.approx(0.75)
    assert found["system"]["log_loss"] == pytest.approx(1.3862943611198906)


def test_images_that_chose_something_and_stains_that_were_left_are_counted():
    some = [{**each, "chosen": each["truth"] == "benign", "normalised": each["truth"] != "insitu"} for each in rows()]
    result = scored(some, stain_normalisation="macenko")
    assert result["chosen_on"] == 1
    assert result["stains"]["left"] == {"normal": 0, "benign": 0, "insitu": 1, "invasive": 0}
    assert "stains" not in scored(some)
