import csv
import io

import numpy as np
import pytest

from bach_keras.evidence import predictions
from bach_keras.evidence.predictions import COLUMNS, as_csv, parse, read_predictions, split_digest, write_predictions
from datasets.errors import UserError
from datasets.labels import CLASSES
from tests.evidence.answered import node_row, row, rows

MODEL = "ab" * 32


def changed(content: bytes, line: int, column: str, value: str, again: bool = False) -> bytes:
    """Return a file with one cell changed, and with ``again`` the row's check made to fit."""
    table = list(csv.reader(io.StringIO(content.decode(), newline="")))
    cells = table[line - 1]
    cells[COLUMNS.index(column)] = value
    if again:
        cells[-1] = predictions._check(cells[:-1])
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows(table)
    return buffer.getvalue().encode()


def refused(content: bytes, sentence: str):
    with pytest.raises(UserError, match=sentence):
        parse(content, "p.csv")


def test_rows_read_back_equal_to_the_bit(tmp_path):
    full = row(
        "e.tif", "malignant", carci=float(np.float32(0.1)), unsure=True, set=["normal", "invasive"], spread=1e-9,
        chosen=True, normalised=False, uncalibrated={node: [0.25, 0.75] for node in ("carci", "norbe", "invis")},
    )  # fmt: skip
    some = [*rows(), full, row("f.tif", "benign", unsure=False, set=["normal"])]
    write_predictions(tmp_path / "p.csv", some, MODEL)
    found = read_predictions(tmp_path / "p.csv")
    assert found.rows == some
    assert (found.node, found.split_digest, found.model_digest) == (None, split_digest(some), MODEL)


def test_the_rows_of_one_node_read_back_with_its_pair_alone():
    some = [node_row("a.tif", "malignant", second=0.8), node_row("b.tif", "benign", unsure=None)]
    found = parse(as_csv(some), "p.csv")
    assert found.rows == some
    assert found.node == "carci"
    assert "normal" not in found.rows[0]


def test_the_columns_are_those_that_were_agreed():
    assert COLUMNS[:16] == (
        "filename", "group", "digest", "truth", "label", *CLASSES, "carci.noncarcinoma", "carci.carcinoma",
        "norbe.normal", "norbe.benign", "invis.insitu", "invis.invasive", "unsure",
    )  # fmt: skip
    assert COLUMNS[-3:] == ("split_digest", "model_digest", "check")


@pytest.mark.parametrize("column", COLUMNS)
def test_a_cell_that_was_changed_is_found_and_its_row_named(column):
    refused(changed(as_csv(rows()), 3, column, "0.5"), r"^p\.csv, line 3 \((b\.tif|0\.5)\): .*changed after it was")


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("digest", "", "its digest is not a SHA-256"),
        ("truth", "unlabelled", "its truth must be one of normal"),
        ("label", "normal", "its label is not the likeliest class"),
        ("benign", "0.6", "its benign is not the product of the nodes"),
        ("benign", "nan", "its benign must be a number from 0 to 1"),
        ("carci.carcinoma", "1.5", "its carci.carcinoma must be a number from 0 to 1"),
        ("carci.carcinoma", "0.10", "its carci.carcinoma must be a number from 0 to 1"),
        ("norbe.benign", "0.5", "norbe.normal and norbe.benign do not sum to 1"),
        ("carci.uncalibrated.carcinoma", "0.5", "its carci.uncalibrated.noncarcinoma must be a number"),
        ("unsure", "yes", "its unsure must be true, false or empty"),
        ("set", "invasive normal", "its set must hold classes in the order"),
        ("set", "none", "its set does not hold its label"),
        ("set.0.8", "normal", "its set.0.8 does not hold its label"),
        ("split_digest", MODEL, "its split_digest is not that of the first row"),
        ("model_digest", "x", "its model_digest is not that of the first row"),
    ],
)
def test_a_row_whose_check_was_made_to_fit_must_still_be_an_answer_of_the_tree(column, value, reason):
    refused(changed(as_csv(rows()), 3, column, value, again=True), rf"line 3 \(b\.tif\): {reason}")


def test_numbers_before_calibration_of_some_nodes_only_are_refused():
    refused(as_csv([row("a.tif", "benign", uncalibrated={"carci": [0.5, 0.5]})]), "for some nodes only")


def test_an_image_that_is_there_twice_is_named_with_both_lines():
    some = rows()
    refused(as_csv([*some, some[1]]), r"line 6 \(b\.tif\): the image is in line 3 already")


def test_a_row_that_was_taken_out_or_moved_is_noticed():
    lines = as_csv(rows()).split(b"\r\n")
    refused(b"\r\n".join(lines[:2] + lines[3:]), "a row was added, removed or moved")
    refused(b"\r\n".join([lines[0], lines[2], lines[1], *lines[3:]]), "a row was added, removed or moved")


def test_a_file_of_both_kinds_of_rows_is_refused():
    refused(as_csv([*rows(), node_row("n.tif", "benign")]), r"line 6 \(n\.tif\): .*same nodes as the first")


def test_a_label_that_does_not_train_the_node_is_refused():
    refused(as_csv([node_row("a.tif", "normal", "invis")]), "its truth must be one of insitu, invasive")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "does not have the columns"),
        (b"filename,truth,label,normal\r\na,b,c,1\r\n", "does not have the columns .* Evaluate again"),
        (as_csv([]), "has no row"),
        (as_csv(rows()) + b"a.tif\r\n", r"line 6 \(a\.tif\): it has 1 cells"),
        (as_csv(rows()) + b'"a', "line 6: it is not a row of CSV"),
        (b"\xff\x00", "does not have the columns"),
    ],
    ids=["empty", "earlier", "no row", "short", "open quotes", "bytes"],
)
def test_a_file_that_is_no_table_of_predictions_is_refused(content, sentence):
    refused(content, sentence)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"There is no file .*predictions\.csv"):
        read_predictions(tmp_path / "predictions.csv")


def test_names_that_a_spreadsheet_would_run_are_kept_as_text():
    name = '=cmd"\n\x1b,\udcff.tif'
    found = parse(as_csv([row(name, "benign")]), "p.csv").rows
    assert found[0]["filename"] == "'=cmd\"\n\\x1b,\udcff.tif"
    assert parse(as_csv(found), "p.csv").rows == found
