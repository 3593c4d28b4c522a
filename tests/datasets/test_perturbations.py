import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from bach_keras import preprocess
from datasets import phantom
from datasets.perturbations import PERTURBATIONS, blurred, jpeg, magnified, symmetry, versions


@pytest.fixture(scope="module")
def image():
    return phantom.draw("insitu", 6, 0)


def distance(first, second):
    return np.abs(np.float64(first) - second).mean()


def test_the_symmetries_are_those_of_the_eight_views(image):
    square = image[:64, :64]
    views = preprocess.views_of(square, 64, 8).numpy()
    np.testing.assert_array_equal([symmetry(square, number) for number in range(8)], views)


def test_a_lower_jpeg_quality_changes_more(image):
    distances = [distance(jpeg(image, quality), image) for quality in (95, 80, 60)]
    assert distances == sorted(distances)
    assert 0 < distances[0] < distances[-1] < 10


@pytest.mark.parametrize("sigma", [1.0, 6.0])
def test_blur_is_nearly_a_gaussian(image, sigma):
    expected = gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="nearest")
    assert distance(blurred(image, sigma), expected) < 1


def test_blur_is_in_pixels_of_the_networks_square(image):
    change, large = PERTURBATIONS["blur"].change, np.asarray(Image.fromarray(image).resize((768, 576)))
    at_once = preprocess.square(change(large, 1.0, 96), 96).numpy()
    assert distance(at_once, preprocess.square(change(image, 1.0, 96), 96).numpy()) < 1
    assert distance(at_once, preprocess.square(image, 96).numpy()) > 3


@pytest.mark.parametrize("scale", [0.8, 1.25])
def test_a_magnification_keeps_the_middle_and_changes_the_size(scale):
    ramp = np.uint8(np.add.outer(np.arange(100), np.arange(120)))[..., None].repeat(3, axis=2)
    found = magnified(ramp, scale)
    assert found.shape == ramp.shape
    middle = np.float64(found[45:56, 60, 0])
    assert middle[5] == pytest.approx(ramp[50, 60, 0], abs=1)
    assert (middle[-1] - middle[0]) / 10 == pytest.approx(1 / scale, abs=0.1)


def test_no_magnification_leaves_an_image_as_it_is(image):
    np.testing.assert_array_equal(magnified(image, 1.0), image)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (3, 2)])
@pytest.mark.parametrize("level", [0, 255])
def test_every_change_takes_the_smallest_images(height, width, level):
    found = list(versions(np.full((height, width, 3), level, np.uint8), 32))
    assert len(found) == 1 + sum(len(each.grades) for each in PERTURBATIONS.values())
    assert {each.dtype for each in found} == {np.dtype(np.uint8)}
    assert {each.shape for each in found} <= {(height, width, 3), (width, height, 3)}


def test_every_change_leaves_the_image_itself_alone(image):
    before = image.copy()
    first, *others = versions(image, 96)
    assert all(distance(each, first) > 0.5 for each in others if each.shape == first.shape)
    np.testing.assert_array_equal(image, before)


def test_every_grade_has_a_name():
    assert PERTURBATIONS["symmetry"].named(5) == "mirrored, turned left by 90°"
    assert PERTURBATIONS["scale"].named(1.25) == "1.25"
