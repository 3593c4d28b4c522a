"""What an evaluation says of images unlike those that trained the model, and that it can be checked."""

import json

import numpy as np
import pytest

from bach_keras.evidence.evaluate import evaluate
from bach_keras.evidence.predictions import as_csv, parse, read_predictions
from bach_keras.evidence.ranges import Ranges
from bach_keras.evidence.report import sections
from bach_keras.evidence.scoring import score
from bach_keras.evidence.verify_result import verify_result
from bach_keras.provenance import Provenance
from datasets.errors import UserError
from tests.evidence.answered import predictions, row
from tests.evidence.system import System

BOUNDS = {"blur": (0.2, 0.6), "tissue": (0.1, 1.0), "stain": (0.0, 3.0), "features": (0.0, 20.0)}


def measured(**changes):
    return {"blur": 0.5, "tissue": 0.7, "stain": 1.0, "features": 9.0} | changes


def rows():
    """Return three images: one well, one with two warnings that is answered right, one with one that is wrong."""
    return [
        row("a.tif", "normal", group="1", measured=measured()),
        row("b.tif", "normal", group="1", measured=measured(blur=0.9, stain=7.5)),
        row("c.tif", "invasive", group="2", measured=measured(features=21.0)),
    ]


def test_images_with_and_without_a_warning_are_counted_and_scored():
    found = score(predictions(rows()), bounds=BOUNDS)["warnings"]
    assert found["images"] == {"blur": 1, "tissue": 0, "stain": 1, "features": 1}
    assert [found[which]["n"] for which in ("with", "without")] == [2, 1]
    assert [found[which]["accuracy"] for which in ("with", "without")] == [0.5, 1.0]
    assert (found["with"]["groups"], found["with"]["effective_n"]) == (2, 2.0)


def test_where_no_image_has_a_warning_there_is_no_accuracy_of_those():
    found = score(predictions(rows()[:1]), bounds=BOUNDS)["warnings"]
    assert found["with"] is None


@pytest.mark.parametrize("some", [rows(), [row("a.tif", "normal")]])
def test_without_ranges_or_measures_it_is_said_why_nothing_is_known(some):
    bounds = BOUNDS if some[0]["measured"] is None else None
    result = score(predictions(some), bounds=bounds)
    assert result["warnings"] is None
    assert "no ranges of its training images" in result["why"]["warnings"]


def test_the_report_names_the_images_with_value_and_range():
    origin = {"config": "bach", "protocol": "patient", "split": "test", "split_notes": []}
    page = "".join(sections({**score(predictions(rows()), bounds=BOUNDS), **origin}, rows()))
    assert "blur 0.9 (0.2 to 0.6); stain 7.5 (0 to 3)" in page
    assert "features 21 (0 to 20)" in page
    assert "2 images with a warning" in page


def test_measures_are_read_back_to_the_bit():
    some = [row("a.tif", "normal", measured=measured(blur=1 / 3)), row("b.tif", "benign", norbe=0.9)]
    assert [each["measured"] for each in parse(as_csv(some), "x").rows] == [measured(blur=1 / 3), None]


@pytest.mark.parametrize("wrong", [{"blur": float("nan")}, {"stain": -1.0}, {"features": 1e12}, {"tissue": None}])
def test_a_row_with_measures_that_no_image_has_is_refused(wrong):
    with pytest.raises(UserError, match="line 2"):
        parse(as_csv([row("a.tif", "normal", measured=measured(**wrong))]), "x")


@pytest.fixture
def folder(few_phantoms, tmp_path):
    colours = (0.3, 0.6, 0.2, 0.3, 0.3, 0.2), tuple(map(tuple, (9 * np.eye(6)).tolist()))
    bounds = {name: BOUNDS[name] for name in ("blur", "tissue", "stain")} | {"blur": (0.0, 0.1)}
    ranges = Ranges(9, 3, 99.0, 0.04, bounds, *colours)
    system = System(Provenance(frozenset(few_phantoms.files["train"])), ranges=ranges)
    evaluate(system, few_phantoms, None, tmp_path)
    return tmp_path


def test_an_evaluation_measures_its_images_and_what_it_says_of_them_can_be_checked(folder):
    found = json.loads((folder / "metrics.json").read_text())["warnings"]
    measures = [each["measured"] for each in read_predictions(folder / "predictions.csv").rows]
    assert len(measures) == 8
    assert found["images"]["blur"] == sum(each["blur"] > 0.1 for each in measures) > 0
    checked = verify_result(folder)
    assert checked.differences == []
    assert any("warnings.ranges" in sentence for sentence in checked.checked)


TAMPERED = {
    "does not say by which ranges": lambda result: result.update(warnings=None),
    "warnings.images.blur": lambda result: result["warnings"]["images"].update(blur=0),
    "the range of blur must not end": lambda result: result["warnings"]["ranges"].update(blur=[1, 0]),
}


@pytest.mark.parametrize("words", TAMPERED)
def test_warnings_that_were_changed_are_noticed(folder, words):
    result = json.loads((folder / "metrics.json").read_text())
    TAMPERED[words](result)
    (folder / "metrics.json").write_text(json.dumps(result))
    assert any(words in difference for difference in verify_result(folder).differences)
