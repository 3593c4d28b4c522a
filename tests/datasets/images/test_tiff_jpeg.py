import io

import numpy as np
from PIL import Image

from datasets.images.read import decode_rgb
from tests.datasets.images import tiff_files as t
from tests.datasets.images.tiff_files import refusal, tiff


def jpeg(pixels, **how) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90, subsampling=0, **how)
    return buffer.getvalue()


def jpeg_tiff(photometric=6, edit=lambda data: data, **how) -> bytes:
    """A TIFF of one strip that is a JPEG of its own."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    tags = {t.COMPRESSION: 7, t.PHOTOMETRIC: photometric}
    return tiff(tags, [edit(jpeg(pixels, **how))], pixels=pixels)


def test_jpeg_in_a_tiff_must_be_complete_and_baseline():
    whole = decode_rgb(jpeg_tiff())
    np.testing.assert_array_equal(decode_rgb(jpeg_tiff(restart_marker_rows=1)), whole)
    for cut in (1, 2, 30, 500):
        assert "cut short" in refusal(jpeg_tiff(edit=lambda data, cut=cut: data[: -2 - cut] + b"\xff\xd9"))
    assert "has no data" in refusal(jpeg_tiff(edit=lambda data: data[: data.index(b"\xff\xda")] + b"\xff\xd9"))
    assert "has no end" in refusal(jpeg_tiff(edit=lambda data: data[:-2]))
    last = b"\xff\xd2"
    assert "missing" in refusal(
        jpeg_tiff(edit=lambda data: data[: data.rindex(last)] + b"\xff\xd9", restart_marker_rows=1)
    )
    filled = b"\xff" * 500_000
    np.testing.assert_array_equal(decode_rgb(jpeg_tiff(edit=lambda data: data[:-2] + filled[:9] + data[-2:])), whole)
    short = jpeg_tiff(edit=lambda data: data[:-300] + filled[:9] + b"\xff\xd9")
    assert "ends before its pixels do" in refusal(short)
    assert "has no end" in refusal(jpeg_tiff(edit=lambda data: data[:-2] + filled + b"\0"))
    comments = b"\xff\xfe\0\2" * 5000
    assert "more than 4,096 markers" in refusal(jpeg_tiff(edit=lambda data: data[:2] + comments + data[2:]))
    assert "progressive" in refusal(jpeg_tiff(progressive=True))


def test_jpeg_in_a_tiff_must_be_of_its_size():
    for height, width, samples in ((32, 32, 1), (31, 32, 3), (33, 32, 3), (32, 16, 3), (32, 48, 3)):
        stored = jpeg(np.zeros((32, 32, 3), np.uint8))
        tags = {t.COMPRESSION: 7, t.PHOTOMETRIC: 6 if samples == 3 else 1}
        said = refusal(tiff(tags, [stored], pixels=np.zeros((height, width, samples), np.uint8)))
        assert f"is a JPEG of 32x32x3 and not of {width}x{height}x{samples}" in said


def test_a_jpeg_that_says_other_colours_than_its_tiff_is_refused():
    assert "says other colours than the TIFF" in refusal(jpeg_tiff(photometric=2))


def test_ycbcr_of_another_standard_is_refused():
    for tags in (
        {529: (t.RATIONAL, [(2125, 10_000), (7154, 10_000), (721, 10_000)])},
        {532: (t.RATIONAL, [(16, 1), (235, 1), (128, 1), (240, 1), (128, 1), (240, 1)])},
        {529: (t.RATIONAL, [(1, 0), (1, 0), (1, 0)])},
    ):
        data = tiff({t.COMPRESSION: 7, t.PHOTOMETRIC: 6} | tags)
        assert "other weights or another range" in refusal(data)


def test_what_jpeg_does_not_hold_right_is_refused():
    grey, pair = (np.zeros((16, 16, samples), np.uint8) for samples in (1, 2))
    for tags, pixels, reason in (
        ({t.PHOTOMETRIC: 3, t.PALETTE: [0] * 768}, grey, "holds a palette's numbers as JPEG"),
        ({t.BITS: 4}, grey, "holds 4-bit numbers as JPEG"),
        ({t.EXTRA: 2}, pair, "holds transparent pixels as JPEG"),
    ):
        assert reason in refusal(tiff({t.COMPRESSION: 7} | tags, pixels=pixels))
