"""The better of two starts, by validation."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from bach_keras import run_folder as runs
from bach_keras.training import train as training
from bach_keras.training.best_start import standing, train_best


@pytest.fixture(scope="module")
def chosen(few_phantoms, tree_of_runs, recipe, tmp_path_factory):
    place = tmp_path_factory.mktemp("best") / "norbe"
    carci = Run.open(tree_of_runs["carci"])
    starts = {"none": training.Start("none"), "carci": training.Start(str(carci.folder), parent=carci)}
    short = replace(recipe, head_epochs=0, cycles=1, cycle_epochs=2)
    lines = []
    result = train_best(few_phantoms, "norbe", starts, short, place, say=lines.append)
    return place, starts, short, result, lines


def test_both_runs_stay_and_the_better_is_the_nodes(chosen):
    place, starts, _, result, _ = chosen
    config = json.loads((place / "config.json").read_text())
    candidates = config["candidates"]
    assert set(candidates) == set(starts)
    better = config["started_from"]
    order = {name: (-told["accuracy"], told["loss"]) for name, told in candidates.items()}
    assert order[better] == min(order.values())
    assert result["accuracy"] == candidates[better]["accuracy"]
    kept = load_member("norbe", str(place)).model.get_weights()
    own = load_member("norbe", candidates[better]["run"]).model.get_weights()
    for one, other in zip(kept, own, strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(Run.open(told["run"]).is_finished for told in candidates.values())


def test_a_run_whose_loss_is_no_number_stands_below(chosen, tmp_path):
    place, *_ = chosen
    folder = tmp_path / "copy"
    shutil.copytree(place, folder)
    history = Run.open(folder).history()
    runs.write_history(folder / "history.csv", [{**row, "val_loss": "nan"} for row in history])
    assert standing(folder) < standing(place)


def test_finished_candidates_are_not_trained_again(chosen, few_phantoms):
    place, starts, recipe, result, _ = chosen
    lines = []
    again = train_best(few_phantoms, "norbe", starts, recipe, place, overwrite=True, say=lines.append)
    assert again == result
    assert sum("is finished already" in line for line in lines) == 2
    assert (place.with_name("norbe.previous") / "metrics.json").is_file()


def test_candidates_of_another_recipe_are_refused(chosen, few_phantoms):
    place, starts, recipe, *_ = chosen
    other = replace(recipe, seed=5)
    with pytest.raises(ValueError, match="holds another run than the one wanted here: seed was 0, is 5"):
        train_best(few_phantoms, "norbe", starts, other, place, overwrite=True, say=lambda line: None)


def test_without_validation_images_there_is_nothing_to_choose_by(few_phantoms, recipe, tmp_path):
    whole = replace(few_phantoms, protocol="all", files={**few_phantoms.files, "validation": []})
    with pytest.raises(ValueError, match="--init best chooses by validation images, and protocol all keeps none"):
        train_best(whole, "norbe", {"none": training.Start("none")}, recipe, tmp_path / "run")
