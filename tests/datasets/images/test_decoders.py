"""What each format's reader says of a file that it does not take, and what it does with the odd ones that it takes."""

import io

import numpy as np
import pytest
from PIL import Image

from datasets.images import bmp, jpeg, png
from datasets.images.admission import NotTakenError
from tests.picture_files import saved, tissue
from tests.picture_files.bmp import bmps
from tests.picture_files.jpeg import jpegs
from tests.picture_files.png import pngs

PNGS, JPEGS, BMPS = pngs(), jpegs(), bmps()


@pytest.mark.parametrize(
    ("decode", "file", "reason"),
    [
        (png.decode, PNGS["an animation"], "is an animation"),
        (png.decode, PNGS["depth 16 colours 2 interlace 0"], "more than 8 bits"),
        (png.decode, PNGS["wrong checksum of the pixels"], "checksum of a chunk IDAT"),
        (png.decode, PNGS["no end"], "cut short"),
        (png.decode, PNGS["copied as text"], "a copy that took it for text"),
        (png.decode, PNGS["header bomb"], "60000x60000 pixels"),
        (png.decode, PNGS["an unknown chunk that must be known"], "CgBI"),
        (jpeg.decode, JPEGS["CMYK without Adobe's mark"], "CMYK"),
        (jpeg.decode, JPEGS["12 bits"], "12 bits a channel"),
        (jpeg.decode, JPEGS["arithmetic coding"], "arithmetic coding"),
        (jpeg.decode, JPEGS["lossless"], "lossless"),
        (jpeg.decode, JPEGS["height to come"], "gives its height only after its pixels"),
        (jpeg.decode, JPEGS["cut at 6/12 with an end"], "cut short"),
        (jpeg.decode, JPEGS["cut at 6/12"], "cut short"),
        (jpeg.decode, JPEGS["a hundred scans too many"], "scans"),
        (jpeg.decode, JPEGS["a restart missing"], "restart markers"),
        (bmp.decode, BMPS["compression 1, 8 bits"], "RLE"),
        (bmp.decode, BMPS["masks red first, header 108, height 37"], "another order"),
        (bmp.decode, BMPS["16 bits, header 40, height 37"], "16 bits"),
        (bmp.decode, BMPS["header of 12"], "OS/2"),
        (bmp.decode, BMPS["one byte missing"], "cut short"),
    ],
)
def test_what_is_not_taken_says_why(decode, file, reason):
    with pytest.raises(NotTakenError, match=reason):
        decode(file[0])


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_has_pillows_pixels(quality, progressive):
    data = saved(tissue(), "JPEG", quality=quality, progressive=progressive)
    np.testing.assert_array_equal(jpeg.decode(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
@pytest.mark.parametrize(("decode", "kind"), [(png.decode, "PNG"), (bmp.decode, "BMP")])
def test_without_loss_means_without_loss(decode, kind, mode):
    picture = Image.fromarray(tissue()).convert(mode)
    np.testing.assert_array_equal(decode(saved(picture, kind)), picture.convert("RGB"))


ENCODED = {
    "tissue": tissue(),
    "turned": tissue().transpose(1, 0, 2)[::-1],
    "one pixel": tissue()[:1, :1],
    "one row": tissue()[:1, :40],
    "one column": tissue()[:30, :1],
    "flat": np.full((300, 200, 3), 255, np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (130, 70, 3), np.uint8),
}


@pytest.mark.parametrize("pixels", ENCODED.values(), ids=ENCODED)
def test_an_encoded_png_has_the_pixels_for_every_reader(pixels):
    data = png.encode(pixels)
    np.testing.assert_array_equal(png.decode(data), pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    assert len(data) < pixels.size + 300


@pytest.mark.parametrize("name", ["RGBA", "LA", "palette with alpha", "a key that is there"])
def test_transparency_is_laid_on_white(name):
    data = PNGS[name][0]
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    alpha = pixels[..., 3:] / 255
    assert alpha.min() < 1
    expected = np.floor(pixels[..., :3] * alpha + 255 * (1 - alpha) + 0.5)
    np.testing.assert_array_equal(png.decode(data), expected)


@pytest.mark.parametrize(
    "name", ["orientation", "profile of 13 MB", "a preview behind the end", "thumbnail with markers"]
)
def test_what_a_file_holds_apart_from_the_pixels_changes_nothing(name):
    np.testing.assert_array_equal(jpeg.decode(JPEGS[name][0]), jpeg.decode(saved(tissue(), "JPEG")))


def test_a_png_of_many_chunks_is_not_copied_for_each():
    class Copied(bytes):
        count = 0

        def __getitem__(self, place):
            found = super().__getitem__(place)
            self.count += len(found)
            return found

    noise = np.random.default_rng(0).integers(0, 256, (500, 800, 3), np.uint8)
    data = Copied(saved(noise, "PNG", compress_level=0))
    png._read(data)
    assert data.count < len(data) / 100
