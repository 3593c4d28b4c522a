import numpy as np
import pytest
from scipy.special import expit

from bach_keras.evidence.calibrate import (
    JUDGED,
    fit,
    fit_checked,
    patient_weights,
    probabilities,
)
from bach_keras.evidence.correlation import codes
from bach_keras.tree import NORBE, TEMPERATURES
from datasets.errors import UserError


def drawn(temperature, patients=40, images=10, seed=0):
    """Logits [N, 1, 2] that are too large by a temperature, targets that follow the probabilities, and patients."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 2, patients * images)
    targets = (rng.random(len(margin)) < expit(margin)).astype(int)
    logits = temperature * np.stack([-margin / 2, margin / 2], axis=1)
    return logits[:, None], targets, np.repeat([f"p{number}" for number in range(patients)], images)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_temperature_that_logits_were_multiplied_by_is_found(temperature):
    logits, targets, groups = drawn(temperature, patients=400)
    assert fit(logits, targets, codes(groups)) == pytest.approx(temperature, rel=0.08)


def test_a_temperature_is_that_of_scikit_learn():
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression

    logits, targets, groups = drawn(3.0, patients=4000)
    margin = (logits[:, 0, 1] - logits[:, 0, 0])[:, None]
    plain = LogisticRegression(C=np.inf).fit(margin, targets)
    plain.coef_, plain.intercept_ = np.ones((1, 1)), np.zeros(1)
    theirs = CalibratedClassifierCV(FrozenEstimator(plain), method="temperature").fit(margin, targets)
    ours = probabilities(logits, fit(logits, targets, codes(groups)))
    # Ours is drawn towards 1.5 a little by its prior, which among thousands of patients counts for little.
    np.testing.assert_allclose(ours, theirs.predict_proba(margin), atol=2e-3)


def test_answers_that_are_all_right_do_not_make_the_network_certain():
    targets = np.arange(60) % 2
    logits = np.where(np.arange(2) == targets[:, None], 1.0, -1.0)[:, None]
    few, many = (fit(logits[:n], targets[:n], np.arange(n)) for n in (10, 60))
    assert TEMPERATURES[0] < many < few < 1
    assert probabilities(logits, many).max() < 0.99999


def test_few_patients_change_a_temperature_less_than_many():
    found = [fit(*drawn(4.0, patients=n)[:2], codes(drawn(4.0, patients=n)[2])) for n in (6, 400)]
    assert 1 < found[0] < found[1]


def test_saturated_logits_are_fitted_too():
    logits, targets, groups = drawn(1000.0)
    assert (probabilities(logits).max(axis=1) == 1).mean() > 0.9
    found = fit(logits, targets, codes(groups))
    assert found == pytest.approx(TEMPERATURES[1], rel=0.01)
    logits, targets, groups = drawn(50.0, patients=2000)
    assert fit(logits, targets, codes(groups)) == pytest.approx(50, rel=0.3)


def test_each_patient_weighs_the_same_and_an_unknown_one_is_alone():
    patients = codes(["a", "a", "a", "b", "", ""])
    assert len(set(patients)) == 4
    np.testing.assert_allclose(patient_weights(patients), [1 / 12, 1 / 12, 1 / 12, 1 / 4, 1 / 4, 1 / 4])
    assert len(set(codes(["0", "", "1"]))) == 3


def test_a_patient_of_many_images_does_not_decide_alone():
    logits, targets, groups = drawn(1.0, patients=30, images=4)
    many = np.full((200, 1, 2), [2.0, -2.0])  # of one patient, all answered wrongly
    logits, targets = np.concatenate([logits, many]), np.concatenate([targets, np.ones(200, int)])
    groups = [*groups, *["many"] * 200]
    by_patient = fit(logits, targets, codes(groups))
    by_image = fit(logits, targets, np.arange(len(targets)))
    assert by_patient < 3 < by_image


def test_views_are_averaged_as_probabilities():
    logits = np.array([[[2.0, 0.0], [0.0, 4.0]]])
    expected = (expit([2.0, -2.0]) + expit([-4.0, 4.0])) / 2
    np.testing.assert_allclose(probabilities(logits), [expected])
    rng = np.random.default_rng(0)
    logits, targets, groups = drawn(3.0, patients=100)
    several = logits + rng.normal(0, 0.5, (len(logits), 8, 2))
    weights = patient_weights(codes(groups))
    found = fit(several, targets, codes(groups))
    losses = {t: -np.log(probabilities(several, t)[np.arange(len(targets)), targets]) @ weights for t in (1, found, 9)}
    assert losses[found] < min(losses[1], losses[9])


def test_patients_held_out_of_the_fit_judge_it():
    logits, targets, groups = drawn(4.0)
    found = fit_checked(logits, targets, groups, NORBE.classes)
    assert (found["n"], found["groups"], len(found["fold_temperatures"])) == (400, 40, 5)
    assert set(found["before"]) == set(found["after"]) == set(JUDGED)
    for name in ("log_loss", "brier", "calibration_error"):
        assert found["after"][name] < found["before"][name]
    assert found["after"]["calibration_error"] < 0.05
    assert min(found["fold_temperatures"]) < found["temperature"] < max(found["fold_temperatures"])


def test_no_patient_is_judged_by_a_temperature_that_it_helped_to_fit(monkeypatch):
    from bach_keras.evidence import calibrate

    seen = []
    monkeypatch.setattr(calibrate, "fit", lambda logits, targets, weights: seen.append(len(targets)) or 1.0)
    logits, targets, groups = drawn(1.0, patients=6, images=10)
    fit_checked(logits, targets, groups, NORBE.classes)
    assert sorted(seen) == [40, 50, 50, 50, 50, 60]


@pytest.mark.parametrize(
    ("patients", "images", "words"),
    [(5, 20, "100 images of 5 patients"), (14, 2, "28 images of 14 patients"), (1, 1, "1 image of 1 patient")],
)
def test_too_few_images_or_patients_are_refused_with_the_reason(patients, images, words):
    logits, targets, groups = drawn(1.0, patients, images)
    with pytest.raises(UserError, match=rf"at least 30 validation images of at least 6 patients.*{words}: so few"):
        fit_checked(logits, targets, groups, NORBE.classes)


def test_images_of_one_class_are_refused():
    logits, targets, groups = drawn(1.0)
    with pytest.raises(UserError, match="none is benign"):
        fit_checked(logits, 0 * targets, groups, NORBE.classes)


def test_the_split_of_bach_by_patient_can_be_fitted():
    """Of its validation images norbe has 71 of 7 patients, the fewest."""
    logits, targets, _ = drawn(2.0, patients=71, images=1)
    groups = np.repeat(list("abcdefg"), [21, 18, 11, 9, 6, 4, 2])
    assert fit_checked(logits, targets, groups, NORBE.classes)["groups"] == 7
