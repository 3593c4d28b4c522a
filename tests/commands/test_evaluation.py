"""What the commands print that score, check and compare."""

import json

import pytest
from click.testing import CliRunner

from bach_keras.evidence.evaluate import evaluate
from bach_keras.provenance import Provenance
from cli import cli
from tests.datasets.a_set import own_records, write_set
from tests.evidence.system import System
from tests.evidence.test_predictions import changed


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def folder(few_phantoms, tmp_path):
    evaluate(System(Provenance(frozenset(few_phantoms.files["train"]))), few_phantoms, None, tmp_path)
    return tmp_path


def test_verify_result_says_what_it_checked(folder):
    result = run("verify-result", folder)
    assert result.exit_code == 0
    assert result.stdout.startswith("8 rows of predictions.csv: ")
    assert result.stdout.endswith(f"{folder}: all of it agrees\n")


def test_verify_result_names_the_row_that_was_changed(folder):
    path = folder / "predictions.csv"
    path.write_bytes(changed(path.read_bytes(), 3, "label", "normal"))
    result = run("verify-result", path)
    assert result.exit_code == 1
    assert "predictions.csv, line 3 (phantom-" in result.stderr


def test_verify_result_exits_with_2_where_a_file_is_missing(folder):
    (folder / "metrics.json").unlink()
    result = run("verify-result", folder)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert run("verify-result", folder / "nowhere").exit_code == 2


def test_compare_prints_lines_or_json_alone(folder):
    assert "four-class accuracy 0.250 (95 % interval" in run("compare", folder, folder).stdout
    result = run("compare", folder, folder, "--format", "json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["headline"] == "system"


def test_runs_of_two_nodes_are_refused_with_the_one_that_is_missing(tree_of_runs, tmp_path):
    runs = [f"--{node}={tree_of_runs[node]}" for node in ("carci", "invis")]
    result = run("evaluate", *runs, "--config", "phantom", "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "none was given for norbe" in result.stderr
    assert not (tmp_path / "out").exists()


def test_no_runs_and_no_model_are_refused(tmp_path):
    result = run("evaluate", "--config", "phantom", "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_stability_of_a_configuration_that_is_not_prepared_is_refused_before_a_model_is_read(tmp_path):
    result = run(
        "stability", "--model", tmp_path / "none", "--config", "bach", "--data-dir", tmp_path, "--out", tmp_path / "out"
    )
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "bach is not prepared" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "all_judge"),
    [((), True), (("--split", "all"), True), (("--split", "validation"), False), (("--protocol", "kfold:2/1"), False)],
)
def test_own_images_that_are_too_few_for_a_split_all_judge(tmp_path, words, all_judge):
    write_set(tmp_path, "own-few", own_records("few", {"normal": 1, "invasive": 1}, images=1))
    given = ("--model", tmp_path / "none", "--config", "own-few", "--data-dir", tmp_path, "--out", tmp_path / "out")
    result = run("stability", *given, *words)
    assert result.exit_code == 2
    assert "leaves a validation set without" in result.stderr
    assert ("So all of the images judge." in result.stderr) == ("is not an export" in result.stderr) == all_judge


@pytest.mark.parametrize("words", [("--images", 0), ("--seed", -1), ("--model", ".", "--carci", "."), ()])
def test_stability_refuses_what_cannot_be_asked(few_phantoms, tmp_path, monkeypatch, words):
    monkeypatch.setattr("bach_keras.commands.options.ImagesAsked.open", lambda _: few_phantoms)
    result = run("stability", *words, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_stability_prints_a_table_for_each_judge(few_phantoms, exported, tmp_path, monkeypatch):
    monkeypatch.setattr("bach_keras.commands.options.ImagesAsked.open", lambda _: few_phantoms)
    result = run("stability", "--model", exported, "--images", 2, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert sum(line.split()[:3] == ["change", "grade", "kept"] for line in lines) == 3
    assert sum(line.split()[:5] == ["blur,", "σ", "in", "pixels", "1.5"] for line in lines) == 3
    assert lines[-1].startswith("wrote ")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"stability.json", "stability.csv"}
