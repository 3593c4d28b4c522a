import numpy as np
import pytest

from bach_keras.evidence.metrics import confusion, in_words, scores, wilson


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
def test_wilson_as_published(right, n, interval):
    assert wilson(right, n) == pytest.approx(interval, abs=5e-5)


def test_wilson_of_none_and_all():
    assert wilson(0, 10) == pytest.approx([0, 0.2775], abs=5e-5)
    assert wilson(10, 10) == pytest.approx([0.7225, 1], abs=5e-5)
    low, high = wilson(3, 10)
    assert wilson(7, 10) == pytest.approx([1 - high, 1 - low])


def test_confusion_has_a_row_for_each_true_class():
    matrix = confusion([0, 0, 1, 2, 2], [0, 1, 1, 0, 0], 4)
    np.testing.assert_array_equal(matrix, [[1, 1, 0, 0], [0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]])


def test_scores_of_an_unbalanced_matrix():
    score = scores(np.array([[8, 2], [15, 15]]))
    assert score["n"] == 40
    assert score["accuracy"] == pytest.approx(23 / 40)
    assert score["accuracy_ci95"] == wilson(23, 40)
    assert score["balanced_accuracy"] == pytest.approx((0.8 + 0.5) / 2)
    (low_a, high_a), (low_b, high_b) = wilson(8, 10), wilson(15, 30)
    below = ((0.8 - low_a) ** 2 + (0.5 - low_b) ** 2) ** 0.5 / 2
    above = ((high_a - 0.8) ** 2 + (high_b - 0.5) ** 2) ** 0.5 / 2
    assert score["balanced_accuracy_ci95"] == pytest.approx([0.65 - below, 0.65 + above])


def test_a_class_that_does_not_occur_is_left_out_of_the_balance():
    score = scores(np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]]))
    assert score["balanced_accuracy"] == pytest.approx((0.75 + 0.5) / 2)


def test_one_class_is_balanced_as_it_is():
    score = scores(np.array([[7, 3], [0, 0]]))
    assert score["balanced_accuracy_ci95"] == pytest.approx(score["accuracy_ci95"])


def test_intervals_stay_within_0_and_1():
    perfect, useless = scores(np.diag([5, 5])), scores(np.array([[0, 5], [5, 0]]))
    assert perfect["balanced_accuracy_ci95"][1] == pytest.approx(1)
    assert 0.5 < perfect["balanced_accuracy_ci95"][0] < 1
    assert useless["balanced_accuracy_ci95"][0] == pytest.approx(0)
    assert 0 < useless["balanced_accuracy_ci95"][1] < 0.5


def test_nothing_to_score():
    with pytest.raises(ValueError, match="no image"):
        scores(np.zeros((4, 4), int))


def test_in_words():
    # 95 of 100: 0.8882 to 0.9785.
    assert in_words(scores(np.array([[50, 0], [5, 45]]))) == "0.950 (95 % interval 0.888 to 0.978, n = 100)"
