"""Two systems on the same images."""

import time

import numpy as np
import pytest
from scipy.stats import binomtest

from bach_keras.evidence.intervals import accuracy_interval, difference_interval
from bach_keras.evidence.paired import paired
from datasets.errors import UserError

CLASSES = ("normal", "benign", "insitu", "invasive")


def rows(right, group=lambda index: f"p{index // 5}"):
    found = []
    for index, is_right in enumerate(right):
        truth = CLASSES[index % 4]
        label = truth if is_right else CLASSES[(index + 1) % 4]
        image = {"filename": f"{index:04d}.png", "group": group(index), "digest": f"{index:x}"}
        found.append({**image, "truth": truth, "label": label})
    return found


@pytest.fixture
def rights():
    rng = np.random.default_rng(0)
    return rng.random(60) < 0.9, rng.random(60) < 0.7


def test_the_counts_differences_and_intervals_are_those_of_the_answers(rights):
    one, other = rights
    found = paired(rows(one), rows(other))
    assert (found["n"], found["groups"], found["effective_n"]) == (60, 12, 12)
    assert found["first_only"] == (one & ~other).sum()
    assert found["second_only"] == (other & ~one).sum()
    assert sum(found[name] for name in ("both_right", "first_only", "second_only", "both_wrong")) == 60
    groups = [row["group"] for row in rows(one)]
    assert found["first"]["accuracy_ci95"] == accuracy_interval(one, groups)
    assert found["difference"] == pytest.approx(one.mean() - other.mean())
    assert found["difference_ci95"] == difference_interval(one, other, groups)
    truth = np.arange(60) % 4
    each = [one[truth == label].mean() - other[truth == label].mean() for label in range(4)]
    assert found["balanced_difference"] == pytest.approx(np.mean(each))
    assert found["balanced_difference_ci95"] == difference_interval(one, other, groups, truth)


def test_mcnemars_p_is_exact_and_says_what_it_takes_for_granted(rights):
    found = paired(*map(rows, rights))
    changed = found["first_only"] + found["second_only"]
    assert found["mcnemar_p"] == binomtest(found["first_only"], changed, 0.5).pvalue
    assert "takes the images as independent" in found["mcnemar_note"]


def test_the_order_of_the_rows_does_not_matter_and_that_of_the_systems_turns_the_sign(rights):
    one, other = map(rows, rights)
    found, turned = paired(one, other[::-1]), paired(other, one)
    assert found == paired(one, other)
    assert turned["difference"] == -found["difference"]
    low, high = found["difference_ci95"]
    assert turned["difference_ci95"] == pytest.approx([-high, -low])


def test_a_system_does_not_differ_from_itself(rights):
    found = paired(rows(rights[0]), rows(rights[0]))
    low, high = found["difference_ci95"]
    assert (found["difference"], found["mcnemar_p"], low) == (0, 1, pytest.approx(-high))
    assert 0 < high < 0.5


def test_one_image_is_compared():
    found = paired(rows([True]), rows([False]))
    assert (found["difference"], found["mcnemar_p"]) == (1, 1)
    low, high = found["difference_ci95"]
    assert -1 <= low < 0.9 < high <= 1


def changed(field, value):
    found = rows([True] * 4)
    found[2][field] = value
    return found


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (changed("digest", "ff"), r"disagree on the pixels of '0002\.png'"),
        (changed("truth", "benign"), r"disagree on the true class of '0002\.png'"),
        (changed("group", "p9"), r"disagree on the patient of '0002\.png'"),
        (changed("filename", "0001.png"), r"The second names '0001\.png' more than once"),
        (rows([True] * 9), r"Only the second has '0004.png', '0005.png', '0006.png' and 2 more images: evaluate both"),
        (rows([True] * 3), r"Only the first has '0003\.png': evaluate both"),
        ([], r"Only the first has '0000.png', '0001.png', '0002.png' and 1 more image:"),
        (changed("filename", "\x1b[2J"), r"Only the first has '0002\.png'"),
    ],
)
def test_what_are_not_the_same_images_is_refused_by_name(second, sentence):
    with pytest.raises(UserError, match=sentence):
        paired(rows([True] * 4), second)


def test_nothing_is_not_compared():
    with pytest.raises(UserError, match="no image in either"):
        paired([], [])


def test_a_thousand_rows_are_compared_within_a_second():
    rng = np.random.default_rng(0)
    one, other = rows(rng.random(1000) < 0.9), rows(rng.random(1000) < 0.8)
    paired(one[:9], other[:9])  # scipy is imported
    start = time.process_time()
    paired(one, other)
    assert time.process_time() - start < 1
