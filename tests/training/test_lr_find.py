import json
from dataclasses import replace

import numpy as np
import pytest

from bach_keras.training import lr_find as find
from bach_keras.training import train as training
from bach_keras.training.phases import Start


def quiet(line):
    pass


def sweep(few_phantoms, recipe, out, start, phase=None, **options):
    chosen = find.choose_phase(recipe, start, phase)
    return find.find_rate(few_phantoms, "carci", start, chosen, recipe, out, say=quiet, **options)


def test_a_sweep_writes_what_it_found_and_changes_no_run(tree_of_runs, few_phantoms, recipe, tmp_path):
    folder = tree_of_runs["carci"]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    start = Start(str(folder), parent=Run.open(folder))
    result = sweep(few_phantoms, recipe, tmp_path / "out", start, phase="middle+head", metric="accuracy")
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


def test_from_random_weights_it_is_the_sweep_that_training_does(tree_of_runs, few_phantoms, recipe, tmp_path):
    result = sweep(few_phantoms, recipe, tmp_path, Start("none"))
    (trained,) = json.loads((tree_of_runs["carci"] / "lr_range_test.json").read_text())
    assert result["phase"] == "all"
    for name in ("rates", "values", "divergence", "suggestion"):
        assert result[name] == trained[name]


def swept_model(monkeypatch):
    """Return a list that will hold the network a sweep is run on."""
    models = []

    def network(recipe):
        models.append(training.network(recipe))
        return models[0]

    monkeypatch.setattr(find, "network", network)
    return models


def test_a_run_of_the_node_is_swept_at_its_own_weights_which_stay(
    tree_of_runs, few_phantoms, recipe, tmp_path, monkeypatch
):
    folder = tree_of_runs["carci"]
    models = swept_model(monkeypatch)
    sweep(few_phantoms, recipe, tmp_path, Start(str(folder), parent=Run.open(folder)), phase="head")
    own = Run.open(folder).read_model().get_weights()
    for one, other in zip(models[0].get_weights(), own, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_nodes_run_gives_all_but_its_head(tree_of_runs, few_phantoms, recipe, tmp_path, monkeypatch):
    folder = tree_of_runs["norbe"]
    models = swept_model(monkeypatch)
    sweep(few_phantoms, recipe, tmp_path, Start(str(folder), parent=Run.open(folder)))
    own = {weight.path: weight.numpy() for weight in Run.open(folder).read_model().weights}
    same = {weight.path: np.array_equal(weight.numpy(), own[weight.path]) for weight in models[0].weights}
    assert not same["head.dense1/kernel"]
    assert all(equal for path, equal in same.items() if not path.startswith("head."))


def test_a_phase_that_training_does_not_have_is_refused(recipe, tree_of_runs):
    with pytest.raises(ValueError, match="From --init none training has no phase 'head': choose --phase all"):
        find.choose_phase(recipe, Start("none"), "head")
    folder = tree_of_runs["carci"]
    with pytest.raises(ValueError, match=r"choose --phase head or middle\+head"):
        find.choose_phase(recipe, Start(str(folder), parent=Run.open(folder)), "all")


@pytest.mark.parametrize(("images", "measured"), [(8, True), (0, False)])
def test_the_loss_is_read_by_a_probe_unless_there_is_none(few_phantoms, recipe, tmp_path, images, measured):
    result = sweep(few_phantoms, replace(recipe, lr_probe=images), tmp_path, Start("none"))
    assert ("probe" in result) == measured
    assert result["suggestion"] == pytest.approx(result["divergence"] / 10)


def test_the_least_sweep_is_read(few_phantoms, recipe, tmp_path):
    result = sweep(few_phantoms, replace(recipe, lr_steps=20, lr_bounds=(1e-5, 10.0)), tmp_path, Start("none"))
    assert 10 <= len(result["rates"]) <= 20


def test_a_step_is_an_update_where_batches_are_computed_in_parts(few_phantoms, recipe, tmp_path):
    result = sweep(few_phantoms, replace(recipe, accumulate=2), tmp_path, Start("none"))
    low, high = recipe.lr_bounds
    planned = np.geomspace(low, high, 2 * recipe.lr_steps)
    np.testing.assert_allclose(result["rates"], planned[: len(result["rates"])])
