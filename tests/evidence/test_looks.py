"""In which direction images differ from those of training: stain and scale, in words."""

from dataclasses import replace

import pytest

from bach_keras.evidence.looks import check_looks, in_words, looks
from bach_keras.fields import FieldError
from tests.evidence.test_likeness import RANGES

KNOWN = replace(RANGES, um_per_pixel=0.42, field=(516.0, 806.0))  # of 1536 pixels, give or take


def image(density=0.5, um_per_pixel=0.42, side=1536):
    return {"stain": [density] * 3 + [0.1] * 3, "um_per_pixel": um_per_pixel, "side": side}


def test_images_like_those_of_training_have_the_same_field_and_no_other_stain():
    (sentence,) = in_words(looks([image()] * 3, KNOWN))
    assert sentence == "A pixel shows 0.42 micrometres, of the training images 0.42; the fields are as large."


def test_a_stronger_stain_and_another_field_are_said():
    said = looks([image(density=1.0, um_per_pixel=0.25), image(density=1.0)], KNOWN)
    stain, scale = in_words(said)
    assert stain.startswith("Their stain is 2 times as strong (mean optical density 1.00, of the training images 0.5")
    assert "1 of 2 images show a larger or smaller field" in scale


def test_finer_pixels_of_a_field_as_large_are_no_other_scale():
    assert looks([image(um_per_pixel=0.21, side=3072)], KNOWN)["other_field"] == 0


def test_of_an_unknown_scale_it_is_said_that_nothing_can_be():
    said = looks([image(um_per_pixel=None), image()], KNOWN)
    assert in_words(said)[0].startswith("The scale of 1 of these 2 images is not known")
    said = looks([image(um_per_pixel=None)], RANGES)
    assert in_words(said) == ["The scale of the training images is not known, so scales are not compared."]
    assert (said["um_per_pixel"], said["other_field"]) == (None, None)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"density": [1]}, {"um_per_pixel": -1}, {"scaled": 0.5}])
def test_what_no_evaluation_writes_is_refused(wrong):
    said = looks([image()], KNOWN)
    assert check_looks(said, "looks") == said
    with pytest.raises(FieldError, match=r"looks\."):
        check_looks(said | wrong, "looks")
