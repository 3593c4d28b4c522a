import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from bach_keras.evidence.quality import PART, measures, scale_of_blur
from datasets import phantom

PHANTOM = phantom.draw("benign", 950, 0)
EDGE_CASES = {
    "one pixel": np.full((1, 1, 3), 200, np.uint8),
    "white": np.full((40, 60, 3), 255, np.uint8),
    "black": np.zeros((40, 60, 3), np.uint8),
    "fifty times as long as wide": PHANTOM[:2, :100],
    "noise": np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8),
}


def blurred(pixels, deviation):
    return gaussian_filter(pixels, (deviation, deviation, 0))


@pytest.mark.parametrize("pixels", EDGE_CASES.values(), ids=EDGE_CASES)
def test_every_image_has_measures(pixels):
    found = measures(pixels, 0.42)
    assert 0 <= found["blur"] <= 1
    assert 0 <= found["tissue"] <= 1
    assert np.isfinite(found["stain"]).all()
    assert len(found["stain"]) == 6


def test_a_blank_image_is_without_structure_and_tissue():
    found = measures(EDGE_CASES["white"])
    assert (found["blur"], found["tissue"]) == (1, 0)
    assert measures(EDGE_CASES["black"])["blur"] == 1


def test_blur_grows_with_the_blur_of_an_image():
    found = [measures(blurred(PHANTOM, deviation))["blur"] for deviation in (0, 1, 2)]
    assert found[0] + 0.05 < found[1] < found[2]


def test_blur_is_measured_at_one_scale_whatever_that_of_the_file():
    large = Image.fromarray(PHANTOM).resize((1536, 1152), Image.Resampling.BICUBIC)
    half = np.asarray(large.resize((768, 576), Image.Resampling.BICUBIC))
    at = scale_of_blur(2.0)
    of_half = measures(half, 1.0, at)["blur"]
    assert measures(np.asarray(large), 0.5, at)["blur"] == pytest.approx(of_half, abs=0.01)
    assert measures(half)["blur"] > of_half + 0.05


def test_tissue_is_what_absorbs_light():
    half = np.full((100, 100, 3), 245, np.uint8)
    half[:50] = (150, 90, 160)
    assert measures(half)["tissue"] == 0.5


def test_stain_is_told_by_the_tissue_and_not_by_the_glass():
    tissue = PHANTOM[72:216, 120:264]
    on_glass = np.pad(tissue, ((72, 72), (72, 72), (0, 0)), constant_values=250)
    assert measures(on_glass)["stain"] == pytest.approx(measures(tissue)["stain"], abs=0.05)


@pytest.mark.parametrize(("side", "um_per_pixel", "at", "parts"), [
    (2000, 0.42, 1.0, (4, PART, PART, 3)),
    (30, 500.0, 1.0, (4, 2 * PART, 2 * PART, 3)),
    (30, None, None, (1, 30, 30, 3)),
])  # fmt: skip
def test_blur_is_measured_on_parts_of_few_pixels(monkeypatch, side, um_per_pixel, at, parts):
    seen = []
    monkeypatch.setattr("bach_keras.evidence.quality._blur", lambda parts: seen.append(parts.shape))
    measures(np.zeros((side, side, 3), np.uint8), um_per_pixel, at)
    assert seen == [parts]
