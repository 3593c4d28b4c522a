import json
import shutil

import pytest

from bach_keras import temperatures
from bach_keras.members import load_member, load_members, uncalibrated_member
from bach_keras.run_folder import Run
from tests import trainings


@pytest.fixture
def run(tree_of_runs, tmp_path):
    return shutil.copytree(tree_of_runs["carci"], tmp_path / "carci")


def fit(run, temperature=2.0, spec="", views=1):
    """Write a temperature as `calibrate` does, and return it."""
    spec = spec or str(run)
    entry = {"temperature": temperature, "digest": uncalibrated_member("carci", spec).digest, "n": 40, "groups": 20}
    weights = "model" if spec == str(run) else f"snapshots/{spec.rpartition('/')[2]}"
    temperatures.write(Run.open(run), weights, views, entry)
    return entry


def test_a_run_that_was_not_calibrated_has_temperature_one(run):
    member = load_member("carci", str(run))
    assert (member.temperature, member.fitted_views) == (1.0, None)


def test_a_temperature_is_read_for_the_views_that_it_was_fitted_on_only(run):
    fit(run, 2.0)
    fit(run, 3.0, views=8)
    assert load_member("carci", str(run)).temperature == 2.0
    found = load_member("carci", str(run), views=8)
    assert (found.temperature, found.fitted_views) == (3.0, 8)
    assert load_member("carci", str(run), views=24).temperature == 1.0
    assert [member.temperature for member in load_members({"carci": (str(run),)}, views=8)] == [3.0]


def test_a_snapshot_has_a_temperature_of_its_own(run):
    snapshot = f"{run}/snapshots/best"
    fit(run, 2.0)
    assert load_member("carci", snapshot).temperature == 1.0
    fit(run, 4.0, spec=snapshot)
    assert load_member("carci", snapshot).temperature == 4.0
    assert load_member("carci", f"{snapshot}.weights.h5").temperature == 4.0
    assert load_member("carci", str(run)).temperature == 2.0


def test_a_new_fit_takes_the_place_of_the_old(run):
    fit(run, 2.0)
    fit(run, 5.0)
    assert load_member("carci", str(run)).temperature == 5.0
    temperatures.remove(Run.open(run), "model", 1)
    assert load_member("carci", str(run)).temperature == 1.0
    temperatures.remove(Run.open(run), "model", 1)  # of what is not there


def test_a_config_json_that_names_a_temperature_is_obeyed_until_one_is_fitted(run):
    settings = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(settings | {"temperature": 1.5}))
    assert load_member("carci", str(run)).temperature == 1.5
    fit(run, 2.0)
    assert load_member("carci", str(run)).temperature == 2.0


def test_a_temperature_of_other_weights_is_refused_and_a_new_fit_drops_all_of_theirs(run):
    fit(run, 2.0)
    fit(run, 3.0, views=8)
    path = run / "calibration.json"
    path.write_text(path.read_text().replace(uncalibrated_member("carci", str(run)).digest, 64 * "0"))
    with pytest.raises(ValueError, match=r"calibration\.json was fitted to other weights than those of model"):
        load_member("carci", str(run))
    fit(run, 4.0)
    assert load_member("carci", str(run)).temperature == 4.0
    assert load_member("carci", str(run), views=8).temperature == 1.0


def test_a_run_trained_again_has_no_old_temperature(few_phantoms, tmp_path):
    planned = trainings.job(tmp_path / "carci", data=few_phantoms)
    trainings.create(planned)
    (tmp_path / "carci" / "calibration.json").write_text("{}")
    trainings.create(planned, overwrite=True)
    assert not (tmp_path / "carci" / "calibration.json").exists()


ENTRY = {"temperature": 2.0, "digest": 64 * "a", "n": 40, "groups": 20}
TAMPERED = {
    "model": [1], "model.1": 3, "model.2": ENTRY, "model.1.temperature": 0, "model.1.digest": "a", "model.1.n": "40",
    "model.1.groups": None, "model.1.before": [],
}  # fmt: skip


@pytest.mark.parametrize("place", TAMPERED)
def test_a_field_that_is_wrong_is_named(run, place):
    values, *path = {"model": {"1": dict(ENTRY)}}, *place.split(".")
    inner = values
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = TAMPERED[place]
    (run / "calibration.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"calibration\.json is not what `calibrate` writes \(") as raised:
        load_member("carci", str(run))
    assert place in str(raised.value)


def test_a_file_that_is_not_ours_is_replaced_by_a_new_fit(run):
    (run / "calibration.json").write_text("no JSON")
    with pytest.raises(ValueError, match=r"calibration\.json is not what `calibrate` writes \(it is not JSON"):
        load_member("carci", str(run))
    fit(run, 2.0)
    assert load_member("carci", str(run)).temperature == 2.0
