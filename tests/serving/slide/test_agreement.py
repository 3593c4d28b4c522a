import json

import pytest

from bach_keras.evidence.intervals import accuracy_interval
from bach_keras.serving.slide.agreement import agreement, wilson
from bach_keras.serving.slide.regions import read_regions
from datasets.images.scale import Scale
from tests.serving.slide import made


@pytest.fixture
def regions(tmp_path):
    def make(*boxes, width=400, height=200):
        """Take left, top, right, bottom and class of each region."""
        features = [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [[[a, b], [c, b], [c, d], [a, d], [a, b]]]},
                "properties": {"classification": {"name": said, "color": [0, 0, 0]}} if said else {},
            }
            for a, b, c, d, said in boxes
        ]
        (tmp_path / "regions.json").write_text(json.dumps(features))
        return read_regions(tmp_path / "regions.json", width, height)

    return make


# The columns of the slide are normal, benign, insitu and invasive, each 100 pixels wide.
SLIDE = made.stripes()


def test_regions_agree_whose_label_has_most_of_their_area(regions):
    found = agreement(
        regions((0, 0, 100, 100, "Normal"), (190, 0, 300, 100, "DCIS"), (300, 0, 400, 9, "Benign")), SLIDE
    )
    assert [row["label"] for row in found["each"]] == ["normal", "insitu", "invasive"]
    by_region = found["classes"]["by_region"]
    assert (by_region["n"], by_region["agreed"], by_region["agreement"]) == (3, 2, 2 / 3)
    assert by_region["agreement_ci95"] == accuracy_interval([True, True, False], ["", "", ""])


def test_by_area_a_region_counts_by_its_area_and_not_by_one_label(regions):
    found = agreement(regions((0, 0, 100, 100, "Normal"), (190, 0, 300, 100, "DCIS")), SLIDE)
    by_area = found["classes"]["by_area"]
    assert by_area["agreement"] == pytest.approx(20_000 / 21_000)
    assert by_area["mm2"] == pytest.approx(0.021)
    assert by_area["effective_n"] == pytest.approx(21_000**2 / (10_000**2 + 11_000**2))
    low, high = by_area["agreement_ci95"]
    assert low < 20 / 21 < high <= 1


def test_one_region_tells_little_however_large_it_is(regions):
    low, high = agreement(regions((0, 0, 100, 200, "normal")), SLIDE)["classes"]["by_area"]["agreement_ci95"]
    assert low < 0.25
    assert high == 1


def test_an_area_under_many_tiles_counts_once(regions):
    tiles = [made.tile(x, 0, "benign") for x in range(0, 301, 10)]
    found = agreement(regions((100, 0, 300, 100, "benign")), made.slide(tiles, step=10))
    assert found["classes"]["by_area"]["mm2"] == pytest.approx(0.02)


def test_a_class_that_only_says_tumour_is_compared_as_carcinoma(regions):
    found = agreement(regions((200, 0, 400, 100, "Tumor"), (0, 0, 100, 100, "Benign")), SLIDE)
    assert found["classes"]["by_region"]["n"] == 1
    assert found["classes"]["by_region"]["agreed"] == 0
    assert found["carcinoma"]["by_region"]["n"] == 2
    assert found["carcinoma"]["by_area"]["agreement"] == 1
    assert found["compared"] == 2


def test_carcinoma_agrees_where_its_classes_together_have_most_of_a_region(regions):
    # Half of the slide is not carcinoma, in equal parts; of the rest, each class has less than those together.
    found = agreement(regions((100, 0, 400, 100, "Tumor"), (0, 0, 310, 100, "Tumor")), SLIDE)
    assert [row["label"] for row in found["each"]] == ["benign", "normal"]
    assert found["carcinoma"]["by_region"]["agreed"] == 1


def test_the_areas_of_labels_in_each_class_are_told(regions):
    found = agreement(regions((0, 0, 150, 100, "normal"), (0, 100, 100, 200, "normal")), SLIDE)
    assert found["mm2"] == {
        "normal": {"normal": pytest.approx(0.02), "benign": pytest.approx(0.005), "insitu": 0, "invasive": 0}
    }


def test_regions_without_a_known_class_or_an_answered_tile_are_not_compared(regions):
    slide = made.slide([made.tile(0, 0, "normal"), made.tile(100, 0, None)])
    some = regions((0, 0, 50, 50, None), (0, 0, 50, 50, "Stroma"), (110, 0, 150, 50, "DCIS"), (300, 0, 350, 50, "DCIS"))
    found = agreement(some, slide)
    assert (found["regions"], found["compared"]) == (4, 0)
    assert found["classes"] is found["carcinoma"] is None
    assert [row["label"] for row in found["each"]] == ["normal", "normal", None, None]
    assert any("Stroma" in note for note in found["notes"])


def test_areas_follow_the_scale(regions):
    slide = made.stripes(scale=Scale(0.5, "told"))
    assert agreement(regions((0, 0, 100, 100, "normal")), slide)["each"][0]["mm2"] == pytest.approx(0.0025)


def test_regions_smaller_than_a_tile_are_counted(regions):
    found = agreement(regions((0, 0, 50, 50, "normal"), (0, 0, 200, 200, "normal")), SLIDE)
    assert found["smaller_than_a_tile"] == 1


def test_a_node_alone_is_compared_on_its_two_classes(regions):
    slide = made.slide([made.tile(0, 0, made.node_row("carcinoma")), made.tile(100, 0, made.node_row())])
    found = agreement(regions((0, 0, 100, 100, "DCIS"), (100, 0, 200, 100, "Tumor")), slide)
    assert found["classes"]["by_region"]["agreed"] == 1
    assert found["carcinoma"] is None


def test_a_slide_without_tiles_has_nothing_to_compare(regions):
    found = agreement(regions((0, 0, 100, 100, "DCIS")), made.slide([]))
    assert found["classes"] is None
    assert found["each"][0]["answered_mm2"] == 0


def test_what_is_found_can_be_written_as_json(regions):
    found = agreement(regions((0, 0, 100, 100, "DCIS"), (0, 0, 90, 90, None)), SLIDE)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("right", [[True] * 5, [False, True, True], [False]])
def test_the_interval_of_equal_units_is_this_projects_own(right):
    share = sum(right) / len(right)
    assert wilson(share, len(right)) == pytest.approx(accuracy_interval(right, [""] * len(right)), abs=1e-6)
