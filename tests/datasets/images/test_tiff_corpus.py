"""One picture in every container of a TIFF that can be thought of: the same pixels, or refused."""

import io
import itertools

import numpy as np
import pytest
import tifffile

from datasets.images.admission import NotTakenError
from datasets.images.read import decode_rgb
from tests.datasets.images import tiff_files
from tests.datasets.images.tiff_files import ORDERS

_RANDOM = np.random.default_rng(0)
# Of no whole number of tiles or strips, with flat parts and rough ones.
TISSUE = np.repeat(np.repeat(_RANDOM.integers(0, 256, (5, 7, 3), np.uint8), 8, 0), 8, 1)[:37, :53].copy()
TISSUE[3:20, 5:30] = _RANDOM.integers(0, 256, (17, 25, 3))
GREY = TISSUE[..., 0].copy()
ALPHA = _RANDOM.integers(0, 256, GREY.shape, np.uint8)
CUTS = ({}, {"rowsperstrip": 1}, {"rowsperstrip": 7}, {"tile": (16, 16)}, {"tile": (32, 48)}, {"tile": (64, 64)})


def written(image, **how) -> bytes:
    return tiff_files.written(image, metadata=None, **how)


def containers(compression):
    """Every byte order, size of offsets, predictor and cut that TIFF has."""
    predictors = (None, 2) if compression in ("lzw", "deflate", "adobe_deflate") else (None,)
    for (order, is_big), predictor, cut in itertools.product(ORDERS, predictors, CUTS):
        yield {"byteorder": order, "bigtiff": is_big, "compression": compression, "predictor": predictor, **cut}


def as_rgb(grey):
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "adobe_deflate", "packbits"])
def test_rgb_and_grey_are_read_right_from_every_container(compression):
    for how in containers(compression):
        np.testing.assert_array_equal(decode_rgb(written(TISSUE, photometric="rgb", **how)), TISSUE)
        planes = np.moveaxis(TISSUE, 2, 0).copy()
        separate = written(planes, photometric="rgb", planarconfig="separate", **how)
        np.testing.assert_array_equal(decode_rgb(separate), TISSUE)
        np.testing.assert_array_equal(decode_rgb(written(GREY, photometric="minisblack", **how)), as_rgb(GREY))
        np.testing.assert_array_equal(decode_rgb(written(GREY, photometric="miniswhite", **how)), as_rgb(255 - GREY))


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits"])
def test_palettes_of_16_and_of_8_bit_numbers_are_read_right(compression):
    palette = _RANDOM.integers(0, 256, (3, 256)).astype(np.uint16)
    for how, scale in itertools.product(containers(compression), (257, 256, 1)):
        data = written(GREY, photometric="palette", colormap=palette * np.uint16(scale), **how)
        np.testing.assert_array_equal(decode_rgb(data), palette.T.astype(np.uint8)[GREY])


@pytest.mark.parametrize("compression", [None, "lzw", "packbits"])
def test_transparent_pixels_are_laid_on_white(compression):
    opacity = ALPHA[..., None].astype(int)
    free = (TISSUE * opacity + 255 * (255 - opacity) + 127) // 255
    multiplied = TISSUE * opacity // 255
    for how, planar in itertools.product(containers(compression), ("contig", "separate")):
        for colours, kind, expected in (
            (TISSUE, "unassalpha", free), (multiplied.astype(np.uint8), "assocalpha", multiplied + 255 - opacity),
        ):  # fmt: skip
            image = np.dstack([colours, ALPHA])
            stored = image if planar == "contig" else np.moveaxis(image, 2, 0).copy()
            data = written(stored, photometric="rgb", planarconfig=planar, extrasamples=[kind], **how)
            np.testing.assert_array_equal(decode_rgb(data), expected)


@pytest.mark.parametrize("photometric", ["ycbcr", "rgb", "minisblack"])
@pytest.mark.parametrize("cut", [{}, {"rowsperstrip": 16}, {"tile": (16, 16)}, {"tile": (32, 48)}])
def test_jpeg_equals_what_an_independent_reader_gives(photometric, cut):
    for level, subsampling in itertools.product(
        (75, 95), ((1, 1), (2, 1), (2, 2)) if photometric == "ycbcr" else (None,)
    ):
        image = GREY if photometric == "minisblack" else TISSUE
        how = {"compression": "jpeg", "compressionargs": {"level": level}, "subsampling": subsampling, **cut}
        data = written(image, photometric=photometric, **how)
        expected = tifffile.imread(io.BytesIO(data))
        np.testing.assert_array_equal(decode_rgb(data), expected if expected.ndim == 3 else as_rgb(expected))


@pytest.mark.parametrize(
    ("compression", "name"),
    [
        ("zstd", "Zstandard"), ("lzma", "LZMA"), ("webp", "WebP"), ("jpeg2000", "JPEG 2000"), ("jpegxl", "JPEG XL"),
        ("lerc", "LERC"), ("jpegxr", "JPEG XR"), ("png", "PNG"), ("jpeg_2000_lossy", "JPEG 2000"),
    ],
)  # fmt: skip
def test_compressions_that_are_not_read_are_named(compression, name):
    data = written(TISSUE, photometric="rgb", compression=compression)
    with pytest.raises(
        NotTakenError, match=f"is compressed by {name}, .* convert it to 8-bit RGB, uncompressed or LZW$"
    ):
        decode_rgb(data)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits"])
@pytest.mark.parametrize("cut", [{}, {"rowsperstrip": 1}, {"tile": (16, 16)}])
def test_ycbcr_other_than_as_jpeg_is_refused(planar, compression, cut):
    image = TISSUE if planar == "contig" else np.moveaxis(TISSUE, 2, 0).copy()
    data = written(image, photometric="ycbcr", planarconfig=planar, subsampling=(1, 1), compression=compression, **cut)
    with pytest.raises(NotTakenError, match="holds YCbCr that is not plain JPEG"):
        decode_rgb(data)


@pytest.mark.parametrize(
    ("image", "how", "reason"),
    [
        (TISSUE.astype(np.uint16), {"photometric": "rgb"}, "has 16 bits a channel, more than 8 bits"),
        (GREY.astype(np.uint16), {"photometric": "minisblack"}, "has 16 bits a channel, more than 8 bits"),
        (TISSUE.astype(np.float32), {"photometric": "rgb"}, "holds floats of 32 bits, more than 8 bits"),
        (GREY.astype(np.float16), {"photometric": "minisblack"}, "holds floats of 16 bits"),
        (GREY.astype(np.int8), {"photometric": "minisblack"}, "holds signed numbers of 8 bits: convert"),
        (GREY.astype(np.complex64), {"photometric": "minisblack"}, "holds complex numbers"),
        (np.dstack([TISSUE, TISSUE[..., :2]]), {"photometric": "rgb"}, "has 5 channels, and is not grey or RGB"),
        (np.dstack([TISSUE, ALPHA]), {"photometric": "separated"}, "holds CMYK"),
        (TISSUE, {"photometric": "cielab"}, "holds CIELab"),
        (GREY, {"photometric": "cfa"}, "raw colours"),
        (np.dstack([TISSUE, ALPHA]), {"photometric": "rgb", "extrasamples": [0]}, "4 channels and does not say what"),
        (np.dstack([GREY, ALPHA]), {"photometric": "minisblack", "extrasamples": [0]}, "2 channels and does not"),
        (TISSUE, {"photometric": "minisblack", "planarconfig": "contig"}, "has 3 channels, and is not grey or RGB"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("order", "is_big"), ORDERS)
def test_pixels_of_other_kinds_are_refused_for_what_they_are(image, how, reason, order, is_big):
    for compression in (None, "deflate"):
        data = written(image, byteorder=order, bigtiff=is_big, compression=compression, **how)
        with pytest.raises(NotTakenError, match=reason):
            decode_rgb(data)


def test_a_file_that_is_cut_short_anywhere_is_never_read_otherwise():
    for compression, cut in itertools.product((None, "lzw", "deflate", "packbits", "jpeg"), ({}, {"tile": (16, 16)})):
        data = written(TISSUE, photometric="rgb", compression=compression, **cut)
        expected = decode_rgb(data)
        for end in range(1, len(data), 97):
            try:
                pixels = decode_rgb(data[:end])
            except NotTakenError as error:
                assert "cut short" in str(error) or "not a PNG" in str(error)  # noqa: PT017
            else:
                np.testing.assert_array_equal(pixels, expected)


def test_a_damaged_directory_is_refused_or_read_as_an_independent_reader_does():
    random = np.random.default_rng(1)
    for compression in (None, "lzw", "deflate"):
        whole = written(TISSUE, photometric="rgb", compression=compression)
        good = decode_rgb(whole)
        for _ in range(300):
            data = bytearray(whole)
            data[random.integers(0, 230)] = random.choice((0, 1, 2, 3, 5, 7, 8, 64, 255))
            try:
                pixels = decode_rgb(bytes(data))
            except NotTakenError:
                continue
            if pixels.shape != good.shape or (pixels != good).any():
                with tifffile.TiffFile(io.BytesIO(data)) as file:
                    expected = file.pages[0].asarray()
                np.testing.assert_array_equal(pixels, expected if expected.ndim == 3 else as_rgb(expected))
