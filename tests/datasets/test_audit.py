"""The leak audit finds planted copies of phantoms across a split, and nothing else."""

import csv
import functools
import logging

import numpy as np
import pytest

from benchmarks.audit_scores import Change, plant, restain
from datasets import phantom
from datasets.audit import Pair, find_pairs, write_pairs
from datasets.duplicates.alignment import MIN_CORRELATION
from datasets.labels import CLASSES

drawn = functools.cache(lambda label, patient: phantom.draw(label, patient, 0))


@pytest.mark.parametrize(
    ("change", "orientation"),
    [
        (Change(shift=0.3), "as it is"),
        (Change(colour=restain), "as it is"),
        (Change(mirrored=True), "mirrored"),
        (Change(angle=90), "turned 270"),
        (Change(quality=30), "as it is"),
        (Change(shift=0.3, colour=restain, quality=30, angle=90, mirrored=True), "turned 90 and mirrored"),
        (Change(angle=7), "turned 353"),
        (Change(scale=1.1), "as it is"),
        (Change(scale=0.75), "as it is"),
        (Change(angle=133, scale=1.35, mirrored=True), "turned 133 and mirrored"),
    ],
)
def test_planted_copies_are_found_and_placed_among_other_images(change, orientation):
    images = {}
    for number, label in enumerate(CLASSES):
        first, second = plant(drawn(label, 400 + number), change)
        images |= {f"train/{label}": first, f"validation/{label}": second}
        part = ("train", "validation")[number % 2]
        images[f"{part}/other {label}"] = drawn(label, 300 + number)
    pairs = find_pairs(images.items(), {name: name.partition("/")[0] for name in images})
    assert sorted((pair.first, pair.second) for pair in pairs) == sorted(
        (f"train/{label}", f"validation/{label}") for label in CLASSES
    )
    for pair in pairs:
        assert (pair.first_split, pair.second_split, pair.orientation) == ("train", "validation", orientation)
        assert (pair.scale, pair.mirrored) == (pytest.approx(1 / change.scale, rel=0.005), change.mirrored)
        assert pair.angle == pytest.approx((change.angle if change.mirrored else -change.angle) % 360, abs=0.5) or (
            not change.angle and pair.angle > 359.5
        )
        if change.scale == 1 and not change.angle % 90:
            height, width = images[pair.first].shape[:2]
            assert (pair.down, pair.right) == pytest.approx((change.shift * height, change.shift * width), abs=3)
            assert pair.overlap == pytest.approx((1 - change.shift) ** 2, abs=0.02)
        assert MIN_CORRELATION < pair.correlation < 1.001
    assert pairs == sorted(pairs, key=lambda pair: -pair.correlation)


def test_other_images_of_the_same_patients_are_not_reported():
    # Patients 48 and 184 are the most alike of all phantoms, much fat.
    drawn = {(patient, index): phantom.draw(CLASSES[patient % 4], patient, index)
             for patient in (1, 3, 48, 184) for index in range(phantom.IMAGES_PER_PATIENT)}  # fmt: skip
    split = {f"{patient}/{index}": "train" if index < 3 else "validation" for patient, index in drawn}
    assert find_pairs(zip(split, drawn.values(), strict=True), split) == []


def test_only_different_splits_are_compared_and_each_two_once(caplog):
    image = phantom.draw("benign", 401, 0)
    split = {"a": "train", "b": "train", "c": "validation", "d": "test"}
    caplog.set_level(logging.INFO)
    pairs = find_pairs(((name, image) for name in split), split)
    assert sorted((pair.first, pair.second) for pair in pairs) == [
        ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d"),
    ]  # fmt: skip
    assert caplog.messages[-1] == "compared 1 images of validation with 1 of test: 5 pairs so far"


def test_blank_images_are_not_pairs():
    rng = np.random.default_rng(0)
    blank = [np.full((288, 384, 3), 250, np.uint8), rng.integers(245, 251, (288, 384, 3), np.uint8)]
    images = {"a": blank[0], "b": blank[0], "c": blank[1], "d": blank[1][::-1]}
    assert find_pairs(images.items(), {"a": "train", "b": "test", "c": "train", "d": "test"}) == []


def test_pairs_are_written_as_csv(tmp_path):
    pair = Pair("a.tif", "train", "b.tif", "test", 0.913, "turned 7 and mirrored", -12, 40, 0.471, 6.8, 1.125)
    for pairs in ([pair], []):
        write_pairs(tmp_path / "pairs.csv", pairs)
        with (tmp_path / "pairs.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [[*row.values()] for row in rows] == [[str(value) for value in vars(one).values()] for one in pairs]
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.csv"]
