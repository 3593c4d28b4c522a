"""Intervals that are known from elsewhere, and what any of them must hold."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest

from bach_keras.evidence.correlation import Design
from bach_keras.evidence.intervals import (
    accuracy_interval,
    balanced_interval,
    difference_interval,
    effective_n,
    groups_of,
)
from benchmarks.intervals import PATIENTS, Set

BACH = Set(PATIENTS)


def answers(right, n):
    return np.arange(n) < right


@pytest.mark.parametrize(
    ("right", "n", "interval"),
    # Newcombe (1998), Statistics in Medicine 17, Table I, method 3.
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0000, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
@pytest.mark.parametrize("groups", ["unknown", "one image each"])
def test_where_each_image_is_its_own_patient_the_interval_is_wilsons_as_published(right, n, interval, groups):
    names = [""] * n if groups == "unknown" else [f"p{index}" for index in range(n)]
    assert accuracy_interval(answers(right, n), names) == pytest.approx(interval, abs=5e-5)


def test_a_difference_of_independent_images_ends_where_the_score_test_rejects():
    # Tango (1998): the share of images that only the second has right is the likeliest one, given the difference.
    n, only_first, only_second = 50, 9, 3
    first = answers(30 + only_first, n)
    second = answers(30, n) | (np.arange(n) >= n - only_second)

    def score(difference):
        def unlikely(share):
            agree = 1 - 2 * share - difference
            counts = ((only_first, share + difference), (only_second, share), (n - only_first - only_second, agree))
            return -sum(count * np.log(chance) for count, chance in counts)

        bounds = (max(0, -difference) + 1e-9, (1 - difference) / 2 - 1e-9)
        share = minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-10}).x
        variance = n * (2 * share + difference - difference**2)
        return (only_first - only_second - n * difference) ** 2 / variance

    for end in difference_interval(first, second, [""] * n):
        assert score(end) == pytest.approx(1.959963984540054**2, rel=1e-4)
    low, high = difference_interval(first, second, [""] * n)
    assert low < (only_first - only_second) / n < high


def test_two_equal_systems_differ_by_what_their_images_leave_open():
    right, z2, n = answers(80, 100), 1.959963984540054**2, 100
    assert difference_interval(right, right, [""] * n) == pytest.approx([-z2 / (n + z2), z2 / (n + z2)])


def test_bachs_validation_images_say_as_much_as_eight():
    assert (BACH.n, BACH.patients) == (132, 24)
    assert sorted(np.bincount(BACH.patient))[::-1] == [36, 18, 14, 11, 9, 6, 4, 4, 4, *[2] * 11, *[1] * 4]
    assert effective_n(BACH.groups) == pytest.approx(132**2 / 2150)
    assert f"{effective_n(BACH.groups):.1f}" == "8.1"


def test_images_of_unknown_patients_are_groups_of_their_own():
    assert (groups_of(["", "", "a", "a"]), effective_n(["", ""])) == (3, 2)


@pytest.mark.parametrize("right", [0, 1, 66, 95, 131, 132])
@pytest.mark.parametrize("groups", [["p"] * 132, BACH.groups, ["a"] * 66 + ["b"] * 66, [""] * 132])
def test_an_interval_holds_the_accuracy_and_stays_within_0_and_1(right, groups):
    for order in (1, -1):
        of = answers(right, 132)[::order]
        low, high = accuracy_interval(of, groups)
        assert 0 <= low <= right / 132 <= high <= 1
        assert 0.02 < high - low < 0.9
        balanced = np.mean([of[BACH.label == label].mean() for label in range(4)])
        low, high = balanced_interval(of, BACH.label, groups)
        assert 0 <= low <= balanced + 1e-12
        assert balanced - 1e-12 <= high <= 1


def test_answers_that_go_by_patient_widen_the_interval_and_mixed_ones_do_not():
    groups = np.repeat([f"p{index}" for index in range(20)], 10)
    together, mixed = np.arange(200) < 100, np.arange(200) % 2 == 0
    (low, high), (low_mixed, high_mixed) = accuracy_interval(together, groups), accuracy_interval(mixed, groups)
    assert high - low > 2.5 * (high_mixed - low_mixed)
    assert [low_mixed, high_mixed] == pytest.approx(binomtest(100, 200).proportion_ci(method="wilson"), abs=0.01)


def test_one_patient_says_little_however_many_the_images():
    low, high = accuracy_interval(answers(36, 36), ["a"] * 36)
    assert (low < 0.4, high) == (True, 1)


def test_an_interval_does_not_depend_on_the_order_of_the_images():
    rng = np.random.default_rng(0)
    right, order = rng.random(132) < 0.8, rng.permutation(132)
    groups, other = np.array(BACH.groups), rng.random(132) < 0.7
    expected = difference_interval(right, other, groups, BACH.label)
    assert difference_interval(right[order], other[order], groups[order], BACH.label[order]) == pytest.approx(expected)
    expected = balanced_interval(right, BACH.label, groups)
    assert balanced_interval(right[order], BACH.label[order], groups[order]) == pytest.approx(expected)


def test_one_class_is_balanced_as_it_is():
    right = answers(7, 10)
    assert balanced_interval(right, np.zeros(10), [""] * 10) == pytest.approx(accuracy_interval(right, [""] * 10))


def test_the_intervals_hold_the_truth_as_often_as_they_say():
    """A small part of the published table: a few hundred draws with a known accuracy."""
    design = Design(BACH.groups)
    for rho in (0.0, 0.2, 0.5):
        low, high = design.share_interval(BACH.right(np.random.default_rng(1), 600, [0.72] * 4, rho))
        assert 0.905 <= ((low <= 0.72) & (high >= 0.72)).mean() <= 0.985
