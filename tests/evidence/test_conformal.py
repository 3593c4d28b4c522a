import numpy as np
import pytest
from scipy.stats import binom

from bach_keras.evidence.conformal import (
    doubt_threshold,
    least_probability,
    patients_needed,
    rounded_down,
    sets,
)
from datasets.errors import UserError


def test_the_threshold_of_single_images_is_the_quantile_by_hand():
    # Nine patients of an image each: 0.8 of ten must be above, so the eighth of them from the top.
    p_true = np.array([0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.3, 0.1])
    assert least_probability(p_true, np.arange(9), 0.8) == 0.3
    assert least_probability(p_true[::-1], np.arange(9), 0.8) == 0.3
    assert least_probability(p_true, np.arange(9), 0.7) == 0.5


def test_a_patient_of_many_images_weighs_as_much_as_one_of_a_single_image():
    # Patient 0 has four images and a weight of 1/10 like the others: 1/40 an image.
    p_true = np.array([0.05, 0.06, 0.07, 0.08, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    patients = np.array([0, 0, 0, 0, *range(1, 9)])
    # All eight others together are 0.8.
    assert least_probability(p_true, patients, 0.8) == 0.2
    assert least_probability(p_true, np.arange(12), 0.8) == 0.06  # twelve patients: the eleventh from the top


def test_too_few_patients_for_a_level_are_refused_and_counted():
    assert {level: patients_needed(level) for level in (0.8, 0.9, 0.95)} == {0.8: 9, 0.9: 19, 0.95: 39}
    p_true = np.linspace(0.1, 0.9, 24)
    assert least_probability(p_true, np.arange(24), 0.9) == p_true[1]
    with pytest.raises(UserError, match=r"Sets of 95% are out of reach with 24 patients.*at least 39"):
        least_probability(p_true, np.arange(24), 0.95)


def test_the_doubt_threshold_is_the_quantile_by_hand():
    confidence = np.array([0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
    found = doubt_threshold(confidence, np.arange(10), 0.2)
    assert found == 0.5
    assert np.mean(confidence < found) == 0.2
    # The first two are one patient's, so together they weigh a ninth.
    patients = np.array([0, 0, *range(1, 9)])
    assert doubt_threshold(confidence, patients, 0.12) == 0.5
    assert doubt_threshold(confidence, patients, 0.1) == 0.4


def test_answers_that_are_equally_sure_are_unsure_together_or_not_at_all():
    assert doubt_threshold(np.full(10, 0.7), np.arange(10), 0.2) == 0.7


def test_a_threshold_is_written_so_that_rounding_keeps_the_image_that_chose_it():
    for threshold in (0.3, 0.123456789, 1.0, 1e-9, 0.0):
        written = rounded_down(threshold)
        assert 0 <= written <= threshold
        assert threshold - written < 3e-6
        assert np.float32(threshold) - np.float32(5e-7) >= np.float32(written) or written == 0


def test_the_likeliest_class_is_in_its_set_though_it_reaches_no_threshold():
    given = np.array([[0.4, 0.3, 0.2, 0.1], [0.96, 0.02, 0.01, 0.01]])
    assert sets(given, 0.5).tolist() == [[True, False, False, False], [True, False, False, False]]
    assert sets(given, 0.25).tolist() == [[True, True, False, False], [True, False, False, False]]


SIZES = (36, 18, 14, 11, 9, 6, 5, 4, 3, 3, 3, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1)


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_images_of_new_patients_are_covered_as_often_as_the_level_says(level):
    """Patients of BACH's validation images, alike within a patient: a new patient's image is covered on average."""
    rng = np.random.default_rng(0)
    trials, covered = 4000, 0
    patients = np.repeat(np.arange(len(SIZES)), SIZES)
    for _ in range(trials):
        of_patient = rng.normal(0, 1, len(SIZES) + 1)
        p_true = 1 / (1 + np.exp(-1 - of_patient[patients] - rng.normal(0, 1, len(patients))))
        new = 1 / (1 + np.exp(-1 - of_patient[-1] - rng.normal()))
        covered += new >= rounded_down(least_probability(p_true, patients, level))
    # Split conformal covers from the level to the level + 1 / (patients + 1).
    low, high = binom.interval(0.999, trials, level)[0], binom.interval(0.999, trials, level + 2 / len(SIZES))[1]
    assert low <= covered <= high
