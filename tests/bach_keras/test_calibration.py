import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from bach_keras.calibration import Calibration
from bach_keras.hierarchy import Hierarchy, Member
from bach_keras.network.head import Classifier
from bach_keras.preprocess import View
from bach_keras.tree import NODES
from tests.calibrations import calibration
from tests.few_phantoms import TINY

SIZE = 32


@pytest.fixture(scope="module")
def members():
    return [Member(name, Classifier(SIZE, backbone=TINY, seed=0), View(SIZE), source=f"runs/{name}") for name in NODES]


def images(count=6):
    rng = np.random.default_rng(0)
    levels = np.linspace(20, 230, count)[:, None, None, None]
    return np.clip(levels + rng.normal(0, 25, (count, 40, 48, 3)), 0, 255).astype(np.uint8)


def between(values) -> float:
    """A number that half of these lie below."""
    ordered = np.sort(np.unique(values))
    return float(ordered[len(ordered) // 2 - 1 : len(ordered) // 2 + 1].mean())


@pytest.fixture(scope="module")
def thresholds(members):
    """Thresholds with answers on both sides."""
    plain = Hierarchy(members).images(images())["probabilities"].numpy()
    return calibration(members, between(plain.max(axis=1)), between(plain))


def test_an_answer_below_the_threshold_is_unsure_and_a_class_from_the_level_on_is_in_the_set(members, thresholds):
    answer = Hierarchy(members, calibration=thresholds).images(images())
    given = answer["probabilities"].numpy()
    unsure, inside = given.max(axis=1) < thresholds.threshold, given >= thresholds.levels["0.9"]
    inside[np.arange(len(given)), given.argmax(axis=1)] = True
    assert answer["unsure"].numpy().tolist() == unsure.tolist()
    assert answer["set"].numpy().tolist() == inside.tolist()
    assert 0 < unsure.sum() < len(given)
    assert 0 < inside.sum() < inside.size


def test_calibrated_answers_are_otherwise_those_of_the_tree(members, thresholds):
    plain, answer = (Hierarchy(members, calibration=each).images(images()) for each in (None, thresholds))
    assert set(answer) - set(plain) == {"unsure", "set"}
    for name, value in plain.items():
        np.testing.assert_array_equal(answer[name], value)


@pytest.mark.parametrize("method", ["images", "routed", "with_uncalibrated"])
def test_a_batch_of_none_has_no_doubt(members, thresholds, method):
    answer = getattr(Hierarchy(members, calibration=thresholds), method)(images()[:0])
    assert answer["unsure"].shape == (0,)
    assert answer["set"].shape == (0, 4)


def soft_and_routed(group, norbe, invis, levels):
    """Both doubts of one tree's nodes, float [N, 2] each."""
    made = calibration([], levels[0], levels[1])
    group, norbe, invis = (np.float32(each) for each in (group, norbe, invis))
    soft = made.doubt(tf.constant(np.concatenate([group[:, :1] * norbe, group[:, 1:] * invis], axis=1)))
    chosen = np.repeat(np.eye(2)[group.argmax(axis=1)], 2, axis=1)
    routed = made.routed_doubt(tf.constant(group), tf.constant(np.float32(np.hstack([norbe, invis]) * chosen)))
    return soft, routed


def test_routed_products_and_the_bound_of_the_other_specialist_by_hand():
    group, norbe, invis = [[0.9, 0.1], [0.55, 0.45]], [[0.8, 0.2], [0.7, 0.3]], [[0.5, 0.5], [0.5, 0.5]]
    _, routed = soft_and_routed(group, norbe, invis, (0.5, 0.15))
    # Products .72 and .18, bound .1; products .385 and .165, bound .45.
    assert routed["unsure"].numpy().tolist() == [False, True]
    assert routed["set"].numpy().tolist() == [[True, True, False, False], [True, True, True, True]]


def test_a_routed_set_holds_the_soft_one_and_a_soft_doubt_is_a_routed_one():
    rng = np.random.default_rng(0)
    pairs = [np.stack([share, 1 - share], axis=1) for share in rng.beta(0.7, 0.7, (3, 20_000))]
    for levels in ((0.5, 0.1), (0.7, 0.45), (0.3, 0.9), (0.99, 0.01)):
        soft, routed = soft_and_routed(*pairs, levels)
        assert not (soft["set"].numpy() & ~routed["set"].numpy()).any()
        assert not (soft["unsure"].numpy() & ~routed["unsure"].numpy()).any()


def test_uncalibrated_pairs_are_those_at_temperature_one_from_one_pass(members, thresholds):
    warm = [replace(member, temperature=3.0) for member in members]
    tree = Hierarchy(warm, calibration=calibration(warm))
    answer, plain = tree.with_uncalibrated(images()), Hierarchy(members).images(images())
    for name in NODES:
        np.testing.assert_allclose(answer[f"{name}_uncalibrated"], plain[name], atol=1e-6)
    for name, value in tree.images(images()).items():
        np.testing.assert_array_equal(answer[name], value)


def test_logits_are_those_of_each_member(members):
    second = replace(members[0], model=Classifier(SIZE, backbone=TINY, seed=1), weight=2.0, temperature=2.0)
    logits = Hierarchy([*members, second]).logits(images())
    assert {name: each.shape for name, each in logits.items()} == {
        "carci": (2, 6, 1, 2), "norbe": (1, 6, 1, 2), "invis": (1, 6, 1, 2)
    }  # fmt: skip
    alone = Hierarchy([second, *members[1:]]).logits(images())
    np.testing.assert_allclose(logits["carci"][1], alone["carci"][0], atol=1e-5)


def test_the_digest_follows_everything_that_an_answer_depends_on(members, thresholds):
    other = Classifier(SIZE, backbone=TINY, seed=0)
    changed = [
        [replace(members[0], model=other), *members[1:]],
        [replace(members[0], weight=2.0), *members[1:], members[0]],
        [replace(members[0], temperature=2.0), *members[1:]],
        [replace(member, view=View(SIZE, "macenko")) for member in members],
    ]
    other.get_layer("head.dense2").set_weights([np.ones((512, 2), np.float32), np.zeros(2, np.float32)])
    trees = [Hierarchy(each) for each in (members, *changed)]
    trees += [Hierarchy(members, calibration=each) for each in (thresholds, replace(thresholds, threshold=0.1))]
    trees += [Hierarchy(members, "bfloat16")]
    digests = [tree.digest for tree in trees]
    assert len(set(digests)) == len(digests)
    renamed = [replace(member, source="elsewhere") for member in members]
    assert Hierarchy(renamed).digest == digests[0]
    assert all(len(each) == 64 for each in digests)


def test_images_that_chose_the_thresholds_are_known_to_have_chosen(members, thresholds):
    assert "chose.png" in Hierarchy(members, calibration=thresholds).provenance.chosen_on


def test_a_calibration_of_other_members_is_refused_by_name(members, thresholds):
    def refused(given, words):
        with pytest.raises(ValueError, match=words):
            Hierarchy(given, calibration=thresholds)

    other = replace(members[1], model=Classifier(SIZE, backbone=TINY, seed=5), source="runs/other")
    other.model.get_layer("head.dense2").set_weights([np.ones((512, 2), np.float32), np.zeros(2, np.float32)])
    refused([members[0], other, members[2]], "made for other members: runs/other is not one of its members of norbe")
    refused([*members, other], "runs/other is not one of its members")
    refused([*members, members[0]], "it has 3 members, and these are 4")
    refused([replace(members[0], weight=0.5), *members[1:]], r"runs/carci had the weight 1 and now has 0\.5")
    refused([replace(members[0], temperature=2.0), *members[1:]], "runs/carci had the temperature 1 and now has 2")


def test_a_member_that_is_left_out_is_named(members):
    second = replace(members[0], model=Classifier(SIZE, backbone=TINY, seed=7), weight=2.0, source="runs/second")
    made = calibration([*members, second])
    with pytest.raises(ValueError, match="made for other members: runs/second is missing"):
        Hierarchy(members, calibration=made)


def test_a_temperature_of_other_views_is_refused(members):
    fitted = [replace(members[0], fitted_views=8), *members[1:]]
    with pytest.raises(ValueError, match="runs/carci was fitted on 8 views of each image and not on 1"):
        Hierarchy(fitted)


def test_a_calibration_of_other_views_is_refused(members):
    with pytest.raises(ValueError, match="made for 8 views of each image and not for 1: give --views 8"):
        Hierarchy(members, calibration=calibration(members, views=8))
    with pytest.raises(ValueError, match="made for 1 view of each image and not for 8: give --views 1"):
        calibration(members).check_tree(members, 8)


def test_a_file_gives_back_what_was_written(members, thresholds, tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(thresholds.as_json()))
    assert replace(Calibration.read(path), name=thresholds.name) == thresholds
    Hierarchy(members, calibration=Calibration.read(path))


FIELDS = [
    ("kind", "system"), ("kind", ...), ("levels", []), ("levels", {"0.9": 0.1}), ("levels", {"0.8": 0.1, "0.9": 2}),
    ("levels", {"0.8": 0.1, "0.9": float("nan")}), ("levels", {"0.8": 0.1, "0.9": 0.2}),
    ("unsure", 0.5), ("unsure", {"share": 0.2}), ("n", 0), ("n", "40"),
    ("unsure", {"share": 0.2, "threshold": -1}), ("groups", None), ("views", 2), ("views", True), ("views", "1"),
    ("config", ""), ("chosen_on", "a"), ("chosen_on", ...), ("members", []), ("members", [1, 2, 3]),
    ("pixels", ["a"]), ("pixels", {"a": 1}), ("pixels", {"a": "0123"}),
    ("members", [{"node": "carci"}] * 3), ("protocol", 3), ("split", ...),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), FIELDS, ids=[f"{name}-{str(value)[:30]}" for name, value in FIELDS])
def test_a_field_of_a_calibration_that_is_wrong_is_named(thresholds, tmp_path, field, value):
    values = thresholds.as_json() | {field: value}
    if value is ...:
        del values[field]
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=rf"calibration\.json is not what `calibrate` writes \({field}"):
        Calibration.read(path)
