import pytest

from bach_keras.serving.slide.shares import tissue_shares
from datasets.images.scale import Scale
from tests.serving.slide import made


def test_the_area_of_a_class_is_that_of_the_tissue_in_its_tiles():
    tiles = [made.tile(0, 0, "normal", 0.5), made.tile(100, 0, "benign", 1.0), made.tile(200, 0, "normal", 0.25)]
    found = tissue_shares(made.slide(tiles, scale=Scale(10.0, "told")))
    # A tile is 1 mm wide and high.
    assert found["tissue_mm2"] == pytest.approx(1.75)
    assert found["classes"]["normal"] == {
        "tiles": 2, "tissue_mm2": pytest.approx(0.75), "share": pytest.approx(0.75 / 1.75), "unsure_mm2": None,
    }  # fmt: skip
    assert found["classes"]["invasive"]["share"] == 0


def test_tissue_that_several_tiles_show_counts_once():
    tiles = [made.tile(x, y, "benign") for x in (0, 50, 100) for y in (0, 30)]
    found = tissue_shares(made.slide(tiles, 200, 130, step=50))
    assert found["tissue_mm2"] == pytest.approx(200 * 130 / 1e6)


def test_an_overlap_is_split_evenly_between_the_classes():
    found = tissue_shares(made.slide([made.tile(0, 0, "benign"), made.tile(50, 0, "invasive")]))
    assert [found["classes"][name]["share"] for name in ("benign", "invasive")] == [0.5, 0.5]


def test_tiles_with_an_error_are_counted_apart():
    found = tissue_shares(made.slide([made.tile(0, 0, "benign"), made.tile(100, 0, None, 0.5)]))
    assert found["tissue_mm2"] == pytest.approx(0.01)
    assert found["failed"] == {"tiles": 1, "tissue_mm2": pytest.approx(0.005)}


def test_of_a_calibrated_tree_the_unsure_area_is_told():
    rows = [made.row("benign", unsure=True), made.row("benign", unsure=False)]
    found = tissue_shares(made.slide([made.tile(100 * place, 0, row) for place, row in enumerate(rows)]))
    assert found["classes"]["benign"]["unsure_mm2"] == pytest.approx(0.01)
    assert found["classes"]["normal"]["unsure_mm2"] == 0


@pytest.mark.parametrize("tiles", [[], [made.tile(0, 0, None)], [made.tile(0, 0, "benign", 0.0)]])
def test_without_answered_tissue_there_are_no_shares(tiles):
    found = tissue_shares(made.slide(tiles))
    assert found["tissue_mm2"] == 0
    assert {each["share"] for each in found["classes"].values()} == {None}


def test_the_table_says_that_it_is_of_fields_and_not_of_a_tumour():
    assert "no area of a tumour" in tissue_shares(made.slide([]))["caveat"]
