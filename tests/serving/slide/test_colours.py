"""The colors of the classes can be told apart, also by those who do not see all colors."""

from itertools import combinations

import numpy as np
import pytest

from bach_keras.serving.slide.colours import COLOURS, FAILED, css
from bach_keras.tree import NODES
from datasets.labels import CLASSES

# What is seen without one kind of cones, by Machado, Oliveira and Fernandes (2009), of linear RGB.
SIGHT = {
    "all cones": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def lab(colour, sight):
    """Return CIELAB, in which a distance of 2 is just seen."""
    share = np.array(colour) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = np.array(XYZ) @ np.clip(np.array(SIGHT[sight]) @ linear, 0, 1) / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def nearest(colours, sight):
    return min(np.linalg.norm(lab(a, sight) - lab(b, sight)) for a, b in combinations(colours, 2))


@pytest.mark.parametrize("sight", SIGHT)
def test_any_two_classes_differ_much_in_color_for_everyone(sight):
    assert nearest([*(COLOURS[name] for name in CLASSES), (255, 255, 255)], sight) > 40
    assert nearest([*(COLOURS[name] for name in CLASSES), FAILED], sight) > 25


def test_colors_that_are_hard_to_tell_apart_would_be_found():
    green_and_red = [(90, 160, 60), (210, 95, 60)]
    assert nearest(green_and_red, "all cones") > 40 > nearest(green_and_red, "no green")


def test_every_class_that_a_model_may_answer_has_a_color():
    assert set(COLOURS) == {*CLASSES, *NODES["carci"].classes}
    assert css(COLOURS["invasive"]) == "#a50026"
