import json
import logging
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from bach_keras.calibration import Calibration
from bach_keras.evidence import calibrate_tree
from bach_keras.evidence.calibrate_tree import Settings, calibrate_members
from bach_keras.hierarchy import Hierarchy
from bach_keras.members import load_members
from bach_keras.provenance import Provenance
from bach_keras.run_folder import Run
from bach_keras.tree import NODES
from cli import cli
from datasets import phantom
from datasets.errors import UserError
from datasets.labels import CLASSES
from tests import few_phantoms as few


def many_phantoms(patients=24, images=3):
    """Draw so many patients to validate, and one a class to train on."""
    files = {"train": [phantom.filename(label, number, 0) for number, label in enumerate(CLASSES)], "test": []}
    files["validation"] = [
        phantom.filename(CLASSES[patient % 4], patient, index)
        for patient in range(40, 40 + patients)
        for index in range(images)
    ]
    labels = {name: name.split("-")[1] for held in files.values() for name in held}
    return few.FewPhantoms(files=files, labels=labels)


@pytest.fixture(scope="module")
def data():
    return many_phantoms()


@pytest.fixture
def specs(tree_of_runs, tmp_path):
    """Node -> a copy of its run, whose split the data are."""
    return {node: (str(shutil.copytree(run, tmp_path / node)),) for node, run in tree_of_runs.items()}


@pytest.fixture(autouse=True)
def split_of_runs(monkeypatch, data):
    monkeypatch.setattr(calibrate_tree, "data_of_run", lambda settings, data_dir: data)


def test_a_tree_gets_a_temperature_a_run_and_thresholds_that_hold_on_what_chose_them(specs, data, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    out = tmp_path / "calibration.json"
    assert calibrate_members(specs, Settings(), out=out) == []
    made = Calibration.read(out)
    members = load_members(specs)
    assert all(member.fitted_views == 1 and member.temperature != 1 for member in members)
    assert [each["temperature"] for each in made.members] == [member.temperature for member in members]
    assert (made.n, made.groups, made.views) == (72, 24, 1)
    assert set(made.chosen_on) == set(data.files["validation"])

    tree = Hierarchy(members, calibration=made)
    records = list(data.images(data.files["validation"]).as_numpy_iterator())
    answers = tree.with_uncalibrated(np.stack([record["image"] for record in records]))
    truth = np.array([record["label"] for record in records])
    inside = answers["set"].numpy()[np.arange(len(truth)), truth].mean()
    assert inside >= 0.9
    assert 0 < answers["unsure"].numpy().mean() <= 0.2
    for node in NODES.values():
        loss = {}
        rows = [row for row, label in enumerate(truth) if CLASSES[label] in node.targets]
        for name in (node.name, f"{node.name}_uncalibrated"):
            pairs = np.clip(answers[name].numpy()[rows], 1e-12, 1)
            loss[name] = -np.log(
                [pair[node.targets[CLASSES[truth[row]]]] for pair, row in zip(pairs, rows, strict=True)]
            ).mean()
        assert loss[node.name] < loss[f"{node.name}_uncalibrated"]
    for words in ("By patients held out of the fit: log loss", "thresholds from 72 validation images of 24 patients",
                  "sets of 95 % are out of reach: they need at least 39 patients"):  # fmt: skip
        assert words in caplog.text


def test_what_a_fit_found_is_in_the_run(specs):
    calibrate_members({"carci": specs["carci"]}, Settings())
    entry = json.loads((Run.open(specs["carci"][0]).folder / "calibration.json").read_text())["model"]["1"]
    assert (entry["n"], entry["groups"], entry["split"], entry["weighting"]) == (72, 24, "validation", "patient")
    assert entry["after"]["log_loss"] < entry["before"]["log_loss"]
    assert sum(each["n"] for each in entry["after"]["reliability"]) == 72


def test_a_node_alone_and_a_snapshot_get_a_temperature_and_no_thresholds(specs):
    snapshot = f"{specs['norbe'][0]}/snapshots/best"
    assert calibrate_members({"norbe": (specs["norbe"][0], snapshot)}, Settings()) == []
    first, second = load_members({"norbe": (specs["norbe"][0], snapshot)})
    assert first.temperature == pytest.approx(second.temperature)  # of the same weights
    assert first.temperature != 1


def test_temperatures_of_several_views_are_fitted_on_their_average(specs):
    carci = {"carci": specs["carci"]}
    calibrate_members(carci, Settings())
    calibrate_members(carci, Settings(views=8))
    (one,), (eight,) = load_members(carci), load_members(carci, views=8)
    assert (one.fitted_views, eight.fitted_views) == (1, 8)
    assert one.temperature != eight.temperature


def test_too_few_patients_keep_their_temperature_and_are_named(specs, monkeypatch, tmp_path):
    calibrate_members(specs, Settings(), out=tmp_path / "first.json")
    few_data = many_phantoms(patients=20, images=2)  # of each class ten images of five patients
    monkeypatch.setattr(calibrate_tree, "data_of_run", lambda settings, data_dir: few_data)
    refused = calibrate_members(specs, Settings(), out=tmp_path / "calibration.json")
    assert [sentence.split()[0] for sentence in refused] == ["norbe", "invis"]
    assert "has the temperature 1: A temperature needs at least 30 validation images" in refused[0]
    members = load_members(specs)
    assert [member.temperature == 1 for member in members] == [False, True, True]
    Hierarchy(members, calibration=Calibration.read(tmp_path / "calibration.json"))
    with pytest.raises(UserError, match=r"first\.json was made for other members: .*carci had the temperature"):
        Hierarchy(members, calibration=Calibration.read(tmp_path / "first.json"))


def test_a_run_without_validation_images_keeps_temperature_one_and_says_so(specs, monkeypatch, data, caplog):
    caplog.set_level(logging.INFO)
    bare = replace(data, files={**data.files, "validation": []})
    monkeypatch.setattr(calibrate_tree, "data_of_run", lambda settings, data_dir: bare)
    assert calibrate_members({"carci": specs["carci"]}, Settings()) == []
    assert "kept no validation images, so its temperature stays 1" in caplog.text
    assert load_members({"carci": specs["carci"]})[0].temperature == 1


def test_images_that_trained_a_member_choose_no_threshold(specs, monkeypatch, data, tmp_path):
    settings = json.loads((Run.open(specs["invis"][0]).folder / "config.json").read_text())
    settings["trained_on"] += data.files["validation"]
    (Run.open(specs["invis"][0]).folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"No validation image of phantom .* as all of them trained a member"):
        calibrate_members(specs, Settings(), out=tmp_path / "calibration.json")
    assert not (tmp_path / "calibration.json").exists()


def test_malignant_images_choose_no_threshold(specs, data, tmp_path):
    labels = data.labels | {data.files["validation"][0]: "malignant"}
    calibrate_members(specs, Settings(), replace(data, labels=labels), tmp_path / "calibration.json")
    assert Calibration.read(tmp_path / "calibration.json").n == 71


def test_patients_that_are_unknown_are_said_not_to_assure_the_sets(caplog):
    labels = {f"{number}.png": CLASSES[number % 4] for number in range(40)}
    groups = {name: "" if number < 4 else name for number, name in enumerate(labels)}
    data = SimpleNamespace(
        files={"validation": list(labels)}, labels=labels, groups=groups, prepared=SimpleNamespace(digests={})
    )
    fit = SimpleNamespace(member=SimpleNamespace(provenance=Provenance()))
    assert calibrate_tree._choosing([fit], data) == (data, list(labels))
    assert "The patients of 4 of the 40 images that choose thresholds are unknown" in caplog.text


def test_too_few_patients_for_sets_are_refused(specs, monkeypatch, tmp_path):
    few_data = many_phantoms(patients=16, images=4)
    monkeypatch.setattr(calibrate_tree, "data_of_run", lambda settings, data_dir: few_data)
    with pytest.raises(UserError, match=r"Sets of 90% are out of reach with 16 patients.*at least 19"):
        calibrate_members(specs, Settings(), out=tmp_path / "calibration.json")
    assert load_members(specs)[0].temperature == 1  # nothing was begun


def test_a_node_alone_with_too_few_images_is_refused(specs, monkeypatch):
    few_data = many_phantoms(patients=20, images=2)
    monkeypatch.setattr(calibrate_tree, "data_of_run", lambda settings, data_dir: few_data)
    with pytest.raises(UserError, match=r"norbe .* has the temperature 1: A temperature needs at least 30"):
        calibrate_members({"norbe": specs["norbe"]}, Settings())


def command(*words):
    return CliRunner().invoke(cli, ["calibrate", *map(str, words)])


def runs(specs):
    return [word for node, (run,) in specs.items() for word in (f"--{node}", run)]


def test_the_command_writes_the_file_once(specs, tmp_path):
    out = tmp_path / "calibration.json"
    result = command(*runs(specs), "--out", out)
    assert result.exit_code == 0, result.output
    before = out.read_text()
    result = command(*runs(specs), "--out", out)
    assert result.exit_code == 2
    assert "exists already: choose another name, or replace it with --overwrite" in result.output
    assert command(*runs(specs), "--out", out, "--overwrite", "--unsure", "0.4").exit_code == 0
    assert json.loads(before)["unsure"]["threshold"] < json.loads(out.read_text())["unsure"]["threshold"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Name the runs to calibrate"),
        (["--carci", "c", "--norbe", "n", "--invis", "i"], "Name a file for the tree's thresholds with --out"),
        (["--carci", "c", "--out", "f.json"], "Thresholds are of a whole tree: give --norbe and --invis too"),
        (["--carci", "c", "--norbe", "n"], "c is not a run folder"),
        (["--carci", "c", "--norbe", "n", "--invis", "i", "--out", "none/f.json"], "The folder none is not there"),
        (["--carci", "c", "--unsure", "1"], "Invalid value for '--unsure'"),
    ],
)
def test_a_mistake_is_one_sentence(words, sentence):
    result = command(*words)
    assert result.exit_code == 2
    assert sentence in " ".join(result.output.split())
