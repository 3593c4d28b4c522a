import json
import logging
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bach_keras.evidence.metrics import KEYS
from bach_keras.evidence.predictions import read_predictions
from bach_keras.evidence.verify_result import verify_result
from bach_keras.members import load_member
from bach_keras.network.checkpoint import write_h5
from bach_keras.network.head import Classifier
from bach_keras.network.weights import TO_TORCH, TORCH_NAMES
from bach_keras.run_folder import Run, recipe_as_json
from bach_keras.training.start import Start
from bach_keras.training.train import create, reopen, train
from datasets.errors import UserError
from tests.few_phantoms import NO_SWEEP, TINY, Copies
from tests.trainings import RANDOM, history, interrupted, job, start_at, trained, weights


def test_a_run_folder_holds_what_the_contract_says(tree_of_runs, recipe):
    folder = tree_of_runs["carci"]
    config = json.loads((folder / "config.json").read_text())
    assert config["node"] == "carci"
    assert Run.open(folder).recipe == replace(recipe, backbone=json.loads(json.dumps(recipe.backbone)))
    assert [row["epoch"] for row in history(folder)] == ["1", "2", "3", "4"]
    assert [entry["phase"] for entry in json.loads((folder / "lr_range_test.json").read_text())] == ["all"]
    assert (folder / "lr_range_test.png").read_bytes().startswith(b"\x89PNG")
    names = sorted(path.name for path in (folder / "snapshots").iterdir())
    assert names == [f"{name}.weights.h5" for name in ("best", "cycle-0-1", "cycle-1-1", "cycle-1-2")]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["kind"] == "node"
    assert metrics["n"] == 8
    assert metrics["accuracy_ci95"][0] <= metrics["accuracy"] <= metrics["accuracy_ci95"][1]
    assert (metrics["groups"], metrics["effective_n"]) == (4, 4)  # two images of each of four patients
    assert set(KEYS) < set(metrics)
    assert not (folder / "state.npz").exists()
    assert not [path for path in folder.rglob("*") if ".part" in path.name]


def test_a_run_keeps_its_best_epochs_answers_for_the_validation_images(tree_of_runs, few_phantoms):
    for node, folder in tree_of_runs.items():
        found = read_predictions(folder / "predictions.csv")
        assert found.node == node
        files = job(folder, node, data=few_phantoms).files["validation"]
        assert [row["filename"] for row in found.rows] == files
        assert {row["group"] for row in found.rows} == {few_phantoms.groups[name] for name in files}
        assert all(row["chosen"] for row in found.rows)
        assert verify_result(folder).differences == []


def test_specialists_share_carcis_trunk_and_count_its_images_as_theirs(tree_of_runs, few_phantoms):
    carci, norbe = (Run.open(tree_of_runs[node]).read_model() for node in ("carci", "norbe"))
    same = {w.path: np.array_equal(w.numpy(), v.numpy()) for w, v in zip(carci.weights, norbe.weights, strict=True)}
    assert all(equal for path, equal in same.items() if path.startswith(("conv1", "bn1", "layer1", "layer2")))
    assert not same["layer4.0.conv2/kernel"]
    assert set(Run.open(tree_of_runs["norbe"]).settings["trained_on"]) == set(few_phantoms.files["train"])


def test_two_runs_with_one_seed_agree_bit_for_bit_and_epochs_are_counted_over_both_phases(
    tree_of_runs, tmp_path, capsys, caplog
):
    caplog.set_level(logging.INFO)
    trained(job(tmp_path / "again"))
    assert re.findall(r"Epoch (\d/\d)", capsys.readouterr().out) == ["1/4", "2/4", "3/4", "4/4"]
    assert [line for line in caplog.messages if "peak rate" in line] == [
        "all: 1 epoch of 4 steps, peak rate 0.01, the cycle ends after epoch 1",
        "all-restarts: 3 epochs of 4 steps, peak rate 0.01, cycles end after epochs 2, 4",
    ]
    for one, other in zip(weights(tree_of_runs["carci"]), weights(tmp_path / "again"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (tmp_path / "again/history.csv").read_text() == (tree_of_runs["carci"] / "history.csv").read_text()


@pytest.mark.parametrize("after", [1, 2])
def test_a_resumed_run_equals_the_undisturbed_one(tree_of_runs, tmp_path, after):
    planned = job(tmp_path / "run")
    assert not interrupted(planned, after).is_finished
    train(planned, reopen(planned))
    for one, other in zip(weights(tree_of_runs["carci"]), weights(planned.folder), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (planned.folder / "history.csv").read_text() == (tree_of_runs["carci"] / "history.csv").read_text()


def test_imagenet_weights_start_a_run_and_its_trunk_stays(recipe, tmp_path):
    donor = Classifier(32, backbone=recipe.backbone, seed=7).features()
    write_h5(tmp_path / "imagenet.h5", {
        f"{layer}.{TORCH_NAMES[name]}": np.transpose(weight, TO_TORCH[weight.numpy().ndim])
        for weight in donor.weights
        for layer, name in [weight.path.split("/")[-2:]]
    })  # fmt: skip
    trained(job(tmp_path / "run", "norbe", Start("imagenet", weights=tmp_path / "imagenet.h5")))
    run = Run.open(tmp_path / "run")
    model = run.read_model()
    # The best epoch may be one of the head phase.
    run.load_snapshot(model, "cycle-1-1")
    for weight, other in zip(donor.weights, model.features().weights, strict=True):
        unchanged = np.array_equal(weight.numpy(), other.numpy())
        assert unchanged == weight.path.startswith(("conv1", "bn1", "layer1", "layer2")), weight.path
    assert [entry["phase"] for entry in run.range_tests()] == ["head", "middle+head"]
    assert {path.name for path in run.folder.glob("lr*.png")} == {"lr_range_test.png", "lr_range_test_2.png"}


def test_a_config_without_a_class_says_why_the_node_cannot_learn(few_phantoms, tmp_path):
    benign_only = replace(few_phantoms, labels=dict.fromkeys(few_phantoms.labels, "benign"))
    with pytest.raises(ValueError, match="no training image of config phantom is labelled normal"):
        job(tmp_path, "norbe", data=benign_only).files  # noqa: B018 - asking for them is what fails


def test_a_run_that_exists_is_never_lost(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a run already"):
        Run.create(tmp_path / "run", {})
    Run.create(tmp_path / "run", {"new": 1}, overwrite=True)
    assert (tmp_path / "run.previous/config.json").read_text() == "{}"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="not a run"):
        Run.create(tmp_path / "mine", {}, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "run", "run.previous"]


def test_a_finished_run_is_not_given_up_for_one_that_failed(tmp_path):
    Run.create(tmp_path / "run", {"try": 1})
    (tmp_path / "run/metrics.json").write_text("{}")
    for number in (2, 3):
        Run.create(tmp_path / "run", {"try": number}, overwrite=True)
    assert (tmp_path / "run.previous/config.json").read_text() == '{\n "try": 1\n}\n'


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 500}, "fewer than one batch of 500"),
        ({"backbone": {**TINY, "stem": 16}}, "another network than this one"),
        (
            {"image_size": 5000},
            "No run can have these settings: recipe.image_size must be a whole number from 0 to 4096",
        ),
    ],
)
def test_what_cannot_train_leaves_the_run_that_exists(tree_of_runs, recipe, tmp_path, changes, sentence):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{}")
    start = start_at(tree_of_runs["carci"])
    with pytest.raises(ValueError, match=sentence):
        create(job(tmp_path / "run", "norbe", start, replace(recipe, **changes)), overwrite=True)
    with pytest.raises(ValueError, match="is the run that this one comes from"):
        create(job(tree_of_runs["carci"], "norbe", start), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_images_that_trained_the_start_do_not_validate(tree_of_runs, few_phantoms, tmp_path):
    swapped = {**few_phantoms.files, "validation": few_phantoms.files["train"], "train": few_phantoms.files["test"]}
    data = replace(few_phantoms, files=swapped)
    with pytest.raises(ValueError, match=r"carci trained on 8 of the 8 images that are to validate here .*--protocol"):
        create(job(tmp_path / "run", "norbe", start_at(tree_of_runs["carci"]), data=data))
    assert not (tmp_path / "run").exists()


def test_copies_of_images_that_trained_the_start_do_not_validate_under_any_name(tree_of_runs, few_phantoms, tmp_path):
    swapped = {**few_phantoms.files, "validation": few_phantoms.files["train"], "train": few_phantoms.files["test"]}
    data = Copies.of(replace(few_phantoms, files=swapped))
    name = few_phantoms.files["train"][0]
    with pytest.raises(UserError, match=rf"trained on 16 of the 16 images .*own-lab/{name} = {name},"):
        create(job(tmp_path / "run", start=start_at(tree_of_runs["carci"]), data=data))


def test_a_validation_image_with_the_pixels_of_a_training_image_is_refused(few_phantoms, tmp_path):
    copies = Copies.of(few_phantoms)
    name = few_phantoms.files["train"][0]
    files = {"train": few_phantoms.files["train"], "validation": [f"own-lab/{name}", *few_phantoms.files["validation"]]}
    both = SimpleNamespace(digests=few_phantoms.prepared.digests | copies.prepared.digests)

    class Joined(type(few_phantoms)):
        prepared = both

    data = Joined(files=files, labels=few_phantoms.labels | copies.labels)
    with pytest.raises(UserError, match=rf"1 of the 9 images that would validate .*own-lab/{name} = {name}"):
        create(job(tmp_path / "run", data=data))
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_the_digests_of_its_images_and_of_those_before_it(tree_of_runs, few_phantoms):
    files, digests = few_phantoms.files, few_phantoms.prepared.digests
    pixels = Run.open(tree_of_runs["norbe"]).settings["pixels"]
    assert pixels == {name: digests[name][:16] for name in sorted(files["train"] + files["validation"])}


def test_the_rate_that_is_not_given_is_the_range_tests(tree_of_runs, recipe, tmp_path):
    trained(job(tmp_path / "run", "norbe", start_at(tree_of_runs["carci"]), replace(recipe, lr=None)))
    suggested = [entry["suggestion"] for entry in json.loads((tmp_path / "run/lr_range_test.json").read_text())]
    rates = [float(row["learning_rate"]) for row in history(tmp_path / "run")]
    # A phase's first epoch ends below its peak; of two steps, half-way down the cosine.
    steps = 2
    assert len(suggested) == 2
    for rate, peak in zip((rates[0], rates[1]), suggested, strict=True):
        assert rate == pytest.approx(peak * (1 + np.cos(np.pi * (steps - 1) / steps)) / 2, rel=1e-5)


def test_without_a_range_test_nothing_is_swept(recipe, tmp_path):
    trained(job(tmp_path / "run", recipe=replace(recipe, range_test=False, head_epochs=1, cycles=0)))
    assert not list((tmp_path / "run").glob("lr_range_test*"))
    (row,) = history(tmp_path / "run")
    assert float(row["learning_rate"]) <= recipe.lr


def test_a_run_that_is_older_than_a_number_of_the_recipe_is_read_and_differs_in_nothing(tree_of_runs, tmp_path):
    config = json.loads((tree_of_runs["carci"] / "config.json").read_text())
    for name in ("range_test", "lr_probe"):
        del config["recipe"][name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    run = Run.open(tmp_path)
    assert (run.recipe.range_test, run.recipe.lr_probe) == (True, 0)
    assert run.differences({"recipe": recipe_as_json(run.recipe)}) == []
    changed = recipe_as_json(replace(run.recipe, lr_probe=30))
    assert run.differences({"recipe": changed}) == ["lr_probe was 0, is 30"]


def test_what_an_earlier_version_left_half_written_is_removed(tree_of_runs, tmp_path):
    run = Run.create(tmp_path / "run", {})
    names = [".part.state.npz", ".history.csv.part", "snapshots/.part-best.weights.h5", ".1-0.part.npz"]
    for name in names:
        (run.folder / name).touch()
    run.remove_unfinished()
    assert sorted(path.name for path in run.folder.rglob("*")) == ["config.json", "snapshots"]


def test_members_are_checked(tree_of_runs, tmp_path):
    carci = tree_of_runs["carci"]
    assert load_member("carci", f"{carci}:0.25").weight == 0.25
    assert load_member("carci", str(carci)).weight == 1
    first, last = (load_member("carci", str(carci / "snapshots" / name)) for name in ("cycle-0-1", "cycle-1-2"))
    assert not np.array_equal(first.model.get_weights()[0], last.model.get_weights()[0])
    normalised = Run.create(tmp_path / "normalised", json.loads((carci / "config.json").read_text()))
    normalised.settings["recipe"]["stain_normalisation"] = "reinhard"
    normalised.write_settings()
    for name in ("metrics.json", "model.keras"):
        (normalised.folder / name).write_bytes((carci / name).read_bytes())
    assert load_member("carci", str(carci)).view.stain_normalisation == "none"
    assert load_member("carci", str(normalised.folder)).view.stain_normalisation == "reinhard"
    with pytest.raises(ValueError, match="is a run of carci, so it cannot be given as --norbe"):
        load_member("norbe", str(carci))
    with pytest.raises(ValueError, match="not a run folder"):
        load_member("carci", str(tmp_path))
    with pytest.raises(ValueError, match="There is no snapshot"):
        load_member("carci", str(carci / "snapshots/nothing"))


def test_a_run_says_and_keeps_which_images_the_stain_normalisation_left(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    short = replace(NO_SWEEP, head_epochs=1, cycles=0, stain_normalisation="macenko")
    result = trained(job(tmp_path / "run", "invis", recipe=short))
    counted = result["stains"]["train"]
    assert counted["method"] == "macenko"
    assert counted["of"] == {"insitu": 4, "invasive": 4}
    assert result["stains"]["validation"]["of"] == {"insitu": 2, "invasive": 2}
    assert [line for line in caplog.messages if line.startswith("train images: macenko")]
    assert load_member("invis", str(tmp_path / "run")).metrics["stains"] == result["stains"]


def test_from_the_command_to_fit_there_are_three_frames_of_ours(tmp_path):
    """A newcomer reads the command, ``train`` and ``fit_phase``; the rest is click's and Keras's."""
    import traceback

    import keras

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            nonlocal frames
            stack = traceback.extract_stack()
            frames = [frame.name for frame in stack if "/bach_keras/" in frame.filename]

    frames = []
    trained(job(tmp_path / "run", recipe=replace(NO_SWEEP, cycles=0)), callbacks=[Look()])
    assert frames == ["train", "fit_phase"]


def test_a_run_keeps_the_random_start_it_had(tree_of_runs):
    assert Run.open(tree_of_runs["carci"]).settings["init"] == RANDOM.init
