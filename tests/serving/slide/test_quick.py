import numpy as np
import pytest

from tests.serving.slide.conftest import COLOURS, painted
from tests.serving.slide.test_work import rows_of, without_run


def test_tiles_that_carci_is_sure_of_at_low_magnification_are_not_asked(slides, answer, model, tmp_path):
    # 100 squares of four tiles; each is of one class.
    [outcome] = answer(slides("a.tif", painted(["n" * 20] * 10 + ["v" * 20] * 10, 40), 16.128), is_quick=True)
    quick = outcome.summary["quick"]
    assert (quick["squares"], quick["squares_sure"], quick["tiles"]) == (100, 100, 400)
    assert quick["checked"]["squares"] == 10
    assert quick["tiles_asked_alone"] == 40
    assert quick["tiles_saved"] == 400 - 40 - 100
    assert model.asked == 140
    rows = rows_of(tmp_path / "out" / "a")
    assert [row["quick"] for row in rows].count("true") == 360
    assert all(row["label"] == ("normal" if int(row["miny"]) < 400 else "invasive") for row in rows)


def test_a_square_that_carci_is_unsure_of_is_asked_tile_by_tile(slides, answer, tmp_path):
    blocks = ["nnnnnn", "nnnnnv", "nnnnnn", "nnnnnn"]  # the square at the top right is three quarters normal
    [outcome] = answer(slides("a.tif", painted(blocks, 40), 16.128), is_quick=True)
    rows = rows_of(tmp_path / "out" / "a")
    assert {(row["minx"], row["miny"]): row["label"] for row in rows}["200", "40"] == "invasive"
    refined = outcome.summary["quick"]["refined"]
    assert (refined["squares"], refined["tiles"], refined["labels_changed"]) == (1, 4, 1)
    assert refined["share"] == 0.25
    low, high = refined["ci95"]
    assert low < 0.25 < high


def test_labels_that_quick_would_have_changed_are_found_in_the_squares_that_are_checked(slides, answer):
    # Benign inside normal: carci is sure of all, and a quarter of the tiles are benign.
    blocks = ["nb" * 7, "nn" * 7] * 6
    [outcome] = answer(slides("a.tif", painted(blocks, 40), 16.128), is_quick=True)
    checked = outcome.summary["quick"]["checked"]
    assert checked["squares"] == 10
    assert checked["labels_changed"] == 10
    assert checked["share"] == 0.25


@pytest.mark.parametrize(("width", "height"), [(300, 220), (310, 290), (100, 400), (400, 100), (199, 199)])
def test_quick_answers_every_tile_that_the_slow_way_does(width, height, slides, answer, tmp_path):
    rng = np.random.default_rng(width)
    colours = np.array(list(COLOURS.values()), np.uint8)
    pixels = colours[rng.integers(4, size=(height // 50 + 1, width // 50 + 1))].repeat(50, 0).repeat(50, 1)
    path = slides("a.tif", np.ascontiguousarray(pixels[:height, :width]))
    answer(path, overlap=0.3)
    slow = [(row["minx"], row["miny"]) for row in rows_of(tmp_path / "out" / "a")]
    [outcome] = answer(path, overlap=0.3, is_quick=True, overwrites=True)
    assert [(row["minx"], row["miny"]) for row in rows_of(tmp_path / "out" / "a")] == slow
    quick = outcome.summary["quick"]
    assert quick["tiles_saved"] == len(slow) - quick["tiles_asked_alone"] - quick["squares"]


def test_a_square_holds_neighbours_of_the_grid_though_some_have_no_tissue(slides, answer):
    path = slides("a.tif", painted([" vnn", " vnn", " v  "], 40), 16.128)
    [outcome] = answer(path, is_quick=True)
    squares = [window[:2] for window in slides.opened[path].windows if window[2] == 80]
    assert squares == [(0, 0), (80, 0)]
    assert outcome.summary["quick"]["tiles_in_no_square"] == 1


def test_squares_lie_inside_the_slide(slides, answer):
    path = slides("a.tif", painted(["nbiv"] * 3, 70))
    answer(path, is_quick=True)
    windows = [window for window in slides.opened[path].windows if window[2] == 200]
    assert windows
    assert all(x + width <= 280 and y + height <= 210 for x, y, width, height, _ in windows)


@pytest.mark.parametrize("fails_after", [20, 30])
def test_quick_work_that_was_interrupted_ends_as_if_it_had_not_been(fails_after, slides, answer, model, tmp_path):
    path = slides("a.tif", painted(["nbivnbiv", "nnnniiii"] * 4, 100))  # 16 squares, then tiles
    answer(path, is_quick=True)
    folder, whole = tmp_path / "out" / "a", model.asked
    expected, table = without_run(folder), (folder / "tiles.csv").read_bytes()
    for each in folder.iterdir():
        each.unlink()
    model.asked, model.fails_after = 0, fails_after
    with pytest.raises(KeyboardInterrupt):
        answer(path, is_quick=True)
    model.fails_after = None
    answer(path, is_quick=True)
    assert model.asked == whole
    assert (folder / "tiles.csv").read_bytes() == table
    assert without_run(folder) == expected
