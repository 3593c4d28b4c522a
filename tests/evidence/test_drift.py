"""The tests of drift: they find what differs, and alarm as seldom as they promise where nothing does."""

import numpy as np
import pytest
from scipy import stats

from bach_keras.evidence import drift
from bach_keras.evidence.drift import Known, Tally
from bach_keras.evidence.intervals import accuracy_interval
from bach_keras.evidence.ranges import percentiles

UNIT = np.linspace(0, 1, 10_001)


def tally(values):
    found = Tally(UNIT)
    for part in np.array_split(np.asarray(values, float), 3):
        found.add(part)
    return found


def test_a_distribution_is_compared_as_scipy_compares_its_values():
    rng = np.random.default_rng(0)
    new, known = rng.beta(2, 5, 400), rng.beta(2, 4, 900)
    p = tally(new).p_value(400, Known(percentiles(known), 900))
    exact = stats.ks_2samp(new, known, method="asymp").pvalue
    # Percentiles leave up to one percent of the known distribution open, and then the difference is not counted.
    assert exact < p < 50 * exact < 0.05


def test_values_that_are_all_one_are_compared_too():
    ones = Known((1.0,) * 101, 200)
    assert tally(np.ones(100)).p_value(100, ones) == 1
    assert tally(np.full(100, 0.9)).p_value(100, ones) < 1e-6
    assert tally(np.ones(100)).p_value(100, Known((0.5,) * 101, 200)) < 1e-6


def test_nan_does_not_count_and_what_lies_beyond_the_edges_counts_at_them():
    found = tally([np.nan, -3, 0.5, 7])
    assert found.n == 3
    assert found.quantile(1) == 1


def test_the_median_has_the_interval_of_its_order_statistics():
    values = np.random.default_rng(1).random(2000)
    low, high = tally(values).median_interval(2000)
    exact = stats.quantile_test(values, q=0.0, p=0.5).confidence_interval(0.95)
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=0.005)


def test_a_share_has_wilsons_interval():
    right = np.arange(60) < 7
    assert drift.share_interval(7 / 60, 60) == pytest.approx(
        accuracy_interval(right, [f"p{place}" for place in range(60)]), abs=1e-4
    )


@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
def test_a_share_like_the_known_one_does_not_differ(share):
    assert drift.share_p_value(share, 500, share, 100, both=True) == pytest.approx(1)


def test_only_a_larger_share_differs_unless_both_are_asked_for():
    assert drift.share_p_value(0.0, 500, 0.2, 500) == 1
    assert drift.share_p_value(0.0, 500, 0.2, 500, both=True) < 1e-6
    assert drift.share_p_value(0.2, 500, 0.0, 500) < 1e-6


def test_a_million_images_do_not_differ_by_what_a_few_known_ones_leave_open():
    assert drift.share_p_value(0.07, 1e6, 0.05, 100) > 0.1
    assert drift.mix_p_value([27e4, 25e4, 24e4, 24e4], 1e6, [25, 25, 25, 25], 100) > 0.5


def test_a_mix_of_few_images_is_compared_by_simulation_and_its_class_may_be_missing():
    assert drift.mix_p_value([30, 0, 0, 0], 30, [5, 5, 5, 5], 20) < 0.001
    assert drift.mix_p_value([8, 7, 8, 7], 30, [5, 5, 5, 5], 20) > 0.5
    assert drift.mix_p_value([30], 30, [20], 20) == 1


def test_p_values_are_corrected_as_holm_has_it():
    assert drift.holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06], nan_ok=True)
    assert drift.holm([]) == []


def test_images_of_the_same_kind_alarm_as_seldom_as_the_level_says():
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(200):
        known, new = rng.random(300), rng.random(100)
        p = tally(new).p_value(100, Known(percentiles(known), 300))
        alarms += p < drift.LEVEL
    assert alarms <= 16  # 200 x .05 = 10, and two standard deviations
