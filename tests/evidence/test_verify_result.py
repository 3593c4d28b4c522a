import json
import subprocess
import sys
from pathlib import Path

import pytest

from bach_keras.evidence.evaluate import evaluate
from bach_keras.evidence.predictions import as_csv, read_predictions, write_predictions
from bach_keras.evidence.scoring import score
from bach_keras.evidence.verify_result import verify_result
from bach_keras.provenance import Provenance
from datasets.errors import MissingError, UserError
from tests.evidence.answered import node_row
from tests.evidence.system import System
from tests.evidence.test_predictions import changed


@pytest.fixture(scope="module")
def evaluated(few_phantoms, tmp_path_factory):
    """Return the content of the files of an evaluation."""
    folder = tmp_path_factory.mktemp("evaluated")
    evaluate(System(Provenance(frozenset(few_phantoms.files["train"]))), few_phantoms, None, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(evaluated, tmp_path):
    for name, content in evaluated.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def rewrite(folder, change):
    result = json.loads((folder / "metrics.json").read_text())
    change(result)
    (folder / "metrics.json").write_text(json.dumps(result))


def differences(folder):
    return verify_result(folder).differences


@pytest.mark.parametrize("named", [".", "predictions.csv", "metrics.json"])
def test_what_was_written_agrees(folder, named):
    found = verify_result(folder / named)
    assert found.differences == []
    assert found.checked[0].startswith("8 rows of predictions.csv")
    _, figures, unchecked, parts, not_in_page = found.checked
    assert "figures of metrics.json: computed again" in figures
    assert int(figures.split()[0]) > 100
    assert "config" in unchecked
    assert int(parts.split()[0]) >= 5
    assert "the training" in not_in_page


def test_a_row_that_was_changed_is_named(folder):
    path = folder / "predictions.csv"
    path.write_bytes(changed(path.read_bytes(), 4, "truth", "benign"))
    (difference,) = differences(folder)
    assert "predictions.csv, line 4 (phantom-" in difference
    assert "changed after it was written" in difference


def test_rows_that_were_all_made_again_do_not_come_to_the_same_figures(folder):
    path = folder / "predictions.csv"
    rows = read_predictions(path).rows
    wrong = next(row for row in rows if row["truth"] != row["label"])
    path.write_bytes(as_csv([row | {"truth": row["label"]} if row is wrong else row for row in rows]))
    found = differences(folder)
    assert any(line.startswith("accuracy is 0.25 in metrics.json, and the predictions come to 0.375") for line in found)
    assert any(line.startswith("split_digest is") for line in found)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda result: result.update(accuracy=0.95), "accuracy"),
        (lambda result: result.update(n=9), "n"),
        (lambda result: result.update(accuracy=10**400), "accuracy"),
        (lambda result: result["nodes"]["norbe"].update(brier=0.01), "nodes.norbe.brier"),
        (lambda result: result["accuracy_ci95"].__setitem__(0, 0.2), "accuracy_ci95[0]"),
        (lambda result: result["errors"]["left_at"].update(carci=0), "errors.left_at.carci"),
        (lambda result: result["errors"]["paths"].pop(), "errors.paths"),
        (lambda result: result["coverage"][0].update(accuracy=0.123), "coverage[0].accuracy"),
        (lambda result: result.update(chosen_on=True), "chosen_on"),
        (lambda result: result.update(headline="carci"), "headline"),
        (lambda result: result.update(unsure={"share": 0.2}), "unsure"),
        (lambda result: result.pop("kappa"), "kappa"),
        (lambda result: result["why"].update(x="y"), "why.x"),
    ],
)
def test_a_figure_that_was_changed_is_named(folder, change, place):
    rewrite(folder, change)
    assert [line.split(" is ")[0] for line in differences(folder)] == [place]


def test_a_figure_that_no_prediction_comes_to_is_named(folder):
    rewrite(folder, lambda result: result.update(external_accuracy=0.99))
    assert differences(folder) == ["metrics.json holds external_accuracy, which no predictions come to"]


def test_a_count_of_stains_that_no_row_tells_of_is_named(folder):
    rewrite(folder, lambda result: result.update(stains={"method": "macenko", "left": {}, "of": {}}))
    assert differences(folder) == ["metrics.json holds stains, which no predictions come to"]


def of_run(folder, node="carci", **changes):
    """Write the predictions and figures of a run's best epoch."""
    rows = [node_row("a.tif", "normal"), node_row("b.tif", "malignant", second=0.8), node_row("c.tif", "insitu")]
    write_predictions(folder / "predictions.csv", rows)
    figures = score(read_predictions(folder / "predictions.csv"))["nodes"]["carci"]
    of_training = {"kind": "node", "node": node, "best_epoch": 3, "epochs": 4, "split": "validation"}
    (folder / "metrics.json").write_text(json.dumps({**of_training, **figures, **changes}))


def test_a_run_is_checked_without_a_report(tmp_path):
    of_run(tmp_path)
    found = verify_result(tmp_path)
    assert found.differences == []
    assert "3 rows" in found.checked[0]
    assert "best_epoch" in found.checked[2]
    of_run(tmp_path, accuracy=0.9)
    assert differences(tmp_path)[0].startswith("accuracy is 0.9 in metrics.json, and the predictions come to 0.66")
    of_run(tmp_path, node="norbe")
    assert differences(tmp_path) == ["node is 'norbe' in metrics.json, and the predictions are of another"]


def test_rounding_of_another_computer_is_no_difference(folder):
    rewrite(folder, lambda result: result.update(log_loss=result["log_loss"] + 1e-12))
    assert differences(folder) == []


def test_a_report_that_was_changed_is_noticed(folder):
    path = folder / "report.html"
    path.write_text(path.read_text().replace("0.250", "0.950"))
    assert differences(folder)[0].startswith("report.html lacks a part as its figures come to")


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ('<section id="scores">', '<!--<section id="scores">', "holds a comment, which may hide a part"),
        ("</main>", '<section id="more">0.999</section></main>', "holds a section more that evaluate did not write"),
        ("</main>", '<section id="scores">0.999</section></main>', "holds a section scores that evaluate did not"),
        ("not a medical device", "a medical device", "lacks a part"),
        ("<p class=loud>SYNTHETIC", "<p class=loud hidden>SYNTHETIC", "lacks a part"),
        ("</html>\n", "</html>\naccuracy 0.999", "does not end as evaluate wrote it"),
        ("</html>\n", "\0" * 2**26, "is larger than 67108864 bytes"),
    ],
    ids=["comment", "section", "section again", "device", "synthetic", "end", "size"],
)
def test_what_was_added_to_a_report_is_noticed(folder, old, new, difference):
    path = folder / "report.html"
    path.write_text(path.read_text().replace(old, new))
    assert any(line.startswith(f"report.html {difference}") for line in differences(folder))


def test_an_evaluation_that_says_that_it_is_a_run_does_not_pass(tmp_path):
    of_run(tmp_path, coverage=[], errors={})
    assert differences(tmp_path) == ["metrics.json holds coverage, errors, which no run writes"]


@pytest.mark.parametrize("name", ["predictions.csv", "metrics.json", "report.html"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(MissingError, match=rf"{name} is not there"):
        verify_result(folder)


@pytest.mark.parametrize("content", ["[]", "{", "{}"])
def test_metrics_that_no_evaluation_writes_are_refused(folder, content):
    (folder / "metrics.json").write_text(content)
    with pytest.raises(UserError, match=r"metrics\.json is not what an evaluation writes"):
        verify_result(folder)


ALONE = """
import sys
for name in ("tensorflow", "keras"):
    sys.modules[name] = None
from cli import cli
cli(["verify-result", sys.argv[1]])
"""


@pytest.mark.parametrize("exit_code", [0, 1])
def test_the_command_does_without_tensorflow(folder, exit_code):
    if exit_code:
        rewrite(folder, lambda result: result.update(n=9))
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", ALONE, folder], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == exit_code, done.stderr
    assert ("n is 9 in metrics.json" in done.stderr) == bool(exit_code)
    assert ("all of it agrees" in done.stdout) != bool(exit_code)
