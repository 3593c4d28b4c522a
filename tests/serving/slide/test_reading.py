import numpy as np
import pytest

from bach_keras.serving.slide import overview as overviews
from bach_keras.serving.slide import reading
from bach_keras.serving.slide.overview import overview
from bach_keras.serving.slide.reading import Window, bands, read_band, read_tile
from datasets.slides.slide import Level
from tests.serving.slide.conftest import MemorySlide, painted


@pytest.fixture
def few_at_once(monkeypatch):
    monkeypatch.setattr(reading, "AT_ONCE", 5000)


def slide_of(tmp_path, pixels, damaged=(), levels=None):
    slide = MemorySlide(tmp_path / "a.tif", pixels, 1.0, damaged)
    slide.levels = levels or slide.levels
    return slide


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_a_tile_is_read_from_the_level_that_is_not_coarser_than_the_model_sees(tmp_path):
    slide = slide_of(tmp_path, noise(300, 300))
    assert read_tile(slide, (10, 20), 120, 32).shape == (60, 60, 3)  # 3.75 to 1: from level 2
    assert read_tile(slide, (10, 20), 120, 30).shape == (30, 30, 3)
    assert read_tile(slide, (10, 20), 20, 32).shape == (20, 20, 3)


def test_a_tile_of_a_slide_without_a_pyramid_is_averaged_in_parts_of_bounded_size(few_at_once, tmp_path):
    pixels = noise(400, 400)
    slide = slide_of(tmp_path, pixels, levels=(Level(400, 400, 1.0),))
    tile = read_tile(slide, (40, 20), 320, 20)
    assert all(width * height <= 5000 for _, _, width, height, _ in slide.windows)
    means = pixels[20:340, 40:360].reshape(40, 8, 40, 8, 3).mean(axis=(1, 3))
    assert tile.shape == (40, 40, 3)
    assert np.abs(tile - means).max() < 1  # Pillow rounds after each axis


def test_bands_cover_the_rows_that_are_wanted_once(few_at_once, tmp_path):
    slide = slide_of(tmp_path, noise(400, 300), levels=(Level(300, 400, 1.0),))
    window = Window(0, 0, 300, 400, 30, 40)
    found = list(bands(slide, window))
    assert [row for first, last in found for row in range(first, last)] == list(range(40))
    whole = np.concatenate([read_band(slide, window, band) for band in found])
    assert whole.shape == (40, 30, 3)


def test_an_overview_shows_the_slide_and_its_tissue(tmp_path):
    view = overview(slide_of(tmp_path, painted(["n ", " v"], 200)), 200)
    assert view.downsample == 200 / overviews.TILE
    assert view.pixels.shape == (128, 128, 3)
    assert view.tissue == 0.5
    assert [view.tissue_of(x, y, 200) for x, y in ((0, 0), (200, 0), (100, 0), (100, 100))] == [1, 0, 0.5, 0.5]


def test_an_overview_is_bounded_where_tiles_are_small(tmp_path, monkeypatch):
    monkeypatch.setattr(overviews, "MOST_PIXELS", 10_000)
    view = overview(slide_of(tmp_path, painted(["n ", " v"], 200)), 64)
    assert view.pixels.shape == (100, 100, 3)
    assert view.tissue_of(0, 0, 64) == 1


def test_what_is_damaged_is_told_from_what_is_glass(few_at_once, tmp_path):
    slide = slide_of(tmp_path, painted(["nnnn", "n  n"], 200), damaged=[(450, 90)])
    view = overview(slide, 200)
    assert view.damaged.mean() < 0.2
    assert view.is_damaged(400, 0, 200)
    assert not view.is_damaged(0, 0, 200)
    assert not view.is_damaged(200, 200, 200)
    assert view.tissue_of(0, 0, 200) == 1
    assert view.tissue_of(200, 200, 200) == 0
