import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from datasets.images.read import read_rgb
from datasets.slides.open import open_slide
from tests.datasets.images.tiff_files import TILE_OFFSETS
from tests.datasets.slides.slide_files import (
    HALF,
    IMAGE,
    QUARTER,
    SIZES,
    sizes,
    tiled,
    whole,
    write_aperio,
    write_pyramid,
)

GREY = IMAGE[..., 0].copy()


@pytest.mark.parametrize("compression", [None, "packbits", "lzw", "deflate", "adobe_deflate"])
def test_windows_hold_the_pixels_that_were_written(tmp_path, compression):
    with open_slide(write_pyramid(tmp_path / "a.tif", compression=compression)) as slide:
        assert sizes(slide) == SIZES
        np.testing.assert_array_equal(slide.read(37, 11, 200, 150), IMAGE[11:161, 37:237])
        np.testing.assert_array_equal(slide.read(40, 20, 200, 160, downsample=2.5), HALF[10:90, 20:120])
        np.testing.assert_array_equal(slide.read(40, 20, 200, 160, downsample=40), QUARTER[5:45, 10:60])


@pytest.mark.parametrize("is_sub", [True, False])
@pytest.mark.parametrize(("bigtiff", "byteorder"), [(False, "<"), (False, ">"), (True, ">")])
def test_levels_are_found_in_every_kind_of_tiff(tmp_path, is_sub, bigtiff, byteorder):
    path = write_pyramid(tmp_path / "a.tif", is_sub=is_sub, bigtiff=bigtiff, byteorder=byteorder, predictor=2,
                         compression="lzw")  # fmt: skip
    with open_slide(path) as slide:
        assert sizes(slide) == SIZES
        for number, expected in enumerate((IMAGE, HALF, QUARTER)):
            np.testing.assert_array_equal(whole(slide, number), expected)


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
def test_jpeg_tiles_hold_what_other_readers_see(tmp_path, photometric):
    path = write_pyramid(tmp_path / "a.tif", is_sub=False, compression="jpeg", photometric=photometric)
    with open_slide(path) as slide, openslide.OpenSlide(path) as other:
        np.testing.assert_array_equal(whole(slide), tifffile.imread(path, key=0))
        np.testing.assert_array_equal(whole(slide, 1), tifffile.imread(path, key=1))
        seen = np.asarray(other.read_region((0, 0), 0, other.dimensions))[..., :3]
        assert np.abs(whole(slide).astype(int) - seen).max() <= 1


def test_the_label_the_macro_and_the_thumbnail_of_an_aperio_slide_are_no_levels(tmp_path):
    path = write_aperio(tmp_path / "a.svs", compression="jpeg")
    with open_slide(path) as slide, openslide.OpenSlide(path) as other:
        assert sizes(slide) == [SIZES[0], SIZES[2]]
        assert [size[:2] for size in sizes(slide)] == list(other.level_dimensions)
        np.testing.assert_array_equal(whole(slide, 1), tifffile.imread(path, key=2))
        assert (slide.scale.value, slide.scale.source) == (0.499, "Aperio MPP in ImageDescription")


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (np.zeros((900, 800, 3), np.uint8), {"rowsperstrip": 16}),  # a label that is larger than the slide
        (HALF, {"rowsperstrip": 16, "subfiletype": 1}),  # a label of its shape
        (HALF[..., 0].copy(), {"tile": (64, 64), "photometric": "minisblack"}),
    ],
)
def test_a_picture_beside_the_slide_is_no_level(tmp_path, other, kind):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(IMAGE, photometric="rgb", tile=(64, 64), metadata=None)
        writer.write(other, **{"photometric": "rgb", "metadata": None, **kind})
        writer.write(QUARTER, photometric="rgb", tile=(64, 64), metadata=None)
    with open_slide(tmp_path / "a.tif") as slide:
        assert sizes(slide) == [SIZES[0], SIZES[2]]


def test_jpeg_files_in_a_tiff_that_says_rgb_are_ycbcr_as_qupath_writes_them(tmp_path):
    stored = []
    for top in (0, 64):
        buffer = io.BytesIO()
        Image.fromarray(IMAGE[top : top + 64, :64]).save(buffer, "JPEG")
        stored.append(buffer.getvalue())
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(iter(stored), shape=(128, 64, 3), dtype=np.uint8, tile=(64, 64), photometric="rgb",
                     compression="jpeg", metadata=None)  # fmt: skip
    expected = np.concatenate([np.asarray(Image.open(io.BytesIO(data))) for data in stored])
    with open_slide(tmp_path / "a.ome.tif") as slide:
        np.testing.assert_array_equal(whole(slide), expected)


@pytest.mark.parametrize("compression", [None, "lzw", "packbits", "jpeg"])
@pytest.mark.parametrize("cut", [{"rowsperstrip": 16}, {"rowsperstrip": 305}, {"tile": (128, 64)}])
def test_a_picture_without_a_pyramid_is_a_slide_of_one_level(tmp_path, compression, cut):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, photometric="rgb", compression=compression, metadata=None, **cut)
    with open_slide(tmp_path / "a.tif") as slide:
        assert sizes(slide) == SIZES[:1]
        np.testing.assert_array_equal(slide.read(50, 60, 100, 200, 8), read_rgb(tmp_path / "a.tif")[60:260, 50:150])


@pytest.mark.parametrize("compression", [None, "lzw", "jpeg"])
@pytest.mark.parametrize("cut", [{"rowsperstrip": 16}, {"tile": (64, 64)}])
def test_planes_grey_palettes_and_transparency_become_rgb_on_white(tmp_path, compression, cut):
    how = {"compression": compression, "metadata": None, **cut}
    kinds = [
        (np.moveaxis(IMAGE, 2, 0).copy(), {"photometric": "rgb", "planarconfig": "separate"}),
        (GREY, {"photometric": "minisblack"}),
    ]
    if compression != "jpeg":
        palette = np.random.default_rng(1).integers(0, 65536, (3, 256)).astype(np.uint16)
        kinds += [
            (GREY, {"photometric": "miniswhite"}),
            (GREY, {"photometric": "palette", "colormap": palette}),
            (np.dstack([IMAGE, GREY]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        ]
    for image, kind in kinds:
        tifffile.imwrite(tmp_path / "a.tif", image, **how, **kind)
        with open_slide(tmp_path / "a.tif") as slide:
            np.testing.assert_array_equal(slide.read(50, 60, 100, 200), read_rgb(tmp_path / "a.tif")[60:260, 50:150])


@pytest.mark.parametrize("compression", [None, "jpeg"])
def test_tiles_that_were_left_out_are_white(tmp_path, compression):
    tile = np.zeros((64, 64, 3), np.uint8)
    tiles = iter([tile, None, tile, None])
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(tiles, shape=(128, 128, 3), dtype=np.uint8, tile=(64, 64), photometric="rgb",
                     compression=compression, metadata=None)  # fmt: skip
    with open_slide(tmp_path / "a.tif") as slide:
        pixels = whole(slide)
    assert (pixels[:, :64] == 0).all()
    assert (pixels[:, 64:] == 255).all()


def test_a_tile_that_is_said_to_be_nowhere_was_left_out(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiled((16, 16), bytes(768), {TILE_OFFSETS: 0}))
    with open_slide(tmp_path / "a.tif") as slide:
        assert (whole(slide) == 255).all()


def test_what_lies_beyond_the_edge_is_white(tmp_path):
    with open_slide(write_pyramid(tmp_path / "a.tif", compression="lzw")) as slide:
        pixels = slide.read(-10, 290, 100, 100)
    np.testing.assert_array_equal(pixels[:15, 10:], IMAGE[290:, :90])
    assert (pixels[15:] == 255).all()
    assert (pixels[:, :10] == 255).all()


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_a_window_beside_the_slide_is_white(tmp_path, compression):
    with open_slide(write_pyramid(tmp_path / "a.tif", compression=compression)) as slide:
        for x, y in ((-500, 0), (5000, 0), (0, -500), (0, 5000)):
            assert (slide.read(x, y, 50, 40) == np.full((40, 50, 3), 255)).all()


@pytest.mark.parametrize("compression", [None, "jpeg", "deflate"])
def test_threads_read_what_one_reads(tmp_path, compression):
    path = write_pyramid(tmp_path / "a.tif", compression=compression)
    windows = [(x, y, 90, 80, downsample) for downsample in (1, 2, 4) for x in range(0, 380, 30) for y in (-5, 70, 200)]
    with open_slide(path) as slide:
        expected = [slide.read(*window) for window in windows]
    with open_slide(path) as slide, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda window: slide.read(*window), windows))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_scale_is_that_of_the_first_page(tmp_path):
    with open_slide(write_pyramid(tmp_path / "a.tif")) as slide:
        assert (slide.scale.value, slide.scale.source) == (0.5, "TIFF XResolution per centimetre")
        assert slide.absurd_scale is None


def test_a_scale_that_no_microscope_has_is_told_apart_from_none(tmp_path):
    for resolution, expected in (((1e8, 1e8), 0.0001), ((28.35, 28.35), 352.7)):
        tifffile.imwrite(tmp_path / "a.tif", IMAGE, photometric="rgb", resolution=resolution, resolutionunit=3)
        with open_slide(tmp_path / "a.tif") as slide:
            assert slide.scale is None
            assert slide.absurd_scale.value == pytest.approx(expected, rel=1e-3)
            assert slide.absurd_scale.source == "TIFF XResolution per centimetre"


def test_pixels_that_are_far_from_square_are_absurd(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, photometric="rgb", resolution=(20_000, 2_000), resolutionunit=3)
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.scale is None
        assert slide.absurd_scale.source == "TIFF XResolution per centimetre, 0.5 across and 5 down"


def test_a_file_that_says_no_scale_has_neither(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, photometric="rgb", metadata=None)
    with open_slide(tmp_path / "a.tif") as slide:
        assert (slide.scale, slide.absurd_scale) == (None, None)


def test_ome_xml_says_the_scale_of_its_pyramid(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", bigtiff=True) as writer:
        metadata = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
        writer.write(IMAGE, subifds=1, photometric="rgb", tile=(64, 64), metadata=metadata)
        writer.write(HALF, subfiletype=1, photometric="rgb", tile=(64, 64))
        writer.write(QUARTER[:40], photometric="rgb", tile=(64, 64), metadata={"axes": "YXS", "Name": "label"})
    with open_slide(tmp_path / "a.ome.tif") as slide:
        assert sizes(slide) == SIZES[:2]
        assert (slide.scale.value, slide.scale.source) == (0.25, "OME-XML PhysicalSizeX")


@pytest.mark.parametrize(
    ("full", "others", "expected"),
    [
        # As libvips and ImageMagick halve and cut off, and as GDAL halves and rounds up.
        ((2603, 2201), [(1301, 1100), (650, 550), (325, 275), (162, 137), (81, 68), (40, 34)], [2, 4, 8, 16, 32, 64]),
        ((2603, 2201), [(1302, 1101), (651, 551), (326, 276)], [2, 4, 8]),
        ((3000, 2400), [(1000, 800)], [3]),
        ((3000, 2400), [(1200, 960)], [2.5]),
    ],
)
def test_a_levels_downsample_is_that_of_the_program_that_made_it(tmp_path, full, others, expected):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number, (width, height) in enumerate([full, *others]):
            image = np.zeros((height, width, 3), np.uint8)
            kind = 1 if number else 0
            writer.write(image, photometric="rgb", tile=(256, 256), compression="lzw", subfiletype=kind, metadata=None)
    with open_slide(tmp_path / "a.tif") as slide:
        assert [size[2] for size in sizes(slide)] == [1, *expected]
