import errno
import json
import logging
import os
from dataclasses import replace

import keras
import numpy as np
import pytest

from bach_keras.run_folder import Run
from bach_keras.training.lr_find import choose_phase, find_rate
from callbacks.lr_range_test import LRRangeTest
from datasets.errors import WorkError
from tests.trainings import RANDOM, job, start_at, weights


def sweep(out, recipe, start=RANDOM, phase=None, metric="loss"):
    return find_rate(job(out, start=start, recipe=recipe), choose_phase(recipe, start, phase), metric)


@pytest.fixture(scope="module")
def swept(recipe, tmp_path_factory):
    """What a sweep from random weights finds."""
    return sweep(tmp_path_factory.mktemp("swept"), recipe)


def test_a_sweep_writes_what_it_found_and_changes_no_run(tree_of_runs, few_phantoms, recipe, tmp_path):
    folder = tree_of_runs["carci"]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    result = sweep(tmp_path / "out", recipe, start_at(folder), phase="middle+head", metric="accuracy")
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    assert json.loads((tmp_path / "out/lr_range_test.json").read_text()) == json.loads(json.dumps(result))
    assert (tmp_path / "out/lr_range_test.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"lr_range_test.json", "lr_range_test.png"}
    assert (result["node"], result["phase"], result["metric"]) == ("carci", "middle+head", "accuracy")
    assert result["suggestion"] == pytest.approx(result["divergence"] / 3)
    low, high = recipe.lr_bounds
    assert result["rates"][0] == pytest.approx(low)
    assert result["rates"][-1] <= high * 1.001
    # Longer than an epoch, so it wrapped around the data.
    assert len(result["rates"]) > len(few_phantoms.files["train"]) // recipe.batch_size


def test_a_picture_for_which_there_is_no_room_is_named_and_not_left_half_drawn(recipe, tmp_path, monkeypatch):
    def plot(self, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LRRangeTest, "plot", plot)
    with pytest.raises(WorkError, match=r"lr_range_test\.png cannot be written: No space left on device\.$"):
        sweep(tmp_path, recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["lr_range_test.json"]


def test_a_folder_that_cannot_be_made_costs_no_sweep(recipe, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        sweep(tmp_path / "file", recipe)
    assert not [line for line in caplog.messages if "steps on" in line]


def test_from_random_weights_it_is_the_sweep_that_training_does(tree_of_runs, swept):
    (trained,) = json.loads((tree_of_runs["carci"] / "lr_range_test.json").read_text())
    assert swept["phase"] == "all"
    for name in ("rates", "values", "divergence", "suggestion"):
        assert swept[name] == trained[name]


def test_a_run_of_the_node_starts_a_sweep_with_its_own_head(tree_of_runs, recipe):
    """All of carci's weights go in, and only those below the head of another node's run."""
    own = start_at(tree_of_runs["carci"])
    network = own.parent.read_model()
    for weight in network.weights:
        weight.assign(keras.ops.zeros_like(weight))
    replace(own, keeps_head=True).load(network)
    for one, other in zip(network.get_weights(), weights(tree_of_runs["carci"]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_nodes_run_gives_all_except_its_head(tree_of_runs):
    parent = Run.open(tree_of_runs["norbe"]).read_model()
    network = Run.open(tree_of_runs["norbe"]).read_model()
    for weight in network.weights:
        weight.assign(keras.ops.zeros_like(weight))
    start_at(tree_of_runs["norbe"]).load(network)
    for weight, given in zip(network.weights, parent.weights, strict=True):
        wanted = np.zeros_like(given) if weight.path.startswith("head.") else given
        np.testing.assert_array_equal(weight, wanted, weight.path)


def test_a_sweep_from_a_run_of_the_node_is_at_that_runs_weights(tree_of_runs, recipe, tmp_path):
    """Swept at its own head the loss of the first step is less than at a new one."""
    own, new = (
        sweep(tmp_path / node, recipe, start_at(tree_of_runs[node]), phase="head")["values"][0]
        for node in ("carci", "norbe")
    )
    assert own < new


def test_a_phase_that_training_does_not_have_is_refused(recipe, tree_of_runs):
    with pytest.raises(ValueError, match="From --init none training has no phase 'head': choose --phase all"):
        choose_phase(recipe, RANDOM, "head")
    with pytest.raises(ValueError, match=r"choose --phase head or middle\+head"):
        choose_phase(recipe, start_at(tree_of_runs["carci"]), "all")


def test_the_loss_is_read_by_a_probe_unless_there_is_none(recipe, swept, tmp_path):
    without = sweep(tmp_path, replace(recipe, lr_probe=0))
    assert recipe.lr_probe
    assert ("probe" in swept, "probe" in without) == (True, False)
    for result in (swept, without):
        assert result["suggestion"] == pytest.approx(result["divergence"] / 10)


def test_the_least_sweep_is_read(recipe, tmp_path):
    result = sweep(tmp_path, replace(recipe, lr_steps=20, lr_bounds=(1e-6, 10.0)))
    assert 10 <= len(result["rates"]) <= 20


def test_a_step_is_an_update_where_batches_are_computed_in_parts(recipe, tmp_path):
    result = sweep(tmp_path, replace(recipe, accumulate=2))
    low, high = recipe.lr_bounds
    planned = np.geomspace(low, high, 2 * recipe.lr_steps)
    np.testing.assert_allclose(result["rates"], planned[: len(result["rates"])])
