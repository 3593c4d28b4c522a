"""The leak audit finds planted copies of phantoms, and nothing else."""

import csv
import logging

import numpy as np
import pytest

from benchmarks.audit_scores import plant, turned_back
from datasets import audit, phantom
from datasets.audit import ORIENTATIONS, Pair, Structure, correlate, find_pairs, hash_distances, write_pairs
from datasets.labels import CLASSES


@pytest.mark.parametrize(
    ("kind", "share"),
    [("plain", 0.3), ("re-stained", 0), ("mirrored", 0), ("turned 90", 0), ("recompressed", 0), ("all", 0.3)],
)
def test_planted_copies_are_found_and_placed_among_other_images(kind, share):
    images = {}
    for number, label in enumerate(CLASSES):
        first, second, orientation = plant(phantom.draw(label, 400 + number, 0), kind, share)
        images |= {f"train/{label}": first, f"validation/{label}": second}
        images |= {f"{part}/other {label}": phantom.draw(label, 300 + number, turn)
                   for turn, part in enumerate(("train", "validation"))}  # fmt: skip
    pairs = find_pairs(images.items(), {name: name.partition("/")[0] for name in images})
    assert sorted((pair.first, pair.second) for pair in pairs) == sorted(
        (f"train/{label}", f"validation/{label}") for label in CLASSES
    )
    for pair in pairs:
        assert (pair.first_split, pair.second_split, pair.orientation) == ("train", "validation", orientation)
        height, width = images[pair.first].shape[:2]
        assert (pair.down, pair.right) == pytest.approx((share * height, share * width), abs=3)
        assert pair.overlap == pytest.approx((1 - share) ** 2, abs=0.02)
        assert audit.MIN_CORRELATION < pair.correlation < 1.001
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


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_hashes_agree_in_the_orientation_that_brings_the_second_onto_the_first(orientation):
    image = phantom.draw("invasive", 403, 0)
    first, second = Structure.of(image), Structure.of(turned_back(image, orientation))
    distances = hash_distances(first, second)
    assert ORIENTATIONS[distances.argmin()] == orientation
    assert distances.min() <= 1
    assert np.sort(distances)[1] > audit.MAX_DISTANCE // 2


@pytest.mark.parametrize("shapes", [((12, 16), (12, 16)), ((12, 16), (16, 12)), ((9, 16), (12, 10))])
def test_the_correlation_is_that_of_the_shared_part_at_the_best_shift(shapes):
    rng = np.random.default_rng(1)
    first, second = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    found = correlate(first, second)
    best = max(_correlations(first, second))
    assert (found.correlation, found.down, found.right) == (pytest.approx(best[0], abs=1e-5), *best[1:3])
    assert found.overlap == pytest.approx(best[3])


def _correlations(first, second):
    """Yield (correlation, down, right, overlap) by slices, for every shift that leaves enough in common."""
    for down in range(1 - second.shape[0], first.shape[0]):
        for right in range(1 - second.shape[1], first.shape[1]):
            one = first[max(down, 0) : down + second.shape[0], max(right, 0) : right + second.shape[1]]
            two = second[max(-down, 0) : first.shape[0] - down, max(-right, 0) : first.shape[1] - right]
            overlap = one.size / min(first.size, second.size)
            if overlap >= audit.MIN_OVERLAP:
                yield (one * two).sum() / np.sqrt((one**2).sum() * (two**2).sum()), down, right, overlap


def test_pairs_are_written_as_csv(tmp_path):
    pair = Pair("a.tif", "train", "b.tif", "test", 0.913, "mirrored", -12, 40, 0.471)
    for pairs in ([pair], []):
        write_pairs(tmp_path / "pairs.csv", pairs)
        with (tmp_path / "pairs.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [[*row.values()] for row in rows] == [[str(value) for value in vars(one).values()] for one in pairs]
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.csv"]
