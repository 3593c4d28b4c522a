"""Table 1 again: what is planned, that nothing is trained twice, and what the page says."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from bach_keras.run_folder import Run, recipe_as_json, versions
from bach_keras.training import table1
from bach_keras.training.alone import alone
from bach_keras.training.table1 import reproduce_table1
from bach_keras.training.table1_plan import Plan, open_plan, plan_system
from bach_keras.training.train import finish
from datasets.errors import UserError
from datasets.whole import write_json
from tests.trainings import RANDOM


def names(runs):
    return [run.folder.name for run in runs]


def test_the_competitions_ten_members_are_planned():
    runs, trees = plan_system("bach_bisque", "paper", 0, Path("out"), "imagenet")
    assert [tree.row for tree in trees] == ["init", "init+ext", "ensemble", "full ensemble"]
    full = {node: len(members) for node, members in trees[-1].members.items()}
    assert full == {"carci": 4, "norbe": 3, "invis": 3}
    assert names(runs)[-3:] == ["bach_bisque-carci-whole", "bach_bisque-norbe-whole", "bach-invis-whole"]
    whole = {run.node: run for run in runs if run.stop_at}
    assert all(run.protocol == "all" for run in whole.values())
    assert whole["carci"].stop_at.name == "bach_bisque-carci"
    assert whole["invis"].stop_at.name == "bach-invis-from-carci"
    # A run comes after those that it needs.
    for index, run in enumerate(runs):
        assert {run.parent, run.stop_at} - {None} <= {earlier.folder for earlier in runs[:index]}


def test_protocols_and_seeds_are_planned_side_by_side_and_each_once():
    plan = open_plan("phantom", ["paper", "kfold:5/1", "paper"], [0, 1, 0], Path("out"), "none")
    assert len({run.folder for run in plan.runs}) == len(plan.runs) == 4 * 8
    assert {run.folder.parent.name for run in plan.runs} == {
        "paper-seed0", "paper-seed1", "kfold-5-1-seed0", "kfold-5-1-seed1"
    }  # fmt: skip
    assert len(plan.trees) == 4 * 3


def test_a_protocol_without_validation_images_is_refused():
    with pytest.raises(ValueError, match="protocol all keeps no validation images"):
        open_plan("phantom", ["all"], [0], Path("out"), "none")


def test_a_seed_that_no_run_can_have_is_refused_with_the_plan(few_phantoms, recipe):
    runs, trees = plan_system("phantom", "patient", -1, Path("out"), "none")
    plan = Plan("phantom", Path("out"), runs[:1], trees, {("phantom", "patient"): few_phantoms})
    with pytest.raises(UserError, match=r"--seed must be from 0"):
        reproduce_table1(plan, recipe, RANDOM, only_plan=True)


def test_bisque_trains_carci_alone():
    runs, trees = plan_system("bisque", "patient", 0, Path("out"), "imagenet")
    assert names(runs) == ["bisque-carci"]
    assert trees == []


def here(work, *given, prepare):
    """Stand in for ``alone``: a process of its own would first import TensorFlow, which takes seconds."""
    return work(*given)


def partly_apart(work, *given, prepare):
    """Give a process of its own to what is trained, and to one of the trees that are scored."""
    is_apart = work is finish or getattr(given[-1], "name", "") == "tree-init"
    return (alone if is_apart else here)(work, *given, prepare=prepare)


@pytest.fixture
def reproduced(few_phantoms, recipe, tmp_path, caplog, monkeypatch):
    """Return a function that reproduces on a few phantoms and gives the results and what was logged, and the folder."""
    monkeypatch.setattr(table1, "alone", here)
    caplog.set_level(logging.INFO)
    everything = {"train": sorted(few_phantoms.files["train"] + few_phantoms.files["validation"])}
    whole = replace(few_phantoms, protocol="all", files={**few_phantoms.files, **everything, "validation": []})
    runs, trees = plan_system("phantom", "patient", 0, tmp_path, "none")
    plan = Plan("phantom", tmp_path, runs, trees, {("phantom", "patient"): few_phantoms, ("phantom", "all"): whole})

    def run(**options):
        caplog.clear()
        result = reproduce_table1(plan, replace(recipe, head_epochs=0, range_test=False), RANDOM, **options)
        return result, list(caplog.messages)

    return run, tmp_path


def test_a_plan_trains_nothing(reproduced):
    run, place = reproduced
    result, lines = run(only_plan=True)
    assert result == {}
    assert not any(place.iterdir())
    assert sum(" on " in line and "epochs" in line for line in lines) == 8
    assert lines[-1].startswith("about ")


def test_everything_is_trained_scored_and_shown_and_no_second_time(reproduced, monkeypatch):
    run, place = reproduced
    result, _ = run()
    assert [tree["row"] for tree in result["trees"]] == ["init", "ensemble", "full ensemble"]
    init, joint, full = result["trees"]
    assert {node: len(members) for node, members in init["members"].items()} == {"carci": 1, "norbe": 1, "invis": 1}
    assert {node: len(members) for node, members in full["members"].items()} == {"carci": 3, "norbe": 2, "invis": 3}
    assert "snapshots" in joint["members"]["carci"][1]
    for tree in result["trees"]:
        assert tree["score"]["split"] == "test"
        assert tree["score"]["n"] == 8
    assert len(result["runs"]) == 8
    page = (place / "results.html").read_text()
    for said in ("init, ours", "init, paper", "0.99", "95 % interval", "SYNTHETIC", "minutes of training"):
        assert said in page
    assert json.loads((place / "results.json").read_text())["trees"] == json.loads(json.dumps(result["trees"]))

    trained = (place / "patient-seed0/phantom-carci/model.keras").stat().st_mtime_ns
    # One run is interrupted, one evaluation lost, one of an earlier version: these alone are done again, and
    # what that run is a member of.
    (place / "patient-seed0/phantom-invis-whole/metrics.json").unlink()
    (place / "patient-seed0/tree-init/metrics.json").unlink()
    older = place / "patient-seed0/tree-ensemble/metrics.json"
    write_json(older, {name: value for name, value in json.loads(older.read_text()).items() if name != "headline"})
    monkeypatch.setattr(table1, "alone", partly_apart)
    again, lines = run()
    assert (place / "patient-seed0/phantom-carci/model.keras").stat().st_mtime_ns == trained
    assert sum("is finished already" in line for line in lines) == 7
    scored = [f"scoring {place}/patient-seed0/tree-{name}" for name in ("init", "ensemble", "ensemble-full")]
    assert [line for line in lines if line.startswith("scoring")] == scored
    assert again["trees"] == result["trees"]


def test_a_run_of_another_recipe_is_not_taken(reproduced, recipe, few_phantoms):
    run, place = reproduced
    folder = place / "patient-seed0" / "phantom-carci"
    Run.create(folder, {
        "node": "carci", "config": "phantom", "protocol": "patient", "init": "none", "split": few_phantoms.files,
        "recipe": recipe_as_json(replace(recipe, batch_size=2)), "versions": versions(),
    })  # fmt: skip
    with pytest.raises(ValueError, match=r"phantom-carci holds another run .* batch_size was 2, is 4"):
        run()
