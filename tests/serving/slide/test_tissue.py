import numpy as np
import pytest
from PIL import Image

from bach_keras.serving.slide.tissue import Shares, tissue_mask
from datasets import phantom
from datasets.labels import CLASSES


def is_tissue(colour):
    return bool(tissue_mask(np.array([[colour]], np.uint8))[0, 0])


@pytest.mark.parametrize(
    "colour",
    [(230, 150, 190), (75, 60, 130), (150, 140, 190), (200, 60, 90), (120, 70, 150)],
    ids=["eosin", "haematoxylin", "bluish stain", "blood", "between"],
)
def test_both_stains_and_blood_are_tissue(colour):
    assert is_tissue(colour)


@pytest.mark.parametrize(
    "colour",
    [
        (255, 255, 255), (242, 240, 243), (205, 200, 195), (0, 0, 0), (3, 0, 2), (25, 20, 22), (120, 120, 120),
        (30, 50, 160), (120, 150, 220), (0, 0, 150), (20, 120, 60), (200, 30, 40), (120, 70, 40), (230, 200, 40),
    ],
    ids=["white", "glass", "yellow glass", "black border", "black as JPEG has it", "black pen", "shadow", "blue pen",
         "light blue pen", "full blue pen", "green pen", "red pen", "brown dirt", "yellow pen"],
)  # fmt: skip
def test_glass_pens_and_borders_are_not_tissue(colour):
    assert not is_tissue(colour)


@pytest.mark.parametrize("label", CLASSES)
def test_nearly_all_that_absorbs_light_in_a_stained_image_is_tissue(label):
    small = Image.fromarray(phantom.draw(label, CLASSES.index(label), 0)).reduce(4)
    pixels = np.asarray(small)
    absorbs = pixels.min(axis=-1) < 200
    assert tissue_mask(pixels)[absorbs].mean() > 0.97


def test_the_share_of_a_window_is_that_of_its_pixels():
    mask = np.random.default_rng(0).random((30, 40)) < 0.4
    shares = Shares(mask)
    assert shares.of(0, 0, 30, 40) == mask.mean()
    assert shares.of(4.4, 7.6, 12.4, 20.3) == mask[4:12, 8:20].mean()
    assert shares.of(29.9, 39.9, 30.0, 40.0) == mask[29, 39]
    assert shares.of(3.2, 5.2, 3.3, 5.3) == mask[3, 5]  # never of no pixel
