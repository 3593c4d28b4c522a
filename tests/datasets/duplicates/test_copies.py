"""Copies are found among many images, once, in the order that is asked for, and nothing is taken for one."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from benchmarks.audit_scores import Change, plant, restain
from datasets import phantom
from datasets.duplicates.copies import Copy, Sketchbook
from datasets.duplicates.sketch import Sketch
from datasets.labels import CLASSES


@pytest.fixture(scope="module")
def tissue():
    return {label: phantom.draw(label, 420 + number, 0) for number, label in enumerate(CLASSES)}


def copies(images, *wanted):
    with Sketchbook() as sketches:
        for name, image in images.items():
            sketches.add(name, image)
        return sketches.find_copies(*wanted)


def named(found):
    return sorted((copy.first, copy.second) for copy in found)


def test_a_sketch_may_be_made_elsewhere(tissue):
    images = {"a": tissue["benign"], "b": np.ascontiguousarray(tissue["benign"][::-1])}
    assert copies({name: Sketch.of(image) for name, image in images.items()}) == copies(images)


def test_the_first_is_that_which_is_wanted_first(tissue):
    mirrored = np.ascontiguousarray(tissue["benign"][:, ::-1])
    images = {"own/a": tissue["benign"], "bach/b": mirrored, "bach/c": mirrored, "own/d": tissue["normal"]}
    assert named(copies(images)) == [("bach/b", "bach/c"), ("own/a", "bach/b"), ("own/a", "bach/c")]
    found = copies(images, lambda first, second: first.startswith("bach") and second.startswith("own"))
    assert named(found) == [("bach/b", "own/a"), ("bach/c", "own/a")]
    assert copies(images, lambda first, second: False) == []


def test_what_brings_the_second_onto_the_first_is_told_in_its_pixels(tissue):
    first, second = plant(tissue["insitu"], Change(shift=0.2, angle=30, scale=1.25, mirrored=True))
    (found,) = copies({"a": np.asarray(Image.fromarray(first).resize((960, 720))), "b": second})
    assert (found.mirrored, found.orientation) == (True, "turned 30 and mirrored")
    assert found.scale == pytest.approx(720 / first.shape[0] / 1.25, rel=0.01)
    # Turned back and reduced, the copy is a box of its own; its centre is that of the second window.
    height, width = first.shape[:2]
    box = [np.cos(np.pi / 6) * one + np.sin(np.pi / 6) * two for one, two in ((width, height), (height, width))]
    centre = [(shift + side / 2) / (720 / height) for shift, side in
              zip((found.right, found.down), (found.scale * box[0], found.scale * box[1]), strict=True)]  # fmt: skip
    assert centre == pytest.approx([width * 0.7, height * 0.7], abs=3)


@pytest.mark.parametrize(
    ("angle", "mirrored", "words"),
    [
        (0.3, False, "as it is"),
        (359.7, True, "mirrored"),
        (90, True, "turned 90 and mirrored"),
        (6.8, False, "turned 7"),
    ],
)
def test_the_eight_orientations_keep_their_words(angle, mirrored, words):
    assert Copy("a", "b", 0.9, angle, mirrored, 1.0, 0, 0, 1.0).orientation == words


def test_many_copies_of_one_image_are_all_found(tissue):
    sketch = Sketch.of(tissue["invasive"])
    assert len(copies({str(number): sketch for number in range(12)})) == 12 * 11 / 2


def test_of_many_copies_those_most_alike_are_kept_on_the_way_and_all_are_counted(tissue):
    # A symmetric image is a copy of itself both as it is and mirrored, which counts once.
    half = tissue["invasive"][:, :192]
    symmetric = np.concatenate([half, half[:, ::-1]], axis=1)
    with Sketchbook() as sketches:
        for number in range(9):
            sketches.add(f"a{number}", plant(tissue["benign"], Change(shift=number / 30))[1])
        for number in range(3):
            sketches.add(f"b{number}", symmetric[number * 8 :])
        found, kept = sketches.find_copies(), sketches.find_most_alike(most=5)
        assert kept == (found[:5], len(found)) == sketches.find_most_alike(lambda first, second: True, 5)
        assert sketches.find_most_alike(most=10_000) == (found, len(found))
    assert len(found) > 30
    assert len(set(named(found))) == len(found)


def labelled(image):
    """Burn in a scale bar and a long label."""
    picture = Image.fromarray(image)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(18)
    pen.rectangle((250, 260, 350, 266), fill="black")
    pen.text((250, 235), "100 µm", fill="black", font=font)
    pen.text((10, 10), "Breast cancer study 7", fill="black", font=font)
    return np.asarray(picture)


def test_a_label_burnt_into_other_images_makes_no_copies_of_them(tissue):
    glass = np.full((288, 384, 3), 245, np.uint8)
    images = {label: labelled(image) for label, image in (tissue | {"glass": glass}).items()}
    assert copies(images) == []
    images["copy"] = labelled(plant(tissue["benign"], Change(angle=7, colour=restain))[1])
    assert named(copies(images)) == [("benign", "copy")]


def test_what_is_no_tissue_is_not_taken_for_a_copy():
    rng = np.random.default_rng(3)
    down, right = np.mgrid[:288, :384]
    shade = 240 - 15 * ((right - 192) ** 2 + (down - 144) ** 2) / 192**2
    channels = [np.full((288, 384), value) for value in (0, 128, 255)]  # one colour
    channels += [shade + rng.normal(0, 2, shade.shape) for _ in range(2)]  # empty glass under one lamp
    channels += [rng.integers(0, 255, shape) for shape in ((1, 1), (5, 3), (30, 2000), (288, 384), (288, 384))]
    channels += [127 + 100 * np.sin(right / period) * np.sin(down / period) for period in (1.5, 4, 9)]
    channels += [255 * (Image.fromarray(rng.integers(0, 2, (9, 12), np.uint8)).resize((384, 288)) > np.array(0))
                 for _ in range(3)]  # masks  # fmt: skip
    images = {str(number): np.stack([np.clip(one, 0, 255).astype(np.uint8)] * 3, axis=-1)
              for number, one in enumerate(channels)}  # fmt: skip
    assert named(copies(images)) == []


def test_the_file_of_sketches_is_gone_once_closed(tissue):
    with Sketchbook() as sketches:
        sketches.add("a", tissue["normal"])
    with pytest.raises(ValueError, match="closed file"):
        sketches.add("b", tissue["normal"])


def test_a_search_among_none_finds_nothing():
    assert copies({}) == []
