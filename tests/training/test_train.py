import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from bach_keras import run_folder as runs
from bach_keras.network.checkpoint import write_h5
from bach_keras.network.head import Classifier
from bach_keras.network.weights import TO_TORCH, TORCH_NAMES
from bach_keras.training import checkpoint as kept
from bach_keras.training import train as training
from tests.few_phantoms import TINY


def quiet(line):
    pass


def weights(folder):
    return runs.read_model(folder / "model.keras").get_weights()


def test_a_run_folder_holds_what_the_contract_says(tree_of_runs, recipe):
    folder = tree_of_runs["carci"]
    config = json.loads((folder / "config.json").read_text())
    assert config["node"] == "carci"
    assert runs.open_run(folder).recipe == replace(recipe, backbone=json.loads(json.dumps(recipe.backbone)))
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [entry["phase"] for entry in json.loads((folder / "lr_range_test.json").read_text())] == ["all"]
    assert (folder / "lr_range_test.png").read_bytes().startswith(b"\x89PNG")
    names = sorted(path.name for path in (folder / "snapshots").iterdir())
    assert names == [f"{name}.weights.h5" for name in ("best", "cycle-0-1", "cycle-1-1", "cycle-1-2")]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["kind"] == "node"
    assert metrics["n"] == 8
    assert metrics["accuracy_ci95"][0] <= metrics["accuracy"] <= metrics["accuracy_ci95"][1]
    assert not (folder / "state.npz").exists()


def test_specialists_share_carcis_trunk_and_count_its_images_as_theirs(tree_of_runs, few_phantoms):
    carci, norbe = (runs.read_model(tree_of_runs[node] / "model.keras") for node in ("carci", "norbe"))
    same = {w.path: np.array_equal(w.numpy(), v.numpy()) for w, v in zip(carci.weights, norbe.weights, strict=True)}
    assert all(equal for path, equal in same.items() if path.startswith(("conv1", "bn1", "layer1", "layer2")))
    assert not same["layer4.0.conv2/kernel"]
    config = runs.open_run(tree_of_runs["norbe"]).config
    assert set(config["trained_on"]) == set(few_phantoms.files["train"])


def test_two_runs_with_one_seed_agree_bit_for_bit_and_epochs_are_counted_over_both_phases(
    tree_of_runs, few_phantoms, recipe, tmp_path, capsys
):
    lines = []
    training.train(few_phantoms, "carci", training.Start("none"), recipe, tmp_path / "again", say=lines.append)
    assert re.findall(r"Epoch (\d/\d)", capsys.readouterr().out) == ["1/4", "2/4", "3/4", "4/4"]
    assert [line for line in lines if "peak rate" in line] == [
        "all: 1 epoch of 4 steps, peak rate 0.01, the cycle ends after epoch 1",
        "all-restarts: 3 epochs of 4 steps, peak rate 0.01, cycles end after epochs 2, 4",
    ]
    for one, other in zip(weights(tree_of_runs["carci"]), weights(tmp_path / "again"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (tmp_path / "again/history.csv").read_text() == (tree_of_runs["carci"] / "history.csv").read_text()


@pytest.mark.parametrize("cut", [1, 2])
def test_a_resumed_run_equals_the_whole_one(tree_of_runs, few_phantoms, recipe, tmp_path, monkeypatch, cut):
    saved = kept.save

    def save_then_die(run, progress):
        saved(run, progress)
        if progress.epoch == cut:
            raise KeyboardInterrupt

    folder = tmp_path / "cut"
    start = training.Start("none")
    with monkeypatch.context() as patch:
        patch.setattr(kept, "save", save_then_die)
        patch.setattr(kept, "STATE_SHARE", 1e9)  # after every epoch, however short
        with pytest.raises(KeyboardInterrupt):
            training.train(few_phantoms, "carci", start, recipe, folder, say=quiet)
    assert not runs.open_run(folder).is_finished
    training.resume(few_phantoms, start, runs.open_run(folder), say=quiet)
    for one, other in zip(weights(tree_of_runs["carci"]), weights(folder), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (folder / "history.csv").read_text() == (tree_of_runs["carci"] / "history.csv").read_text()


def test_imagenet_weights_start_a_run_and_its_trunk_stays(few_phantoms, recipe, tmp_path):
    donor = Classifier(32, backbone=recipe.backbone, seed=7).features()
    write_h5(tmp_path / "imagenet.h5", {
        f"{layer}.{TORCH_NAMES[name]}": np.transpose(weight, TO_TORCH[weight.numpy().ndim])
        for weight in donor.weights
        for layer, name in [weight.path.split("/")[-2:]]
    })  # fmt: skip
    start = training.Start("imagenet", weights=tmp_path / "imagenet.h5")
    training.train(few_phantoms, "norbe", start, recipe, tmp_path / "run", say=quiet)
    model = runs.read_model(tmp_path / "run/model.keras")
    # Not the best epoch, which may be one of the head phase.
    runs.load_snapshot(model, tmp_path / "run/snapshots/cycle-1-1")
    for weight, other in zip(donor.weights, model.features().weights, strict=True):
        unchanged = np.array_equal(weight.numpy(), other.numpy())
        assert unchanged == weight.path.startswith(("conv1", "bn1", "layer1", "layer2")), weight.path
    entries = json.loads((tmp_path / "run/lr_range_test.json").read_text())
    assert [entry["phase"] for entry in entries] == ["head", "middle+head"]


def test_a_config_without_a_class_says_why_the_node_cannot_learn(few_phantoms):
    benign_only = replace(few_phantoms, labels=dict.fromkeys(few_phantoms.labels, "benign"))
    with pytest.raises(ValueError, match="no training image of config phantom is labelled normal"):
        training.node_files(benign_only, training.get_node("norbe"))


def test_a_run_that_is_there_is_never_lost(few_phantoms, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a run already"):
        runs.create_run(tmp_path / "run", {})
    runs.create_run(tmp_path / "run", {"new": 1}, overwrite=True)
    assert (tmp_path / "run.previous/config.json").read_text() == "{}"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="no run"):
        runs.create_run(tmp_path / "mine", {}, overwrite=True)


def test_a_finished_run_is_not_given_up_for_one_that_failed(tmp_path):
    runs.create_run(tmp_path / "run", {"try": 1})
    (tmp_path / "run/metrics.json").write_text("{}")
    for number in (2, 3):
        runs.create_run(tmp_path / "run", {"try": number}, overwrite=True)
    assert (tmp_path / "run.previous/config.json").read_text() == '{\n "try": 1\n}\n'


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 500}, "fewer than one batch of 500"),
        ({"backbone": {**TINY, "stem": 16}}, "another network than this one"),
    ],
)
def test_what_cannot_train_leaves_the_run_that_is_there(
    tree_of_runs, few_phantoms, recipe, tmp_path, changes, sentence
):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{}")
    start = training.Start("carci", parent=runs.open_run(tree_of_runs["carci"]))
    with pytest.raises(ValueError, match=sentence):
        training.train(few_phantoms, "norbe", start, replace(recipe, **changes), tmp_path / "run", True, quiet)
    with pytest.raises(ValueError, match="is the run that this one comes from"):
        training.train(few_phantoms, "norbe", start, recipe, tree_of_runs["carci"], True, quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_images_that_trained_the_start_do_not_validate(tree_of_runs, few_phantoms, recipe, tmp_path):
    start = training.Start("carci", parent=runs.open_run(tree_of_runs["carci"]))
    turned = {**few_phantoms.files, "validation": few_phantoms.files["train"], "train": few_phantoms.files["test"]}
    with pytest.raises(ValueError, match=r"carci trained on 8 of the 8 images that are to validate here .*--protocol"):
        training.train(replace(few_phantoms, files=turned), "norbe", start, recipe, tmp_path / "run", say=quiet)
    assert not (tmp_path / "run").exists()


def test_the_rate_that_is_not_given_is_the_range_tests(few_phantoms, tree_of_runs, recipe, tmp_path):
    start = training.Start("carci", parent=runs.open_run(tree_of_runs["carci"]))
    automatic = replace(recipe, lr=None)
    training.train(few_phantoms, "norbe", start, automatic, tmp_path / "run", say=quiet)
    suggested = [entry["suggestion"] for entry in json.loads((tmp_path / "run/lr_range_test.json").read_text())]
    rates = [float(row["learning_rate"]) for row in runs.read_history(runs.open_run(tmp_path / "run"))]
    # A phase's first epoch ends below its peak; of two steps, half-way down the cosine.
    steps = 2
    assert len(suggested) == 2
    for rate, peak in zip((rates[0], rates[1]), suggested, strict=True):
        assert rate == pytest.approx(peak * (1 + np.cos(np.pi * (steps - 1) / steps)) / 2, rel=1e-5)


def test_without_a_range_test_nothing_is_swept(few_phantoms, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("bach_keras.training.fit.lr_range_test", None)
    quick = replace(recipe, range_test=False, head_epochs=1, cycles=0)
    training.train(few_phantoms, "carci", training.Start("none"), quick, tmp_path / "run", say=quiet)
    assert not list((tmp_path / "run").glob("lr_range_test*"))
    (row,) = runs.read_history(runs.open_run(tmp_path / "run"))
    assert float(row["learning_rate"]) <= recipe.lr


def test_a_run_from_before_a_number_of_the_recipe_is_read_and_differs_in_nothing(tree_of_runs, tmp_path):
    config = json.loads((tree_of_runs["carci"] / "config.json").read_text())
    for name in ("range_test", "lr_probe"):
        del config["recipe"][name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    run = runs.open_run(tmp_path)
    assert (run.recipe.range_test, run.recipe.lr_probe) == (True, 0)
    assert runs.differences(run, {"recipe": runs.recipe_as_json(run.recipe)}) == []
    changed = runs.recipe_as_json(replace(run.recipe, lr_probe=30))
    assert runs.differences(run, {"recipe": changed}) == ["lr_probe was 0, is 30"]


def test_members_are_checked(tree_of_runs, tmp_path):
    carci = tree_of_runs["carci"]
    assert runs.load_member("carci", f"{carci}:0.25").weight == 0.25
    assert runs.load_member("carci", str(carci)).weight == 1
    first, last = (runs.load_member("carci", str(carci / "snapshots" / name)) for name in ("cycle-0-1", "cycle-1-2"))
    assert not np.array_equal(first.model.get_weights()[0], last.model.get_weights()[0])
    normalised = runs.create_run(tmp_path / "normalised", json.loads((carci / "config.json").read_text()))
    normalised.config["recipe"]["stain_normalisation"] = "reinhard"
    runs.write_json(normalised.folder / "config.json", normalised.config)
    for name in ("metrics.json", "model.keras"):
        (normalised.folder / name).write_bytes((carci / name).read_bytes())
    assert runs.load_member("carci", str(carci)).stain_normalisation == "none"
    assert runs.load_member("carci", str(normalised.folder)).stain_normalisation == "reinhard"
    with pytest.raises(ValueError, match="is a run of carci, so it cannot be given as --norbe"):
        runs.load_member("norbe", str(carci))
    with pytest.raises(ValueError, match="no run folder"):
        runs.load_member("carci", str(tmp_path))
    with pytest.raises(ValueError, match="There is no snapshot"):
        runs.load_member("carci", str(carci / "snapshots/nothing"))


def test_a_run_says_and_keeps_which_images_the_stain_normalisation_left(few_phantoms, recipe, tmp_path):
    lines = []
    short = replace(recipe, head_epochs=1, cycles=0, stain_normalisation="macenko")
    result = training.train(few_phantoms, "invis", training.Start("none"), short, tmp_path / "run", say=lines.append)
    counted = result["stains"]["train"]
    assert counted["method"] == "macenko"
    assert counted["of"] == {"insitu": 4, "invasive": 4}
    assert result["stains"]["validation"]["of"] == {"insitu": 2, "invasive": 2}
    assert [line for line in lines if line.startswith("train images: macenko")]
    assert runs.load_member("invis", str(tmp_path / "run")).metrics["stains"] == result["stains"]
