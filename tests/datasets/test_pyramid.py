import sys
import tracemalloc

import numpy as np
import pytest
import tifffile

from datasets.errors import UserError
from datasets.images.scale import um_per_pixel
from datasets.pyramid import write_pyramid


def smooth(width, height):
    """Return pixels that JPEG hardly changes, uint8 [height, width, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=2).astype(np.uint8)


def levels_of(path):
    with tifffile.TiffFile(path) as file:
        return [page.asarray() for page in file.pages]


def in_rows(pixels, tall):
    return (pixels[top : top + tall] for top in range(0, len(pixels), tall))


def test_each_level_shows_the_whole_slide_at_half_the_size_of_the_one_before(tmp_path):
    pixels = smooth(1201, 903)
    write_pyramid(tmp_path / "slide.tiff", in_rows(pixels, 100), (1201, 903), 0.5)
    levels = levels_of(tmp_path / "slide.tiff")
    assert [level.shape for level in levels] == [(903, 1201, 3), (452, 601, 3), (226, 301, 3)]
    for number, level in enumerate(levels):
        wanted = smooth(1201, 903)[2**number // 2 :: 2**number, 2**number // 2 :: 2**number]
        rows, columns = wanted.shape[:2]
        np.testing.assert_allclose(level[:rows, :columns].astype(int), wanted, atol=4)


def test_the_heights_of_the_parts_that_rows_come_in_do_not_matter(tmp_path):
    pixels = smooth(700, 650)
    for tall in (1, 256, 650):
        write_pyramid(tmp_path / f"{tall}.tiff", in_rows(pixels, tall), (700, 650), 0.5)
    assert len({(tmp_path / f"{tall}.tiff").read_bytes() for tall in (1, 256, 650)}) == 1


def test_the_file_says_how_large_its_pixels_are_at_every_level(tmp_path):
    write_pyramid(tmp_path / "slide.tiff", [smooth(600, 40)], (600, 40), 0.42)
    assert um_per_pixel(tmp_path / "slide.tiff").value == pytest.approx(0.42)
    with tifffile.TiffFile(tmp_path / "slide.tiff") as file:
        each = [page.tags["XResolution"].value for page in file.pages]
        assert [page.subfiletype for page in file.pages] == [0, 1]
    assert [10_000 * below / above for above, below in each] == pytest.approx([0.42, 0.84])


def test_memory_does_not_grow_with_the_height_of_a_slide(tmp_path):
    def peak(height):
        part = smooth(768, 256)
        tracemalloc.start()
        write_pyramid(tmp_path / "slide.tiff", (part for _ in range(height // 256)), (768, height), 0.5)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(256 * 64) < 1.2 * peak(256 * 32)


def test_what_fails_on_the_way_leaves_nothing(tmp_path):
    def rows():
        yield smooth(600, 300)
        raise LookupError

    with pytest.raises(LookupError):
        write_pyramid(tmp_path / "slide.tiff", rows(), (600, 900), 0.5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tifffile", "imagecodecs"])
def test_a_package_that_is_not_installed_is_named_with_how_to_install_it(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"{name} is not installed.*requirements-slides\.txt"):
        write_pyramid(tmp_path / "slide.tiff", [], (600, 900), 0.5)
