"""The better of two starts, by validation."""

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest

from bach_keras.members import load_member
from bach_keras.run_folder import Run
from bach_keras.training.best_start import train_best, validation_score
from bach_keras.training.checkpoint import standing
from tests.few_phantoms import NO_SWEEP
from tests.trainings import RANDOM, job, start_at


@pytest.fixture(scope="module")
def chosen(tree_of_runs, tmp_path_factory):
    """Return a job that was trained from two starts, these, and its metrics."""
    starts = {"none": RANDOM, "carci": start_at(tree_of_runs["carci"])}
    short = replace(NO_SWEEP, head_epochs=0, cycles=1, cycle_epochs=2)
    planned = job(tmp_path_factory.mktemp("best") / "norbe", "norbe", recipe=short)
    return planned, starts, train_best(planned, starts)


def test_both_runs_stay_and_the_better_is_the_nodes(chosen):
    planned, starts, result = chosen
    place = planned.folder
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


def test_a_run_whose_loss_is_nan_stands_below(chosen, tmp_path):
    planned, *_ = chosen
    spoilt = Run.open(shutil.copytree(planned.folder, tmp_path / "copy"))
    spoilt.write_history([{**row, "val_loss": "nan"} for row in spoilt.history()])
    assert standing(validation_score(spoilt.folder)) < standing(validation_score(planned.folder))


def test_finished_candidates_are_not_trained_again(chosen, caplog):
    caplog.set_level(logging.INFO)
    planned, starts, result = chosen
    assert train_best(planned, starts, overwrite=True) == result
    assert sum("is finished already" in line for line in caplog.messages) == 2
    assert (planned.folder.with_name("norbe.previous") / "metrics.json").is_file()


def test_candidates_of_another_recipe_are_refused(chosen):
    planned, starts, _ = chosen
    other = replace(planned, recipe=replace(planned.recipe, seed=5))
    with pytest.raises(ValueError, match="holds another run than the one wanted here: seed was 0, is 5"):
        train_best(other, starts, overwrite=True)


def test_without_validation_images_there_is_nothing_to_choose_by(few_phantoms, tmp_path):
    whole = replace(few_phantoms, protocol="all", files={**few_phantoms.files, "validation": []})
    with pytest.raises(ValueError, match="--init best chooses by validation images, and protocol all keeps none"):
        train_best(job(tmp_path / "run", "norbe", data=whole), {"none": RANDOM})
