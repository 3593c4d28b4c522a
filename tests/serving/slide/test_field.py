from types import SimpleNamespace

import pytest

from bach_keras.serving.slide.field import far_from, field_of


def model(*configs, field=None):
    return SimpleNamespace(configs=configs, ranges=SimpleNamespace(field=field) if field else None)


@pytest.mark.parametrize("configs", [("bach",), ("phantom",), ("bach_bisque",), ("bisque", "phantom")])
def test_the_field_is_the_central_square_of_the_training_images(configs):
    assert field_of(model(*configs)).um == 645.12


def test_the_card_s_range_tells_the_field_of_images_that_no_collection_lists():
    assert field_of(model("own-lab", field=(0.8 * 500, 1.25 * 500))).um == 500
    assert field_of(model("own-lab", field=(0.8 * 400, 1.25 * 900))).um == 600


def test_own_images_in_a_join_are_measured_by_the_card_as_they_may_be_larger():
    assert field_of(model("bach+own-lab", field=(0.8 * 900, 1.25 * 900))).um == 900
    assert field_of(model("bach+own-lab")).um == 645.12
    assert field_of(model("bach+bisque", field=(0.8 * 900, 1.25 * 900))).um == 645.12


def test_a_model_of_unknown_scale_is_refused_until_it_is_given():
    with pytest.raises(ValueError, match="trained on bisque, whose images do not say how large their pixels are"):
        field_of(model("bisque"))
    assert field_of(model("bisque"), 500.0).um == 500


@pytest.mark.parametrize("given", [float("nan"), 0, -5, 1e9, float("inf")])
def test_a_field_that_no_tile_shows_is_refused(given):
    with pytest.raises(ValueError, match="give the micrometres that a tile shows, 20 to 20000"):
        field_of(model("bach"), given)


def test_a_field_that_is_far_from_that_of_training_has_a_warning():
    assert not far_from(model("bach"), field_of(model("bach"), 600.0))
    assert not far_from(model("bisque"), field_of(model("bisque"), 5000.0))
    assert "trained on fields of 645.12" in far_from(model("bach"), field_of(model("bach"), 2000.0))
