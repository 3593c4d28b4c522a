import numpy as np
import pytest
import tifffile

from datasets.errors import UserError
from datasets.slides.open import open_slide

_RANDOM = np.random.default_rng(0)
# Of no whole number of tiles, with flat parts and rough ones.
IMAGE = np.repeat(np.repeat(_RANDOM.integers(0, 256, (61, 77, 3), np.uint8), 5, 0), 5, 1)
IMAGE[40:200, 70:250] = _RANDOM.integers(0, 256, (160, 180, 3))
HALF, QUARTER = IMAGE[::2, ::2], IMAGE[::4, ::4]


def write_pyramid(path, tile=(64, 64), **how):
    """Write a pyramid of three levels, the smaller ones as sub-directories."""
    how = {"photometric": "rgb", "tile": tile, **how}
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(IMAGE, subifds=2, resolution=(20_000, 20_000), resolutionunit="CENTIMETER", **how)
        for smaller in (HALF, QUARTER):
            writer.write(smaller, subfiletype=1, **how)
    return path


@pytest.mark.parametrize("compression", [None, "packbits", "lzw", "deflate", "adobe_deflate"])
def test_windows_hold_the_pixels_that_were_written(tmp_path, compression):
    with open_slide(write_pyramid(tmp_path / "a.tif", compression=compression)) as slide:
        assert [(level.width, level.height, level.downsample) for level in slide.levels] == [
            (385, 305, 1), (193, 153, 2), (97, 77, 4),
        ]  # fmt: skip
        np.testing.assert_array_equal(slide.read(37, 11, 200, 150), IMAGE[11:161, 37:237])
        np.testing.assert_array_equal(slide.read(40, 20, 200, 160, downsample=2.5), HALF[10:90, 20:120])
        np.testing.assert_array_equal(slide.read(40, 20, 200, 160, downsample=40), QUARTER[5:45, 10:60])


def test_what_lies_beyond_the_edge_is_white(tmp_path):
    with open_slide(write_pyramid(tmp_path / "a.tif", compression="lzw")) as slide:
        pixels = slide.read(-10, 290, 100, 100)
    np.testing.assert_array_equal(pixels[:15, 10:], IMAGE[290:, :90])
    assert (pixels[15:] == 255).all()
    assert (pixels[:, :10] == 255).all()


def test_a_window_beside_the_slide_is_white(tmp_path):
    with open_slide(write_pyramid(tmp_path / "a.tif")) as slide:
        for x, y in ((-500, 0), (5000, 0), (0, -500), (0, 5000)):
            assert (slide.read(x, y, 50, 40) == np.full((40, 50, 3), 255)).all()


def test_the_scale_is_that_of_the_first_page(tmp_path):
    with open_slide(write_pyramid(tmp_path / "a.tif")) as slide:
        assert (slide.scale.value, slide.scale.source) == (0.5, "TIFF XResolution per centimetre")
        assert slide.absurd_scale is None


def test_a_file_that_is_not_there_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"a\.tif is not there\.$"):
        open_slide(tmp_path / "a.tif")
