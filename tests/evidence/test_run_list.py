import csv
import json
import shutil

import pytest
from click.testing import CliRunner

from bach_keras.evidence.run_list import FIELDS, LINES, list_runs
from cli import cli


@pytest.fixture
def runs(tree_of_runs, tmp_path):
    """A folder of a finished run, one that was interrupted and a damaged one, and of other things."""
    root = tmp_path / "runs"
    shutil.copytree(tree_of_runs["carci"], root / "a" / "carci")
    stopped = shutil.copytree(tree_of_runs["norbe"], root / "norbe")
    (stopped / "metrics.json").unlink()
    damaged = shutil.copytree(tree_of_runs["invis"], root / "z")
    (damaged / "config.json").write_text("{")
    shutil.copytree(tree_of_runs["invis"], root / ".12-3.part")  # left by a killed process
    (root / "demo").mkdir()
    (root / "demo" / "metrics.json").write_text("{}")  # an evaluation
    return root


def test_each_run_is_a_row_however_deep_and_whatever_its_state(runs):
    rows = list_runs(runs)
    assert [row["run"] for row in rows] == [str(runs / name) for name in ("a/carci", "norbe", "z")]
    assert [row["state"] for row in rows] == ["finished", "unfinished", "damaged"]
    assert {tuple(row) for row in rows} == {FIELDS}


def test_a_row_says_what_the_run_was_and_how_it_scored(runs):
    row = list_runs(runs)[0]
    metrics = json.loads((runs / "a" / "carci" / "metrics.json").read_text())
    assert {name: row[name] for name in ("node", "config", "protocol", "init", "image_size", "precision")} == {
        "node": "carci", "config": "phantom", "protocol": "patient", "init": "none", "image_size": 32,
        "precision": "float32",
    }  # fmt: skip
    assert (row["epochs"], row["best_epoch"]) == (metrics["epochs"], metrics["best_epoch"])
    assert (row["accuracy"], row["n"]) == (metrics["accuracy"], 8)
    assert [row["accuracy_low"], row["accuracy_high"]] == metrics["accuracy_ci95"]


def test_an_unfinished_run_has_its_epochs_and_no_score(runs):
    row = list_runs(runs)[1]
    assert (row["node"], row["best_epoch"], row["accuracy"], row["error"]) == ("norbe", None, None, None)
    assert row["epochs"] > 0
    (runs / "norbe" / "history.csv").unlink()
    assert list_runs(runs)[1]["epochs"] == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", None), ("config.json", "[]"), ("metrics.json", "{}"), ("metrics.json", "3")],
)
def test_a_damaged_run_says_so_in_its_row(runs, name, content):
    path = runs / "a" / "carci" / name
    path.unlink()
    if content:
        path.write_text(content)
    row = list_runs(runs)[0]
    assert (row["state"], row["accuracy"], row["node"]) == ("damaged", None, None)
    assert name in row["error"]
    table = list(LINES["table"]([row]))
    assert row["error"] in table[1]


def test_a_run_itself_can_be_named(runs):
    assert len(list_runs(runs / "norbe")) == 1


def test_every_form_says_the_same(runs):
    rows = list_runs(runs)
    assert [json.loads(line) for line in LINES["json"](rows)] == rows
    head, *read = csv.reader(LINES["csv"](rows))
    assert tuple(head) == FIELDS
    assert [row[0] for row in read] == [row["run"] for row in rows]
    heads, *lines = LINES["table"](rows)
    assert heads.split()[:4] == ["run", "state", "node", "config"]
    assert "95 % interval" in lines[0]
    assert "n = 8" in lines[0]
    assert len(lines) == 3


@pytest.mark.parametrize(("why", "words"), [({}, " of 8 patients,"), ({"groups": "some"}, "patients unknown")])
def test_patients_that_are_known_are_not_called_unknown(runs, why, words):
    path = runs / "a" / "carci" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n": 8, "groups": 8, "effective_n": 8.0, "why": why}))
    assert words in next(line for line in LINES["table"](list_runs(runs)) if "finished" in line)


def test_names_from_outside_cannot_move_the_cursor(runs):
    (runs / "z").rename(runs / "z\x1b[2J")
    assert all("\x1b" not in line for line in LINES["table"](list_runs(runs)))


def run(*words):
    return CliRunner().invoke(cli, ["runs", *map(str, words)])


def test_the_command_exits_with_1_where_a_run_is_damaged(runs):
    assert run(runs).exit_code == 1
    assert run(runs / "a", "--format", "json").exit_code == 0
    assert json.loads(run(runs / "a", "--format", "json").stdout)["node"] == "carci"


def test_a_folder_without_runs_and_no_folder_are_said_to_be(tmp_path):
    assert (run(tmp_path).exit_code, run(tmp_path).stderr) == (0, f"{tmp_path} holds no run.\n")
    missing = run(tmp_path / "none")
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "There is no folder" in missing.stderr
