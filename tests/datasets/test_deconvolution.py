import numpy as np

from datasets import phantom
from datasets.deconvolution import restained, separation
from datasets.phantom import EOSIN, HAEMATOXYLIN


def test_one_stain_alone_is_changed():
    amounts = np.random.default_rng(0).uniform(0.05, 0.5, (4, 5, 2))
    stains = np.array([HAEMATOXYLIN, EOSIN])
    image = np.uint8(np.rint(255 * np.exp(-amounts @ stains)))
    for number, change in enumerate(({"haematoxylin": 1.3}, {"eosin": 0.7})):
        expected = amounts * np.where(np.arange(2) == number, *change.values(), 1)
        np.testing.assert_allclose(restained(image, **change), 255 * np.exp(-expected @ stains), atol=2)


def test_stains_of_the_same_strength_leave_an_image_as_it_is():
    image = np.maximum(phantom.draw("benign", 5, 0), 1)
    np.testing.assert_array_equal(restained(image), image)


def test_black_and_white_stay_finite():
    for level in (0, 255):
        image = np.full((2, 3, 3), level, np.uint8)
        assert abs(int(restained(image, 1.3, 0.7).mean()) - level) <= 1


def test_the_second_matrix_undoes_the_first():
    mix, unmix = separation()
    np.testing.assert_allclose(mix @ unmix, np.eye(3), atol=1e-6)
