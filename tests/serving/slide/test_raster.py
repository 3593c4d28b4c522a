import numpy as np

from bach_keras.serving.slide.raster import LONGEST, raster
from tests.serving.slide import made


def test_probabilities_sum_to_1_where_tiles_were_answered_and_are_0_elsewhere():
    found = raster(made.slide([made.tile(0, 0, "benign"), made.tile(200, 100, "invasive"), made.tile(300, 0, None)]))
    sums = found.probabilities.sum(axis=-1)
    expected = np.zeros((200, 400))
    expected[:100, :100] = expected[100:, 200:300] = 1
    whole = np.kron(sums, np.ones((found.downsample,) * 2))[:200, :400]
    near = found.downsample  # the sides of tiles lie within pixels of the map
    assert np.abs(whole - expected).mean() < 8 * near / 400
    assert set(np.round(sums.ravel(), 5).tolist()) == {0.0, 1.0}


def test_a_map_without_overlap_has_the_label_of_each_tile():
    slide = made.stripes(step=96)
    found = raster(slide)
    rows, columns = found.at(slide, 200, 400)
    labels = found.labels[rows, columns]
    # Away from the sides of tiles.
    assert [labels[50, x] for x in (50, 150, 250, 350)] == [0, 1, 2, 3]
    assert (labels >= 0).all()


def test_where_tiles_overlap_their_answers_are_averaged():
    one, other = made.row("normal", 0.9), made.row("invasive", 0.8)
    found = raster(made.slide([made.tile(0, 0, one), made.tile(50, 0, other)], 150, 100, step=50))
    values = found.probabilities[0] @ np.eye(4)
    mean = [(a + b) / 2 for a, b in zip(one["probabilities"].values(), other["probabilities"].values(), strict=True)]
    column = 75 // found.downsample
    np.testing.assert_allclose(values[column], mean, atol=1e-6)
    np.testing.assert_allclose(values[0], list(one["probabilities"].values()), atol=1e-6)


def test_a_pixel_that_two_tiles_share_has_more_of_the_one_that_covers_more_of_it():
    one, other = made.row("normal", 0.9), made.row("invasive", 0.9)
    # The map's pixels are 10 wide, and the tiles meet at 53.
    slide = made.slide([made.tile(-47, 0, one), made.tile(53, 0, other)], 160, 100, step=160)
    found = raster(slide)
    assert found.downsample == 10
    weights = np.array([0.3, 0.7])
    both = np.array([list(each["probabilities"].values()) for each in (one, other)])
    np.testing.assert_allclose(found.probabilities[0, 5], weights @ both, atol=1e-6)


def test_the_last_pixels_are_answered_though_they_reach_beyond_the_slide():
    found = raster(made.slide([made.tile(0, 0, "benign")], 100, 100, step=640))
    assert found.downsample == 40
    assert found.answered.shape == (3, 3)
    assert found.answered.all()


def test_most_of_the_answers_decide_whether_a_place_is_unsure():
    sure, unsure = made.row("benign", unsure=False), made.row("benign", unsure=True)
    slide = made.slide([made.tile(0, 0, sure), made.tile(100, 0, unsure)], 200, 100, step=96)
    assert [bool(raster(slide).unsure[0, x // 6]) for x in (10, 110, 190)] == [False, True, True]


def test_what_carci_says_of_carcinoma_is_a_map_of_its_own():
    tiles = [made.tile(0, 0, made.row("insitu", 0.8, routed=True)), made.tile(100, 0, made.row("benign", 0.7))]
    found = raster(made.slide(tiles, 300, 100, step=96))
    np.testing.assert_allclose(found.carcinoma[0, [5, 25, 45]], [0.8, 0.3, 0], atol=1e-6)
    assert raster(made.slide([made.tile(0, 0, made.node_row("benign", "norbe"))])).carcinoma is None


def test_a_place_failed_if_no_other_tile_answered_there():
    tiles = [made.tile(0, 0, None), made.tile(48, 0, "benign"), made.tile(200, 0, None)]
    found = raster(made.slide(tiles, 300, 100, step=48))
    assert [bool(found.failed[0, x // 3]) for x in (20, 80, 180, 250)] == [True, False, False, True]


def test_a_map_of_a_huge_slide_stays_small():
    slide = made.slide([made.tile(0, 0, "benign", side=300)], 200_000, 1_000, step=100)
    assert max(raster(slide).answered.shape) <= LONGEST


def test_a_slide_without_tiles_has_an_empty_map():
    found = raster(made.slide([]))
    assert not found.answered.any()
    assert (found.labels == -1).all()
