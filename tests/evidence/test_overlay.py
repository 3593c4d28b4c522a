"""The map over the image: where it lies, and what the picture shows."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from bach_keras import preprocess
from bach_keras.evidence import overlay
from bach_keras.network.grad_cam import STRIDE
from bach_keras.network.head import Classifier
from tests.few_phantoms import TINY


def picture(height, width):
    return overlay.small(np.full((height, width, 3), 120, np.uint8))


@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (97, 431), (288, 288), (60, 190)])
def test_what_is_seen_is_the_square_that_the_network_gets(height, width):
    """An image that is white where ``preprocess.square`` looks, and black elsewhere, is seen where it is white."""
    size = 96
    _, seen = overlay.in_place(np.ones((3, 3)), picture(height, width), size)
    whole = np.asarray(Image.fromarray(seen).resize((width, height), Image.Resampling.NEAREST))
    image = np.repeat(np.where(whole, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    square = preprocess.square(image, size).numpy()
    assert square[2:-2, 2:-2].min() > 200  # all that the network gets counts as seen
    outside = np.asarray(preprocess.resize_shorter(image, size))
    assert abs(int((outside[..., 0] > 127).sum()) - size**2) <= 3 * size  # and nothing else does


def test_a_cell_lies_where_its_centre_is():
    found = np.zeros((9, 9))
    found[2, 5] = 1
    values, seen = overlay.in_place(found, picture(288, 576), 288)
    down, across = np.unravel_index(values.argmax(), values.shape)
    drawn = values.shape[1] / 576
    assert abs(down - 2 * STRIDE * drawn) <= 1
    assert abs(across - (144 + 5 * STRIDE) * drawn) <= 1
    assert values.max() > 0.95
    assert not seen[:, : int(143 * drawn)].any()


def test_a_map_of_ones_is_one_everywhere():
    values, _ = overlay.in_place(np.ones((9, 9)), picture(300, 400), 288)
    np.testing.assert_allclose(values, 1)


def test_where_the_map_is_0_the_tissue_keeps_its_colours_and_what_was_not_seen_is_pale():
    shown = overlay.drawn(np.zeros((3, 3)), picture(300, 600), 96)
    assert (shown[:, 320] == 120).all()
    assert (shown[:, [0, -1]] > 200).all()
    assert (overlay.drawn(np.ones((3, 3)), picture(300, 600), 96)[:, 320] != 120).any()


@pytest.mark.parametrize("level", [0, 255])
def test_a_line_shows_what_was_seen_also_of_a_black_and_of_a_white_image(level):
    plain = overlay.small(np.full((300, 600, 3), level, np.uint8))
    shown = overlay.drawn(np.zeros((3, 3)), plain, 96)[..., 0].astype(int)
    _, seen = overlay.in_place(np.zeros((3, 3)), plain, 96)
    beside = [np.flatnonzero(seen[0])[0] - 1, np.flatnonzero(seen[0])[-1] + 1]
    assert np.abs(shown[:, beside] - level).min() > 100
    assert (shown[seen] == level).all()
    assert not (overlay.drawn(np.zeros((3, 3)), picture(300, 300), 96) != 120).any()  # a square is seen as a whole


def test_what_is_planted_in_an_image_changes_the_map_where_it_lies():
    """From the image's pixels through squaring and the network to the picture: nothing moves on the way."""
    places = [(70, 270), (150, 350), (230, 430)]
    images = np.full((4, 300, 700, 3), 200, np.uint8)
    for image, (down, across) in zip(images[1:], places, strict=True):
        image[down - 12 : down + 12, across - 12 : across + 12] = 60
    squares = preprocess.normalise(preprocess.square(images, 288))
    flat, *maps = Classifier(288, backbone=TINY).features()(squares, training=False).numpy()
    for (down, across), found in zip(places, maps, strict=True):
        values, seen = overlay.in_place(np.abs(found - flat).sum(axis=-1), picture(300, 700), 288)
        centre = ndimage.center_of_mass(values * seen)
        np.testing.assert_allclose(np.array(centre) * 700 / overlay.LONGER_SIDE, (down, across), atol=16)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (20, 1000), (1000, 20), (300, 400)])
def test_a_picture_has_the_image_its_title_and_the_scale(tmp_path, height, width):
    shown = overlay.drawn(np.ones((3, 3)), picture(height, width), 96)
    overlay.write(tmp_path / "a.png", shown, "carci: carcinoma 0.981")
    written = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    top, left = written.shape[0] - 28 - (max(120, shown.shape[0])), 12
    there = written[top : top + shown.shape[0], left : left + shown.shape[1]].astype(int)
    assert np.abs(there - shown).max() <= 1
    assert written[:top].min() < 100  # the title
    assert len(np.unique(written[top:-28, left + shown.shape[1] + 20], axis=0)) > 50  # the colours of the scale
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_coarser_layer_is_the_same_map_in_the_same_place():
    shown = picture(300, 400)
    found = np.random.default_rng(0).random((9, 9))
    fine, place = overlay.layer(found, shown, 288)
    coarse, same_place = overlay.layer(found, shown, 288, step=3)
    assert same_place == place
    assert coarse.shape[0] == -(-fine.shape[0] // 3)
    scaled = np.asarray(Image.fromarray(coarse).resize(fine.shape[1::-1], Image.Resampling.BILINEAR)).astype(int)
    differences = np.abs(scaled - fine)[3:-3, 3:-3]
    assert differences.mean() < 2
    assert differences.max() < 40


def test_a_layer_over_the_picture_is_the_picture_that_is_drawn():
    shown = picture(300, 400)
    found = np.random.default_rng(0).random((9, 9))
    layer, (left, top, width, height) = overlay.layer(found, shown, 288)
    tall, wide = shown.pixels.shape[:2]
    rows = slice(round(top * tall), round((top + height) * tall))
    columns = slice(round(left * wide), round((left + width) * wide))
    share = overlay.COVERS * layer[..., 3:] / 255
    laid = (1 - share) * shown.pixels[rows, columns] + share * layer[..., :3]
    assert np.abs(laid - overlay.drawn(found, shown, 288)[rows, columns]).max() < 2
