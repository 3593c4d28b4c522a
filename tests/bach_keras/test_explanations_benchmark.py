"""The proofs of the maps, on networks of which it is known where they look."""

import numpy as np
import pytest

from bach_keras.network.head import Classifier
from bach_keras.preprocess import View
from bach_keras.tree import CARCI
from benchmarks.explained_node import ExplainedNode, Sample, samples
from benchmarks.explanation_curves import areas, ratio
from benchmarks.explanation_places import grid, on_structure
from benchmarks.explanation_weights import STAGES, cascade
from tests.few_phantoms import TINY

SIZE, CELLS = 96, 3
SPOT = 24  # side of what makes the class


class Knowing:
    """Answers by the darkest spot, the second class where it is dark, and its maps show where that lies."""

    node = CARCI
    sign = 1

    def margins(self, squares):
        return (np.asarray(squares, float)[..., 0] < 100).mean(axis=(1, 2)) * 400 - 10

    def look(self, squares):
        dark = (np.asarray(squares)[..., 0] < 100).astype(float)
        at = np.clip(np.arange(CELLS) * 32, 0, SIZE - 1)
        near = np.array([[[one[max(0, y - 16) : y + 16, max(0, x - 16) : x + 16].mean() for x in at] for y in at]
                         for one in dark])  # fmt: skip
        return self.margins(squares), dict.fromkeys(("Grad-CAM", "HiResCAM"), self.sign * (near - 0.001))


class Mistaken(Knowing):
    """Its maps show where nothing lies."""

    sign = -1


def spotted(place, label):
    square, structure = np.full((SIZE, SIZE, 3), 200, np.uint8), np.zeros((SIZE, SIZE), bool)
    structure[place[0] : place[0] + SPOT, place[1] : place[1] + SPOT] = True
    if label == "insitu":
        square[structure] = 50
    return Sample(label, square, structure)


@pytest.fixture(scope="module")
def images():
    places = [(20, 20), (20, 52), (52, 20), (20, 20)]
    return [spotted(place, label) for place in places for label in ("benign", "insitu")]


def of_carcinoma(node, images):
    found = areas(node, images, seed=0)
    rows = (found["answered"] == 1) & found["mean colour", "lossy"]
    assert rows.sum() == 4
    peer = found["mean colour", "cells at random"][rows]
    return [ratio(found["mean colour", name][rows], peer)[0] for name in ("map", "map, smallest first")]


def test_deletion_is_small_and_insertion_large_where_the_map_is_true(images):
    deletion, insertion = of_carcinoma(Knowing(), images)
    assert deletion < 0.8
    assert insertion > 1.2


def test_a_map_of_other_places_is_found_out(images):
    deletion, insertion = of_carcinoma(Mistaken(), images)
    assert deletion > 1.2
    assert insertion < 0.8


def test_a_true_map_lies_on_the_structure_and_chance_is_that_of_other_images(images):
    dark = [image for image in images if image.label == "insitu"]
    true, false = (on_structure(node, dark)["Grad-CAM"] for node in (Knowing(), Mistaken()))
    assert true["hit"].mean() == 1
    assert true["hit_chance"].mean() == pytest.approx(1 / 6)  # for two of the four, one of the three others
    assert true["energy"].mean() > 1.5 * true["energy_chance"].mean()
    assert false["hit"].mean() == 0


def test_a_true_map_lies_in_the_quarter_that_differs(images):
    middle = [spotted((36, 36), image.label) for image in images]
    rows = np.array([image.label == "insitu" for image in middle])
    found = grid(Knowing(), middle)["Grad-CAM"]
    assert found["hit"][rows].mean() == 1
    assert found["energy"][rows].mean() > 0.5


def test_a_ratio_has_an_interval_around_it():
    draws = np.random.default_rng(0)
    whole, low, high = ratio(draws.normal(1, 0.1, 50), draws.normal(2, 0.1, 50))
    assert low < whole < high
    assert whole == pytest.approx(0.5, abs=0.05)


def test_randomised_weights_change_the_maps_and_are_put_back():
    model = Classifier(65, backbone=TINY)
    node, drawn = ExplainedNode(CARCI, model), samples(CARCI, View(65), 2)
    squares, before = np.stack([image.square for image in drawn]), model.get_weights()
    rows = dict(cascade(node, squares, range(1)))
    assert list(rows) == ["other image", *STAGES]
    assert rows["conv1"]["rank"] < 0.9
    for weight, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)
    margins, maps = node.look(squares)
    np.testing.assert_allclose(margins, node.margins(squares), atol=1e-4)
    assert maps["Grad-CAM"].shape == maps["HiResCAM"].shape == (8, 3, 3)
    assert [image.label for image in drawn[:4]] == ["normal", "benign", "insitu", "invasive"]
