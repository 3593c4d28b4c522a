import copy
import json

import numpy as np
import pytest

from bach_keras.evidence.ranges import FALSE_ALARMS, Ranges, fit, warnings
from bach_keras.fields import FieldError

COUNT, PATIENTS = 1000, 250


def drawn(count, seed=0, patients=PATIENTS):
    draws = np.random.default_rng(seed)
    of_patient = draws.normal(0, 0.05, (patients, 6))
    groups = [f"p{number % patients}" for number in range(count)]
    stains = 0.5 + of_patient[np.arange(count) % patients] + draws.normal(0, 0.02, (count, 6))
    blur, tissue = draws.normal(0.5, 0.02, count), draws.uniform(0.3, 1, count)
    measured = [
        {"blur": blur[at], "tissue": tissue[at], "stain": stains[at].tolist(), "um_per_pixel": 0.42, "side": 1536}
        for at in range(count)
    ]
    return measured, groups, draws.gamma(9, 1, count)


@pytest.fixture(scope="module")
def ranges():
    return fit(*drawn(COUNT))


def warned(measured, ranges):
    return [each["name"] for each in warnings(measured, ranges)]


def usual(**other):
    return {"blur": 0.5, "tissue": 0.7, "stain": [0.5] * 6, "features": 9.0, "side": 1536} | other


def test_all_measures_together_are_false_alarms_for_the_share_that_is_wanted(ranges):
    measured, _, distances = drawn(2000, seed=1, patients=500)
    alarms = [bool(warned({**each, "features": far}, ranges)) for each, far in zip(measured, distances, strict=True)]
    assert 0.6 * FALSE_ALARMS < np.mean(alarms) < 1.6 * FALSE_ALARMS
    assert 0.9 * FALSE_ALARMS < ranges.false_alarms <= FALSE_ALARMS
    assert 98 < ranges.percentile < 100
    assert (ranges.n, ranges.groups) == (COUNT, PATIENTS)


OUTSIDE = {
    "blur": {"blur": 0.9}, "blur of noise": {"blur": 0.1}, "tissue": {"tissue": 0.01},
    "stain": {"stain": [0.5, 0.5, 2, 0.5, 0.5, 0.5]}, "features": {"features": 99.0},
    "scale": {"scale": {"value": 1.0, "source": "a tag"}}, "symmetry": {"symmetry": 0.875},
}  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_lies_outside_is_named_with_its_value_and_the_range(ranges, name):
    assert warnings(usual(), ranges) == []
    (found,) = warnings(usual(**OUTSIDE[name]), ranges)
    assert found["name"] == name.split()[0]
    low, high = found["range"]
    assert not low <= found["value"] <= high
    assert found.get("source") == ("a tag" if name == "scale" else None)
    json.dumps(found, allow_nan=False)


def test_more_tissue_a_nearer_image_and_a_usual_stain_are_no_warnings(ranges):
    assert warned(usual(tissue=1.0, features=0.0, symmetry=1.0), ranges) == []


@pytest.mark.parametrize(("value", "side", "is_far"), [
    (0.42, 1536, False), (0.34, 1536, False), (0.5, 1536, False), (0.3, 1536, True), (0.6, 1536, True),
    (0.21, 3072, False), (0.42, 3072, True),
])  # fmt: skip
def test_a_scale_is_far_by_what_the_network_sees_of_it(ranges, value, side, is_far):
    measured = usual(side=side, scale={"value": value, "source": "a tag"})
    assert warned(measured, ranges) == (["scale"] if is_far else [])


def test_nothing_is_said_of_a_scale_where_that_of_training_is_unknown():
    measured, groups, _ = drawn(40)
    ranges = fit([each | {"um_per_pixel": None} for each in measured], groups)
    assert (ranges.um_per_pixel, ranges.field) == (None, None)
    assert warned(usual(scale={"value": 9.0, "source": "a tag"}, features=1e6), ranges) == []


def test_an_image_unlike_those_of_other_patients_counts_however_many_its_own_patient_has():
    measured, groups, _ = drawn(200, patients=20)
    odd = [{**measured[0], "blur": 0.8} for _ in range(30)]
    ranges = fit(measured + odd, groups + ["odd"] * 30)
    assert ranges.false_alarms >= 30 / 230
    assert ranges.percentile == 100


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_images_or_images_all_alike_have_ranges_too(count):
    measured, _, _ = drawn(1)
    ranges = fit(measured * count, [""] * count, [1.0] * count)
    assert warned(measured[0] | {"features": 1.0}, ranges) == []
    assert "stain" in warned(measured[0] | {"stain": [0.0] * 6}, ranges)


def test_ranges_are_read_back_from_a_card_as_they_were(ranges):
    written = json.dumps(ranges.in_card(), allow_nan=False)
    read = Ranges.of(json.loads(written))
    assert json.dumps(read.in_card()) == written
    assert warnings(usual(blur=0.9), read) == warnings(usual(blur=0.9), ranges)


def test_a_card_holds_the_percentiles_of_each_measure_and_an_older_one_need_not(ranges):
    measured, _, distances = drawn(COUNT)
    assert ranges.percentiles["features"][50] == pytest.approx(np.median(distances), rel=0.01)
    assert ranges.percentiles["blur"][100] == pytest.approx(max(each["blur"] for each in measured), rel=1e-5)
    older = {name: value for name, value in ranges.in_card().items() if name != "percentiles"}
    assert Ranges.of(older).percentiles is None


WRONG = {
    "ranges.percentiles.blur must be a list of 101": lambda card: card["percentiles"].update(blur=[0.5] * 100),
    "ranges.n must be": lambda card: card.update(n=0),
    "ranges.bounds.blur is missing": lambda card: card["bounds"].pop("blur"),
    "ranges.bounds.features must be": lambda card: card["bounds"].update(features=[0]),
    "range of tissue must not end": lambda card: card["bounds"].update(tissue=[1, 0]),
    "range of field must not end": lambda card: card.update(field=[2, 1]),
    "ranges.precision must be": lambda card: card.update(precision=[[1]]),
    "ranges.colours must be": lambda card: card.update(colours=[float("nan")] * 6),
    "ranges.um_per_pixel must be": lambda card: card.update(um_per_pixel=0),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_field_of_a_card_is_named(ranges, words):
    card = copy.deepcopy(json.loads(json.dumps(ranges.in_card())))
    WRONG[words](card)
    with pytest.raises(FieldError, match=words):
        Ranges.of(card)
