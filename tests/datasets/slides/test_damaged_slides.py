import errno
import io
import os
import struct
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.errors import UserError
from datasets.images.tiff_directory import Directory
from datasets.slides.open import open_slide
from datasets.slides.tiff_level import TiffLevel
from tests.datasets.images.tiff_files import (
    BITS,
    COMPRESSION,
    DESCRIPTION,
    FORMAT,
    HEIGHT,
    PHOTOMETRIC,
    TILE_HEIGHT,
    TILE_OFFSETS,
    TILE_WIDTH,
    WIDTH,
    tiff,
)
from tests.datasets.slides.slide_files import HALF, IMAGE, damage_tile, sizes, tiled, whole, write_pyramid


@pytest.fixture
def refusal(tmp_path):
    """Return what opening a slide of these bytes is refused with, behind the name of its file."""

    def of(data: bytes) -> str:
        path = tmp_path / "a.tif"
        path.write_bytes(data)
        with pytest.raises(UserError) as error:
            open_slide(path)
        return sentence(error, path)

    return of


@pytest.fixture
def failure(tmp_path):
    """Return what reading a slide of these bytes, which can be opened, fails with."""

    def of(data: bytes) -> str:
        path = tmp_path / "a.tif"
        path.write_bytes(data)
        with open_slide(path) as slide, pytest.raises(UserError) as error:
            whole(slide)
        return sentence(error, path)

    return of


def sentence(error, path):
    message = str(error.value)
    assert message.startswith(f"{path} ")
    assert "\n" not in message
    assert message.endswith(".")
    return message.removeprefix(f"{path} ")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("is_sub", [True, False])
def test_a_pyramid_that_is_cut_short_is_refused_when_it_is_opened(tmp_path, refusal, share, is_sub):
    data = write_pyramid(tmp_path / "whole.tif", is_sub=is_sub, compression="jpeg").read_bytes()
    assert refusal(data[: int(share * len(data))]).startswith("is damaged or cut short (")


@pytest.mark.parametrize(
    ("compression", "how"),
    [(compression, how) for compression in ("jpeg", "lzw", "deflate") for how in ("zeros", "noise", "end")]
    + [("packbits", "zeros")],  # where any bytes are pixels
)
def test_a_damaged_tile_is_an_error_that_names_the_window_and_others_are_read(tmp_path, compression, how):
    path = write_pyramid(tmp_path / "a.tif", compression=compression)
    expected = tifffile.imread(path, level=0)
    data = {"zeros": bytes, "noise": np.random.default_rng(3).bytes, "end": lambda _: b"\xff\xd9" * 20}[how]
    for number in (0, 8):
        damage_tile(path, number, data)
    with open_slide(path) as slide:
        with pytest.raises(UserError, match=r"a\.tif .*the window of 40x30 pixels at x 70, y 70") as error:
            slide.read(70, 70, 40, 30)
        assert "\n" not in str(error.value)
        np.testing.assert_array_equal(slide.read(64, 0, 64, 64), expected[:64, 64:128])
        assert slide.read(70, 70, 40, 30, downsample=2).shape == (15, 20, 3)


def test_a_jpeg_tile_that_ends_early_is_not_grey(tmp_path):
    path = write_pyramid(tmp_path / "a.tif", compression="jpeg")

    def shortened(count):
        whole_tile = path.read_bytes()[offset : offset + count]
        return whole_tile[: count // 2] + b"\xff\xd9" + bytes(count - count // 2 - 2)

    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[8]
    damage_tile(path, 8, shortened)
    assert (tifffile.imread(path, level=0)[127, 120:128] == 128).all()  # as another reader shows it
    with open_slide(path) as slide, pytest.raises(UserError, match="damaged or cut short"):
        slide.read(64, 64, 64, 64)


def test_a_tile_of_other_dimensions_than_the_tags_say_is_not_decoded(failure):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((512, 64, 3), np.uint8)).save(buffer, "JPEG")
    data = tiled((64, 16), buffer.getvalue(), {COMPRESSION: 7, PHOTOMETRIC: 6})
    assert "is a JPEG of 64x512x3 and not of 64x16x3" in failure(data)


def test_a_tile_that_inflates_to_more_than_its_pixels_is_refused_in_bounded_memory(failure):
    bomb = zlib.compress(bytes(2**26), 9)
    data = tiled((512, 512), bomb, {COMPRESSION: 8})
    tracemalloc.start()
    try:
        assert "does not inflate to what its pixels need" in failure(data)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", [5, 7, 8, 32773])
def test_tiles_that_are_too_large_to_decode_are_refused_by_their_tags(refusal, monkeypatch, compression):
    monkeypatch.setattr(TiffLevel, "decode", None)
    message = refusal(tiled((12_288, 12_288), b"pixels", {COMPRESSION: compression}))
    assert message.startswith(
        "has tiles of 12288x12288 pixels, which take 432 MiB each, where at most 64 MiB are taken"
    )
    assert "vips tiffsave" in message


def test_one_large_strip_is_read_by_rows_where_it_is_not_compressed(tmp_path):
    path = tmp_path / "a.tif"
    image = np.zeros((4800, 4800, 3), np.uint8)
    image[4000:4100, 3000:3100] = IMAGE[:100, :100]
    tifffile.imwrite(path, image, photometric="rgb", rowsperstrip=4800, metadata=None)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(2990, 4000, 120, 100), image[4000:4100, 2990:3110])


def test_a_level_of_another_shape_than_the_slide_is_refused(tmp_path, refusal):
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        writer.write(IMAGE, subifds=1, photometric="rgb", tile=(64, 64), metadata=None)
        writer.write(HALF[:100], subfiletype=1, photometric="rgb", tile=(64, 64), metadata=None)
    message = refusal((tmp_path / "b.tif").read_bytes())
    assert message == "is damaged or cut short (a level of 193x100 pixels has another shape than its 385x305)."


def test_pages_in_a_circle_are_refused(refusal):
    data = tiff()
    first = struct.unpack("<I", data[4:8])[0]
    message = refusal(tiff(following=first))
    assert message.startswith("has pages without end")


def test_a_stack_of_thousands_of_pages_is_refused_before_they_are_read(tmp_path, refusal):
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        for _ in range(2000):
            writer.write(IMAGE[:16, :16], photometric="rgb", subfiletype=1, metadata=None)
    path = tmp_path / "b.tif"
    data = bytearray(path.read_bytes())
    place = data.index(struct.pack("<HHI", 254, 4, 1)) + 8
    data[place] = 0
    assert refusal(bytes(data)).startswith("has more than 100 pages")


@pytest.mark.parametrize("second", [IMAGE, np.zeros((800, 900, 3), np.uint8)])
def test_it_must_be_clear_which_page_is_the_slide(tmp_path, refusal, second):
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        for image in (IMAGE, second):
            writer.write(image, photometric="rgb", tile=(64, 64), metadata=None)
    assert "it is not clear which is the slide" in refusal((tmp_path / "b.tif").read_bytes())


def test_stored_bytes_that_are_far_more_than_the_pixels_of_a_tile_are_not_decoded(failure):
    assert "has 100,000 bytes, far more than its pixels need" in failure(
        tiled((16, 16), bytes(100_000), {COMPRESSION: 5})
    )


def test_a_kind_of_jpeg_that_is_not_read_is_refused_when_the_slide_is_opened(refusal):
    buffer = io.BytesIO()
    Image.fromarray(IMAGE[:64, :64]).save(buffer, "JPEG", progressive=True)
    assert "has progressive" in refusal(tiled((64, 64), buffer.getvalue(), {COMPRESSION: 7, PHOTOMETRIC: 6}))


def test_large_tiles_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    at_once, most = [], []

    def decode(level, number):
        at_once.append(number)
        time.sleep(0.02)
        most.append(len(at_once))
        at_once.remove(number)
        return np.zeros((2048, 2048, 3), np.uint8)

    image = np.zeros((2048, 4 * 2048, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", tile=(2048, 2048), compression="lzw")
    monkeypatch.setattr(TiffLevel, "decode", decode)
    with open_slide(tmp_path / "a.tif") as slide, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: slide.read(2048 * number, 0, 1, 1), range(4)))
    assert most == [1, 1, 1, 1]


def test_a_mask_of_the_slide_is_no_level(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for image, kind in ((IMAGE, 0), (IMAGE, 2), (HALF, 1), (HALF, 3)):
            writer.write(image, subfiletype=kind, photometric="rgb", tile=(64, 64), metadata=None)
    data, tag = path.read_bytes(), struct.pack("<HHI", 254, 4, 1)
    for other, mask in ((2, 4), (3, 5)):
        data = data.replace(tag + struct.pack("<I", other), tag + struct.pack("<I", mask))
    path.write_bytes(data)
    with open_slide(path) as slide:
        assert [size[2] for size in sizes(slide)] == [1, 2]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({COMPRESSION: 34926}, "is compressed by Zstandard"),
        ({COMPRESSION: 50001}, "is compressed by WebP"),
        ({COMPRESSION: 65000}, "is compressed by method 65000"),
        ({COMPRESSION: 6}, "is compressed by old-style JPEG"),
        ({BITS: [16, 16, 16]}, "has 16 bits a channel"),
        ({BITS: [32, 32, 32], FORMAT: [3, 3, 3]}, "holds floats of 32 bits"),
        ({WIDTH: 0}, "has 0x4 pixels"),
        ({WIDTH: 4_000_000_000, HEIGHT: 4_000_000_000}, "has 4000000000x4000000000 pixels, which no slide has"),
        ({TILE_WIDTH: 16, TILE_HEIGHT: 16}, "it has both strips and tiles"),
        ({254: 1}, "says that it is a reduced copy of another picture"),
        ({DESCRIPTION: b"ImageJ=1.53\nimages=7\nslices=7\n"}, "holds 7 pictures"),
        ({34412: b"LSM"}, "is a Zeiss LSM stack"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_refused_with_the_reason(refusal, tags, expected):
    assert expected in refusal(tiff(tags))


def test_a_slide_in_another_compression_is_told_how_to_become_a_pyramid(refusal):
    expected = "is compressed by WebP, which is not read here: convert it, for example by vips tiffsave IN.tif OUT.tif "
    assert refusal(tiff({COMPRESSION: 50001})).startswith(expected)


def test_tiles_that_lie_beyond_the_end_are_refused(refusal):
    assert "reach beyond its end" in refusal(tiled((16, 16), bytes(768), {TILE_OFFSETS: 10**6}))


def test_a_slide_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    for compression in (None, "lzw"):
        path = write_pyramid(tmp_path / "a.tif", compression=compression)
        with open_slide(path) as slide:
            os.truncate(path, 20_000)
            with pytest.raises(UserError, match="it ends while it is read"):
                whole(slide)


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_a_disk_that_fails_is_no_damage_of_the_slide(tmp_path, monkeypatch, compression):
    def fails(*where):
        raise OSError(errno.EIO, "Input/output error", "a.tif")

    with open_slide(write_pyramid(tmp_path / "a.tif", compression=compression)) as slide:
        with monkeypatch.context() as patch:
            patch.setattr(Directory, "read", fails)
            with pytest.raises(OSError, match="Input/output error") as error:
                slide.read(0, 70, 100, 100)
        assert not isinstance(error.value, UserError)
        assert slide.read(0, 70, 100, 100).shape == (100, 100, 3)
