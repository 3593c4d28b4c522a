"""Several starts side by side, on fabricated runs and evaluations: nothing is trained here."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bach_keras.evidence.predictions import FILE, write_predictions
from bach_keras.network.facts import Facts
from bach_keras.run_folder import Run
from bach_keras.training import starts, table1
from bach_keras.training.start import Start, start_from
from bach_keras.training.starts import check_names, reproduce_starts
from bach_keras.training.table1_plan import Plan, open_plan, plan_system
from datasets.errors import UserError
from datasets.labels import CLASSES
from tests.evidence.answered import row
from tests.few_phantoms import NO_SWEEP, RECIPE, TINY
from tests.network.golden import draw_tensors
from tests.network.layout_files import of_tiatoolbox, with_counts, write
from tests.network.small_network import torchvision_shapes

PATIENTS = 6


# The second class's probability of carci, norbe and invis -> the class that the tree answers.
ANSWERS = {"normal": (0.1, 0.3, 0.6), "benign": (0.1, 0.7, 0.6), "insitu": (0.9, 0.3, 0.4), "invasive": (0.9, 0.3, 0.6)}


def write_answers(folder, wrong):
    """Write the answers of a tree for an image of each class and patient, of which the first so many are wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for patient in range(PATIENTS):
        for place, truth in enumerate(CLASSES):
            answer = CLASSES[(place + (len(rows) < wrong)) % 4]
            rows.append(row(f"{truth}{patient}.png", truth, *ANSWERS[answer], group=f"p{patient}"))
    write_predictions(folder / FILE, rows)


@pytest.fixture
def made(tmp_path, monkeypatch, few_phantoms):
    """Return what two starts gave, the second better on half of the images that the first got wrong."""
    wrong = {"none": 8, "histology": 4}

    def reproduce_table1(plan, recipe, start, only_plan, prepare, cluster):
        for tree in plan.trees:
            write_answers(tree.folder, wrong[start.name])
        return {"trees": [{"score": {"split": "test"} if tree.row != "full ensemble" else None} for tree in plan.trees]}

    class NoMetrics:
        @staticmethod
        def open(folder):
            return type("R", (), {"metrics": lambda self: {}})()

    monkeypatch.setattr(starts, "reproduce_table1", reproduce_table1)
    monkeypatch.setattr(starts, "Run", NoMetrics)
    tissue = Start("histology", weights=Path("x.h5"))
    tissue.__dict__["facts"] = Facts("unit", "digest", "kather100k", "0" * 64, "CC BY 4.0")
    plans = {
        start.name: (open_plan("phantom", ["patient"], [0], tmp_path / start.name, start.name), start)
        for start in (Start("none"), tissue)
    }
    return reproduce_starts(plans, RECIPE), tmp_path


def test_each_start_has_its_accuracy_and_the_difference_has_an_interval(made):
    result, place = made
    assert [row["judged"].partition(",")[0] for row in result["rows"]] == ["init", "ensemble"]
    for found in result["rows"]:
        assert (found["n"], found["groups"], found["images"]) == (24, PATIENTS, "test")
        none, tissue = found["starts"]["none"], found["starts"]["histology"]
        assert none["accuracy"] == pytest.approx(16 / 24)
        assert tissue["accuracy"] == pytest.approx(20 / 24)
        assert tissue["difference"] == pytest.approx(4 / 24)
        low, high = tissue["difference_ci95"]
        assert low <= 4 / 24 <= high
        assert "difference" not in none
    assert json.loads((place / "starts.json").read_text()) == json.loads(json.dumps(result))


def test_the_page_says_whose_weights_they_are(made):
    _, place = made
    page = (place / "starts.html").read_text()
    for said in ("kather100k", "CC BY 4.0", "unit", "+0.167", "24", "SYNTHETIC", "histology minus none"):
        assert said in page


def test_starts_of_one_name_are_refused():
    check_names(["none", "imagenet"])
    with pytest.raises(UserError, match="Two --init are called resnext"):
        check_names(["resnext", "none", "resnext"])


def test_a_plan_of_several_starts_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(starts, "reproduce_table1", lambda *given: {})
    plans = {"none": (open_plan("phantom", ["patient"], [0], tmp_path / "none", "none"), Start("none"))}
    assert reproduce_starts(plans, replace(RECIPE), only_plan=True) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_runs_from_two_starts_are_trained_scored_and_set_side_by_side(tmp_path, monkeypatch, few_phantoms):
    monkeypatch.setattr(table1, "alone", lambda work, *given, prepare: work(*given))
    shapes = {name: shape for name, shape in torchvision_shapes(**TINY, classes=9).items() if shape}
    tensors = {of_tiatoolbox(name): value for name, value in with_counts(draw_tensors(shapes)).items()}
    tissue = start_from(str(write(tmp_path / "tissue.pth", tensors)), "phantom")
    everything = {"train": sorted(few_phantoms.files["train"] + few_phantoms.files["validation"])}
    whole = replace(few_phantoms, protocol="all", files={**few_phantoms.files, **everything, "validation": []})
    plans = {}
    for start in (Start("none"), tissue):
        runs, trees = plan_system("phantom", "patient", 0, tmp_path / start.name, start.name)
        data = {("phantom", "patient"): few_phantoms, ("phantom", "all"): whole}
        plans[start.name] = (Plan("phantom", tmp_path / start.name, runs, trees, data), start)
    result = reproduce_starts(plans, replace(NO_SWEEP, head_epochs=0, cycles=1))
    assert list(result["starts"]) == ["none", "tissue"]
    assert result["starts"]["tissue"]["normalisation"] == "unit"
    judged = [found["judged"].partition(",")[0] for found in result["rows"]]
    assert judged[:2] == ["init", "ensemble"]
    assert {"carci alone on phantom", "norbe alone on phantom", "invis alone on phantom"} <= set(judged)
    for found in result["rows"]:
        assert found["n"] > 0
        assert -1 <= found["starts"]["tissue"]["difference"] <= 1
    own = Run.open(tmp_path / "tissue" / "patient-seed0" / "phantom-norbe-from-carci")
    assert own.recipe.backbone["normalisation"] == "unit"
    assert own.settings["weights_origin"]["source"].startswith("tissue.pth, in tiatoolbox's layout")
