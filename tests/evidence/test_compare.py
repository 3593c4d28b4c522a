import json

import pytest

from bach_keras.evidence.compare import as_json, as_table, compare
from bach_keras.evidence.predictions import write_predictions
from datasets.errors import MissingError, UserError
from tests.evidence.answered import node_row, row, rows
from tests.evidence.test_predictions import changed


def written(place, some):
    write_predictions(place, some)
    return place


@pytest.fixture
def files(tmp_path):
    """Return the predictions of two systems, of which the second is right on one image more."""
    better = [*rows()[:3], row("d.tif", "invasive", carci=0.9, invis=0.7)]
    return written(tmp_path / "a.csv", rows()), written(tmp_path / "b.csv", better)


def test_both_scores_and_their_difference(files):
    result = compare(*files)
    assert (result["headline"], result["first"]["accuracy"], result["second"]["accuracy"]) == ("system", 0.75, 1)
    assert result["first"]["file"] == str(files[0])
    assert result["difference"] == pytest.approx(-0.25)
    assert (result["first_only"], result["second_only"]) == (0, 1)


def test_a_comparison_in_lines_and_in_json(files):
    result = compare(*files)
    lines = list(as_table(result))
    assert lines[1].startswith("  four-class accuracy 0.750 (95 % interval")
    assert "n = 4 images of at most 3 patients" in lines[1]
    assert lines[4].startswith("  four-class accuracy 1.000 (95 % interval")
    assert lines[7].startswith("  four-class accuracy -0.250 (95 % interval -")
    assert "McNemar's exact test: p = 1; the first alone is right on 0, the second alone on 1 of 4 images" in lines[9]
    assert json.loads("".join(as_json(result))) == result


def test_images_that_chose_one_of_them_are_said(tmp_path):
    own = [{**each, "chosen": True} for each in rows()]
    result = compare(written(tmp_path / "a.csv", own), written(tmp_path / "b.csv", rows()))
    assert (result["first"]["chosen_on"], result["second"]["chosen_on"]) == (len(own), 0)
    said = "\n".join(as_table(result))
    assert said.count("of the images chose it among others, so this is optimistic") == 1
    assert "not alike: more of the images chose the one than the other" in said


def test_coarse_labels_are_compared_by_carci(tmp_path):
    some = [row("b.tif", "benign", carci=0.2), row("m.tif", "malignant", carci=0.9)]
    first, second = written(tmp_path / "a.csv", some), written(tmp_path / "b.csv", some)
    assert compare(first, second)["headline"] == "carci"


def test_folders_and_runs_are_taken_by_the_file_in_them(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "predictions.csv", [node_row("b.tif", "benign"), node_row("m.tif", "malignant")])
    assert compare(tmp_path / "a", tmp_path / "b")["headline"] == "carci"


def test_the_order_of_the_rows_does_not_matter(files, tmp_path):
    turned = written(tmp_path / "c.csv", rows()[::-1])
    assert compare(files[0], turned)["difference"] == 0


def test_different_images_are_refused(files, tmp_path):
    with pytest.raises(UserError, match=r"c\.csv are not of the same images\. Only the first has 'd\.tif'"):
        compare(files[0], written(tmp_path / "c.csv", rows()[:3]))
    others = [each | {"digest": "0" * 64} for each in rows()]
    with pytest.raises(UserError, match=r"The two disagree on the pixels of 'a\.tif', .* and 1 more image"):
        compare(files[0], written(tmp_path / "c.csv", others))


def test_different_nodes_are_refused(files, tmp_path):
    alone = written(tmp_path / "c.csv", [node_row("a.tif", "normal")])
    with pytest.raises(UserError, match=r"c\.csv is of carci: compare two trees, or two runs"):
        compare(files[0], alone)


def test_a_row_that_was_changed_is_named(files):
    files[1].write_bytes(changed(files[1].read_bytes(), 2, "benign", "0.9"))
    with pytest.raises(UserError, match=r"b\.csv, line 2 \(a\.tif\): the row was changed"):
        compare(*files)


def test_a_place_without_predictions_is_refused(files, tmp_path):
    with pytest.raises(MissingError, match=r"predictions\.csv is not there: name a predictions\.csv, the folder"):
        compare(files[0], tmp_path)
    (tmp_path / "config.json").touch()
    with pytest.raises(MissingError, match=r"is a run without predictions\.csv"):
        compare(files[0], tmp_path)
