"""Classes that count unequally in the loss: against numbers written by hand, Keras's own, and through whole runs."""

import json
import logging
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from sklearn.metrics import balanced_accuracy_score

from bach_keras.recipe import Recipe
from bach_keras.run_folder import Run
from bach_keras.training.balance import in_words
from bach_keras.training.batches import ImageCache, evaluation_batches, training_batches
from bach_keras.training.best_start import validation_score
from bach_keras.training.fit import compiled
from bach_keras.training.lr_find import choose_phase, find_rate
from bach_keras.training.phases import Phase
from bach_keras.training.train import create, reopen, train
from bach_keras.tree import NODES
from cli import cli
from tests.few_phantoms import NO_SWEEP, RECIPE
from tests.trainings import RANDOM, history, interrupted, job, trained, weights

PHASE = Phase("middle+head", {"middle": 1 / 3, "head": 1.0}, 2, 1, 1)
BALANCED, STATED = replace(NO_SWEEP, class_weights="balanced"), replace(NO_SWEEP, class_weights=(1.0, 3.0))


@pytest.fixture(scope="module")
def cache():
    """Thirteen images, of which three are of the second class."""
    pixels = np.random.default_rng(6).integers(0, 256, (13, 32, 40, 3), np.uint8)
    targets = np.array([0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0], np.int32)
    pixels[targets == 0] //= 2  # something to learn
    places = np.stack([np.zeros(13, np.int32), np.arange(13, dtype=np.int32)], axis=1)
    return ImageCache((tf.constant(pixels),), places, targets, ("",) * 13)


@pytest.fixture(scope="module")
def rare(few_phantoms):
    """Phantoms of which two train carcinoma and eight do not."""
    kept = {"insitu": 0, "invasive": 2}
    train = []
    for name in few_phantoms.files["train"]:
        label = few_phantoms.labels[name]
        if kept.get(label, 1) > 0:
            train.append(name)
            kept[label] = kept.get(label, 9) - 1
    return replace(few_phantoms, files={**few_phantoms.files, "train": train})


def two_layers() -> keras.Model:
    keras.utils.set_random_seed(7)
    layers = keras.layers
    inputs = keras.Input((32, 32, 3))
    hidden = layers.Dense(4, use_bias=False, name="layer3.dense")(layers.GlobalAveragePooling2D()(inputs))
    model = keras.Model(inputs, layers.Dense(2, use_bias=False, name="head.dense")(hidden))
    model.layer_groups = {"middle": r"(^|/)layer3\.", "head": r"(^|/)head\."}
    return model


@pytest.mark.parametrize(
    ("recipe", "of_classes"), [(BALANCED, (13 / (2 * 10), 13 / (2 * 3))), (STATED, (1, 3))], ids=["balanced", "stated"]
)
def test_loss_and_weighted_accuracy_are_those_written_by_hand(cache, recipe, of_classes):
    model = compiled(two_layers(), PHASE, recipe)
    found = model.evaluate(evaluation_batches(cache, recipe), verbose=0, return_dict=True)
    logits = model.predict(evaluation_batches(cache, recipe), verbose=0).astype(np.float64)
    each = np.array(of_classes)[cache.targets]
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(13), cache.targets]
    right = logits.argmax(axis=1) == cache.targets
    assert found["loss"] == pytest.approx((each * losses).mean(), rel=1e-5)
    assert found["accuracy"] == pytest.approx(right.mean())
    assert found["weighted_accuracy"] == pytest.approx((each * right).sum() / each.sum())
    if recipe is BALANCED:
        balanced = balanced_accuracy_score(cache.targets, logits.argmax(axis=1))
        assert found["weighted_accuracy"] == pytest.approx(balanced)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_updates_are_those_of_kerass_class_weight(cache, accumulate):
    plain = replace(NO_SWEEP, accumulate=accumulate)
    found = []
    for recipe, given in ((plain, {"class_weight": {0: 1.0, 1: 3.0}}), (replace(plain, class_weights=(1.0, 3.0)), {})):
        model = compiled(two_layers(), PHASE, recipe)
        model.optimizer.learning_rate = 0.2
        model.fit(training_batches(cache, recipe, 0, 2), shuffle=False, verbose=0, **given)
        found.append([weight.numpy() for weight in model.weights])
    before = [weight.numpy() for weight in two_layers().weights]
    for start, theirs, ours in zip(before, *found, strict=True):
        assert np.abs(theirs - start).max() > 0.01
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_without_weights_a_batch_is_what_it_was(cache):
    for make in (
        lambda recipe: training_batches(cache, recipe, 0, 1),
        lambda recipe: evaluation_batches(cache, recipe),
    ):
        assert len(make(NO_SWEEP).element_spec) == 2
        for one, other in zip(make(NO_SWEEP), make(STATED), strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(other[2], np.where(one[1], 3, 1))


def test_of_a_class_without_an_image_balanced_weights_say_nothing():
    assert BALANCED.weights_for([6, 0]) == (1, 0)
    assert BALANCED.weights_for([10, 10]) == (1, 1)


@pytest.fixture(scope="module")
def balanced_run(rare, tmp_path_factory):
    return Run.open(_trained(rare, tmp_path_factory.mktemp("balanced") / "run"))


def _trained(data, folder):
    trained(job(folder, recipe=BALANCED, data=data))
    return folder


def test_a_run_says_its_weights_and_chooses_its_epoch_by_them(balanced_run):
    assert json.loads((balanced_run.folder / "config.json").read_text())["recipe"]["class_weights"] == "balanced"
    assert balanced_run.recipe.class_weights == "balanced"
    rows = history(balanced_run.folder)
    ranks = [(float(row["val_weighted_accuracy"]), -float(row["val_loss"])) for row in rows]
    assert balanced_run.metrics()["best_epoch"] == 1 + ranks.index(max(ranks))
    score = validation_score(balanced_run.folder)
    assert (score["accuracy"], -score["loss"]) == max(ranks)
    # The validation images are eight, four of each class.
    assert score["accuracy"] == pytest.approx(balanced_run.metrics()["balanced_accuracy"])


def test_an_interrupted_run_with_weights_is_resumed_bit_for_bit(balanced_run, rare, tmp_path):
    planned = job(tmp_path / "run", recipe=BALANCED, data=rare)
    assert not interrupted(planned).is_finished
    train(planned, reopen(planned))
    for one, other in zip(weights(balanced_run.folder), weights(planned.folder), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (planned.folder / "history.csv").read_text() == (balanced_run.folder / "history.csv").read_text()


def test_weights_change_what_is_learned_and_are_reported_with_the_counts(balanced_run, rare, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    trained(job(tmp_path / "run", recipe=NO_SWEEP, data=rare))
    assert any(
        not np.array_equal(one, other)
        for one, other in zip(weights(balanced_run.folder), weights(tmp_path / "run"), strict=True)
    )
    assert "weighted_accuracy" not in history(tmp_path / "run")[0]
    assert [line for line in caplog.messages if line.startswith("training images: 8 of noncarcinoma and 2 of ")]
    (said,) = [line for line in caplog.messages if line.startswith("validation accuracy")]
    assert ", balanced " in said


def test_what_is_said_of_classes():
    carci = NODES["carci"]
    assert in_words(carci, Recipe(), [80, 30]) == ""
    assert "90 of noncarcinoma and 30 of carcinoma" in in_words(carci, Recipe(), [90, 30])
    said = in_words(carci, BALANCED, [200, 20])
    assert "noncarcinoma 0.55 (200), carcinoma 5.5 (20)" in said
    assert "stated" in in_words(carci, STATED, [200, 20])


def test_a_sweep_is_of_the_weighted_loss(rare, tmp_path):
    plain, balanced = (
        find_rate(job(tmp_path / name, recipe=recipe, data=rare), choose_phase(recipe, RANDOM, None))["values"]
        for name, recipe in (("plain", RECIPE), ("balanced", replace(RECIPE, class_weights="balanced")))
    )
    assert plain[0] != balanced[0]


def test_a_loss_that_is_weighted_otherwise_does_not_say_when_to_stop(balanced_run, rare, tmp_path):
    planned = job(tmp_path / "run", data=rare, stop_at=balanced_run)
    with pytest.raises(ValueError, match=r"is weighted otherwise than this run's would be.*--class-weights"):
        create(planned)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_resumed_with_other_weights(rare, tmp_path):
    run = interrupted(job(tmp_path / "run", recipe=NO_SWEEP, data=rare))
    other = job(run.folder, recipe=BALANCED, data=rare)
    with pytest.raises(ValueError, match="class_weights was none, is balanced"):
        reopen(other)
    with pytest.raises(ValueError, match="cannot be resumed with another class_weights, not even"):
        reopen(other, allow_changes=True)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("1,3", "neither none, balanced nor a number for each class"),
        ("carcinoma=high,noncarcinoma=1", "neither none, balanced nor a number for each class"),
        ("carcinoma=1,carcinoma=2", "neither none, balanced nor a number for each class"),
        ("", "neither none, balanced nor a number for each class"),
        ("carcinoma=3", "must give a number for each class of carci and for no other: noncarcinoma=1,carcinoma=1"),
        ("normal=1,benign=3", "must give a number for each class of carci"),
        ("carcinoma=0,noncarcinoma=1", "a weight from 0.001 to 1000 for each"),
        ("carcinoma=nan,noncarcinoma=1", "a weight from 0.001 to 1000 for each"),
        ("carcinoma=-1,noncarcinoma=1", "a weight from 0.001 to 1000 for each"),
    ],
)
def test_weights_that_are_none_are_refused_in_a_sentence(tmp_path, monkeypatch, given, sentence):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["train", "--node", "carci", "--config", "phantom", "--class-weights", given])
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_stated_weights_of_all_three_nodes_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["reproduce", "--config", "phantom", "--plan", "--class-weights", "carcinoma=1,noncarcinoma=2"]
    result = CliRunner().invoke(cli, words)
    assert (result.exit_code, "Each node has classes of its own" in result.stderr) == (2, True)
