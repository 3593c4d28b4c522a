"""Scores compared with scikit-learn's and with what was computed by hand."""

import numpy as np
import pytest
from sklearn import metrics

from bach_keras.evidence.metrics import KEYS, in_words, scores

NAMES = ("normal", "benign", "insitu", "invasive")


@pytest.fixture(params=[2, 4])
def table(request):
    """Two hundred answers with probabilities, of eight images a patient."""
    rng = np.random.default_rng(request.param)
    probabilities = rng.dirichlet(np.ones(request.param), 200)
    truth = [rng.choice(request.param, p=row) for row in probabilities]
    return np.array(truth), probabilities, NAMES[: request.param], [f"p{index // 8}" for index in range(200)]


def exactly(value):
    return pytest.approx(value, abs=1e-12, rel=0)


def test_scores_equal_scikit_learns(table):
    truth, probabilities, names, _ = table
    answer, score = probabilities.argmax(axis=1), scores(*table)
    assert score["accuracy"] == exactly(metrics.accuracy_score(truth, answer))
    assert score["balanced_accuracy"] == exactly(metrics.balanced_accuracy_score(truth, answer))
    assert list(score["sensitivity"].values()) == exactly(metrics.recall_score(truth, answer, average=None))
    rest = [metrics.recall_score(truth != index, answer != index) for index in range(len(names))]
    assert list(score["specificity"].values()) == exactly(rest)
    assert list(score["f1"].values()) == exactly(metrics.f1_score(truth, answer, average=None))
    assert score["kappa"] == exactly(metrics.cohen_kappa_score(truth, answer, weights="quadratic"))
    ranked = [metrics.roc_auc_score(truth == index, probabilities[:, index]) for index in range(len(names))]
    assert score["auroc"] == exactly(np.mean(ranked))
    assert score["log_loss"] == exactly(metrics.log_loss(truth, probabilities))
    assert score["brier"] == exactly(metrics.brier_score_loss(truth, probabilities))
    assert score["confusion_matrix"] == metrics.confusion_matrix(truth, answer).tolist()
    assert (score["absent"], score["why"]) == ([], {})


def test_a_score_has_these_keys(table):
    assert tuple(scores(*table)) == KEYS


def test_brier_of_two_classes_is_between_0_and_1_and_of_more_between_0_and_2():
    assert scores([1], [[1, 0]], NAMES[:2], ["a"])["brier"] == 1
    assert scores([1], [[1, 0, 0]], NAMES[:3], ["a"])["brier"] == 2


def test_calibration_errors_by_hand():
    # Confidences .62 and .68 (one right of two), .95 (right) and 1 (wrong).
    rows = [[0.62, 0.38], [0.68, 0.32], [0.05, 0.95], [0.0, 1.0]]
    score = scores([0, 1, 1, 0], rows, NAMES[:2], "abcd")
    assert score["calibration_error"] == exactly(2 / 4 * (0.65 - 0.5) + 2 / 4 * (0.975 - 0.5))
    first, second = score["reliability"]
    assert first == exactly({"low": 0.6, "high": 0.7, "n": 2, "confidence": 0.65, "accuracy": 0.5})
    assert second == exactly({"low": 0.9, "high": 1.0, "n": 2, "confidence": 0.975, "accuracy": 0.5})
    # The first class: .0 and .05 (one of two is of it), .62 and .68 (one of two); the second is its mirror.
    by_class = 2 / 4 * abs(0.025 - 0.5) + 2 / 4 * abs(0.65 - 0.5)
    assert score["classwise_calibration_error"] == exactly(by_class)


def test_each_class_has_its_own_bins():
    rows = [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]]
    score = scores([0, 1], rows, NAMES[:3], "ab")
    # Bin by bin: the first class .5 apart and .1 apart, the second .3 against .5, the third .2 and .6 apart from none.
    by_class = [(0.5 + 0.1) / 2, abs(0.3 - 0.5), (0.2 + 0.6) / 2]
    assert score["classwise_calibration_error"] == exactly(np.mean(by_class))


@pytest.mark.parametrize(("confidence", "low"), [(0.6, 0.6), (0.7, 0.7), (0.7999, 0.7), (0.9, 0.9), (1.0, 0.9)])
def test_a_bin_has_its_lower_edge_and_the_last_has_both(confidence, low):
    (found,) = scores([0], [[confidence, 1 - confidence]], NAMES[:2], ["a"])["reliability"]
    assert found["low"] == low


def test_float32_that_sums_to_1_within_rounding_scores_without_a_warning(table):
    truth, probabilities, names, groups = table
    found = scores(truth, probabilities.astype(np.float32), names, groups)
    assert found["log_loss"] == pytest.approx(scores(*table)["log_loss"], abs=1e-6)


def test_a_probability_of_zero_costs_what_scikit_learn_says():
    rows = np.array([[1, 0], [0.5, 0.5]], np.float32)
    found = scores([1, 0], rows, NAMES[:2], "ab")["log_loss"]
    assert found == exactly(metrics.log_loss([1, 0], rows.astype(float)))
    assert found == pytest.approx((36.04 + 0.69) / 2, abs=0.01)


def test_what_an_absent_class_leaves_unsaid_is_none_and_says_why():
    rows = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7]]
    score = scores([0, 1, 1], rows, NAMES, "abc")
    assert score["absent"] == ["insitu", "invasive"]
    assert score["balanced_accuracy"] == (1 + 0.5) / 2
    assert score["sensitivity"] == {"normal": 1, "benign": 0.5, "insitu": None, "invasive": None}
    assert score["f1"]["invasive"] is score["auroc"] is None
    assert score["specificity"]["invasive"] == pytest.approx(2 / 3)
    assert set(score["why"]) == {"sensitivity", "f1", "auroc"}
    assert "No image is of class insitu and invasive" in score["why"]["auroc"]


def test_one_image_is_scored():
    score = scores([0], [[0.9, 0.1]], NAMES[:2], ["a"])
    assert (score["n"], score["groups"], score["effective_n"], score["accuracy"]) == (1, 1, 1, 1)
    assert score["kappa"] is score["auroc"] is score["specificity"]["normal"] is None
    assert set(score["why"]) == {"sensitivity", "specificity", "f1", "auroc", "kappa"}
    low, high = score["accuracy_ci95"]
    assert 0 <= low < 0.5 < high <= 1


def test_every_none_has_its_reason_and_every_reason_its_none(table):
    truth, probabilities, names, groups = table
    for chosen in (truth == 0, truth > 0, truth >= 0, np.arange(200) == 7):
        score = scores(truth[chosen], probabilities[chosen], names, np.array(groups)[chosen])
        none = {key for key, value in score.items() if value is None}
        none |= {key for key, value in score.items() if isinstance(value, dict) and None in value.values()}
        assert none == set(score["why"])


def test_images_of_unknown_patients_count_as_their_own_and_are_said():
    score = scores([0, 0, 1, 1], [[0.9, 0.1]] * 4, NAMES[:2], ["a", "a", "", ""])
    assert (score["groups"], score["effective_n"]) == (3, 16 / 6)
    assert score["why"]["groups"].startswith("The patients of 2 of the images are unknown")


@pytest.mark.parametrize(
    ("truth", "rows", "groups", "sentence"),
    [
        ([], np.zeros((0, 2)), [], "no image to score"),
        ([0], [[0.5, 0.5]], ["a", "b"], "Of 1 images there are 2 groups"),
        ([0], [[0.2, 0.3, 0.5]], ["a"], "3"),
        ([2], [[0.5, 0.5]], ["a"], "not one of the 2"),
        ([0], [[np.nan, 0.5]], ["a"], "sum to 1"),
        ([0], [[1.5, -0.5]], ["a"], "sum to 1"),
        ([0], [[0.3, 0.3]], ["a"], "sum to 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(truth, rows, groups, sentence):
    with pytest.raises(ValueError, match=sentence):
        scores(truth, rows, NAMES[:2], groups)


SCORE = {"accuracy": 0.95, "accuracy_ci95": [0.8885, 0.978], "n": 100, "groups": 24, "effective_n": 8.096, "why": {}}
INTERVAL = "0.950 (95 % interval 0.888 to 0.978"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "n = 100 images of 24 patients, effective n 8.1"),
        ({"groups": 1, "effective_n": 1.0}, "n = 100 images of 1 patient, effective n 1.0"),
        ({"groups": 100, "effective_n": 100.0}, "n = 100 images of 100 patients, effective n 100.0"),
        ({"groups": 100, "why": {"groups": "Unknown."}}, "n = 100 images, patients unknown"),
        ({"why": {"groups": "Some."}}, "n = 100 images of at most 24 patients, effective n at most 8.1"),
    ],
)
def test_an_accuracy_in_words_names_the_images_and_the_patients_behind_it(changes, words):
    assert in_words(SCORE | changes) == f"{INTERVAL}, {words})"


def test_a_score_from_before_patients_were_counted_claims_none():
    older = {name: SCORE[name] for name in ("accuracy", "accuracy_ci95", "n")}
    assert in_words(older) == f"{INTERVAL}, n = 100 images, patients unknown)"
