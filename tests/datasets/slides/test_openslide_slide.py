import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openslide
import pytest

from datasets.apart import tasks
from datasets.apart.pool import Pool
from datasets.errors import UserError
from datasets.slides.open import open_slide
from datasets.slides.openslide_slide import OpenSlideSlide
from tests.datasets.slides.slide_files import (
    IMAGE,
    QUARTER,
    SIZES,
    damage_tile,
    dicom,
    sizes,
    whole,
    write_aperio,
    write_mirax,
)


@pytest.fixture
def jpeg_2000(tmp_path):
    """Write an Aperio slide whose tiles are JPEG 2000, without loss."""
    return write_aperio(tmp_path / "a.svs", compression="aperio_jp2000_rgb")


def test_jpeg_2000_in_aperio_slides_is_read(jpeg_2000):
    with open_slide(jpeg_2000) as slide:
        assert isinstance(slide, OpenSlideSlide)
        assert [size[:2] for size in sizes(slide)] == [SIZES[0][:2], SIZES[2][:2]]
        np.testing.assert_array_equal(whole(slide), IMAGE)
        np.testing.assert_array_equal(slide.read(37, 11, 200, 150), IMAGE[11:161, 37:237])
        np.testing.assert_array_equal(whole(slide, 1), QUARTER)
        assert (slide.scale.value, slide.scale.source) == (0.499, "openslide.mpp-x")


def test_a_long_text_of_the_scanner_is_no_harm(tmp_path):
    text = "Aperio Image Library v12.0.15\r\n385x305 (64x64) |MPP = 0.4990|Note = " + "x" * 2**20
    with open_slide(write_aperio(tmp_path / "a.svs", compression="aperio_jp2000_rgb", description=text)) as slide:
        assert (slide.scale.value, slide.scale.source) == (0.499, "openslide.mpp-x")


SOUND = {"is_known": True, "properties": {}, "size": [9, 9], "downsamples": [1.0]}


@pytest.mark.parametrize(
    "lie",
    [{"size": [9]}, {"size": None}, {"properties": {"openslide.mpp-x": [1]}}, {"downsamples": []},
     {"downsamples": [0.0]}, {"downsamples": [float("nan")]}],
)  # fmt: skip
def test_an_answer_that_openslide_does_not_give_is_refused(jpeg_2000, monkeypatch, lie):
    monkeypatch.setattr(Pool, "ask", lambda *given, **how: (SOUND | lie, b""))
    with pytest.raises(UserError, match=r"a\.svs misled the process that opened it"):
        open_slide(jpeg_2000)


def test_a_pipe_beside_a_dicom_slide_is_not_waited_for(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom(IMAGE))
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "nowhere").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"a\.dcm lies beside a pipe, b\.png"):
        open_slide(tmp_path / "a.dcm")


def test_dicom_is_read_and_white_beyond_the_edge(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom(IMAGE))
    with open_slide(tmp_path / "a.dcm") as slide:
        assert sizes(slide) == SIZES[:1]
        pixels = slide.read(-10, 290, 100, 100)
        assert (slide.scale.value, slide.absurd_scale, slide.series) == (0.5, None, "1.2.5")
    np.testing.assert_array_equal(pixels[:15, 10:], IMAGE[290:, :90])
    assert (pixels[15:] == 255).all()
    assert (pixels[:, :10] == 255).all()


def test_a_scale_that_no_microscope_has_is_told_apart_from_none(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom(IMAGE, spacing="0.5"))
    with open_slide(tmp_path / "a.dcm") as slide:
        assert slide.scale is None
        assert (slide.absurd_scale.value, slide.absurd_scale.source) == (500, "openslide.mpp-x")


def test_tiles_that_are_too_large_to_decode_are_refused(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom(IMAGE, rows=60_000))
    with pytest.raises(UserError, match=r"a\.dcm has tiles of 60000x60000 pixels, which take 10,300 MiB each"):
        open_slide(tmp_path / "a.dcm")


def test_a_file_that_is_cut_short_is_refused_or_an_error_of_the_window(tmp_path):
    data = dicom(IMAGE)
    for share in (0.001, 0.005, 0.5):
        (tmp_path / "a.dcm").write_bytes(data[: int(share * len(data))])
        with pytest.raises(UserError, match=r"a\.dcm") as error, open_slide(tmp_path / "a.dcm") as slide:
            whole(slide)
        assert "\n" not in str(error.value)


def test_a_damaged_tile_is_an_error_that_names_the_window_and_others_are_read(jpeg_2000):
    damage_tile(jpeg_2000, 8, bytes)

    def read(corner):
        try:
            return slide.read(*corner, 30, 30)
        except UserError as error:
            return str(error)

    corners = [(70, 70), *((x, 210) for x in range(0, 350, 5)), (80, 80)]
    with open_slide(jpeg_2000) as slide, ThreadPoolExecutor(4) as pool:
        found = dict(zip(corners, pool.map(read, corners), strict=True))
    for corner in (corners[0], corners[-1]):
        assert f"this is about the window of 30x30 pixels at x {corner[0]}, y {corner[1]}." in found[corner]
    for x, y in corners[1:-1]:
        np.testing.assert_array_equal(found[x, y], IMAGE[y : y + 30, x : x + 30])


def test_a_slide_with_damage_is_not_opened_for_every_window(jpeg_2000, monkeypatch):
    opened = []

    class Counted(openslide.OpenSlide):
        def __init__(self, path):
            opened.append(path)
            super().__init__(path)

    damage_tile(jpeg_2000, 8, bytes)
    monkeypatch.setattr(openslide, "OpenSlide", Counted)
    path = bytes(jpeg_2000)
    tasks.slide(path)
    with pytest.raises(openslide.OpenSlideError):
        tasks.window(path, [70, 70], 0, [30, 30])
    for x in range(20):
        tasks.window(path, [x, 210], 0, [30, 30])
    tasks._Slides.close()
    assert len(opened) == 3  # at first, to try again, and for what follows


def test_mirax_is_read_from_the_corner_of_what_the_scanner_filled(tmp_path):
    path = write_mirax(tmp_path / "a.mrxs", IMAGE[:256, :320])
    with openslide.OpenSlide(path) as other, open_slide(path) as slide:
        assert other.dimensions == (448, 448)
        assert sizes(slide) == [(320, 256, 1)]
        assert slide.scale.value == 0.25
        pixels = slide.read(-20, 40, 400, 300)
    np.testing.assert_array_equal(pixels[:216, 20:340], IMAGE[40:256, :320])
    assert (pixels[216:] == 255).all()
    assert (pixels[:, :20] == 255).all()


def test_a_mirax_slide_without_its_folder_says_so(tmp_path):
    path = write_mirax(tmp_path / "a b.mrxs", IMAGE[:64, :64])
    shutil.rmtree(tmp_path / "a b")
    with pytest.raises(UserError, match=r"a MIRAX slide without its data: the folder a b belongs beside it\.$"):
        open_slide(path)


def test_a_mirax_slide_of_tiles_that_are_too_large_to_decode_is_refused(tmp_path):
    path = write_mirax(tmp_path / "a.mrxs", IMAGE[:64, :64])
    ini = tmp_path / "a" / "Slidedat.ini"
    ini.write_text(
        ini.read_text().replace("DIGITIZER_WIDTH=64", "DIGITIZER_WIDTH=640000").replace("OVERLAP_X=0", "OVERLAP_X=3")
    )
    with pytest.raises(UserError, match=r"has tiles of 640000x64 pixels"):
        open_slide(path)
