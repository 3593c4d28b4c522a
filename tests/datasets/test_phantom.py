import csv
from collections import Counter
from itertools import groupby

import numpy as np
import pytest
from PIL import Image

from datasets import phantom
from datasets.catalogue import PHANTOM
from datasets.labels import CLASSES
from datasets.splits import make_split


@pytest.fixture(scope="module")
def colours():
    """Mean colour of two images of each of the last 120 patients, of whom 40 are for the test."""
    records = [
        record
        for group, images in groupby(PHANTOM.records, key=lambda record: record.group)
        if group >= f"p{phantom.PATIENTS - 120}"
        for record in list(images)[:2]
    ]
    means = np.array([phantom.draw_named(record.filename).mean(axis=(0, 1)) for record in records])
    return records, means


@pytest.mark.parametrize("label", CLASSES)
def test_same_arguments_give_the_same_bytes(label):
    first = phantom.draw(label, patient=3, index=1)
    assert first.shape == (288, 384, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, phantom.draw(label, patient=3, index=1))


@pytest.mark.parametrize(
    ("label", "mean"),
    [
        ("normal", (208.02, 135.27, 217.76)),
        ("benign", (194.27, 119.69, 213.61)),
        ("insitu", (201.85, 125.7, 215.85)),
        ("invasive", (200.18, 118.12, 214.34)),
    ],
)
def test_the_phantoms_are_those_that_were_published(label, mean):
    np.testing.assert_allclose(phantom.draw(label, 7, 2).mean(axis=(0, 1)), mean, atol=0.01)


@pytest.mark.parametrize(
    ("label", "least", "most"),
    [("normal", 0.2, 0.7), ("benign", 0.6, 0.95), ("insitu", 0.1, 0.6), ("invasive", 0.15, 0.6)],
)
def test_the_structure_that_makes_the_class_is_told_and_the_image_stays_the_same(label, least, most):
    image, structure = phantom.draw_with_structure(label, 3, 1)
    np.testing.assert_array_equal(image, phantom.draw(label, 3, 1))
    assert structure.shape == image.shape[:2]
    assert least < structure.mean() < most


@pytest.mark.parametrize(("label", "patient"), [("insitu", 6), ("invasive", 7)])
def test_the_dark_nuclei_of_carcinoma_lie_in_its_structure(label, patient):
    image, structure = phantom.draw_with_structure(label, patient, 0)
    dark = image[..., 0] < np.quantile(image[..., 0], 0.1)
    assert structure[dark].mean() > 0.95


def test_label_patient_index_and_seed_each_change_the_image():
    images = [
        phantom.draw("benign", 3, 1),
        phantom.draw("insitu", 3, 1),
        phantom.draw("benign", 4, 1),
        phantom.draw("benign", 3, 2),
        phantom.draw("benign", 3, 1, seed=1),
    ]
    assert len({image.tobytes() for image in images}) == 5


def test_a_name_draws_what_it_says():
    name = phantom.filename("insitu", 6, 2)
    assert name == "phantom-insitu-p006-2.png"
    np.testing.assert_array_equal(phantom.draw_named(name), phantom.draw("insitu", 6, 2))


def test_bad_names_and_labels_are_refused():
    with pytest.raises(ValueError, match="not the name of a phantom"):
        phantom.draw_named("n001.tif")
    with pytest.raises(ValueError, match=r"no phantom of 'malignant'.*normal, benign, insitu, invasive"):
        phantom.draw("malignant", 0, 0)


def test_mean_colour_does_not_give_the_class_away(colours):
    records, means = colours
    split = make_split(PHANTOM.records, "phantom", "patient")
    labels = np.array([CLASSES.index(record.label) for record in records])
    train = np.array([split[record.filename] == "train" for record in records])
    centres = np.array([means[train & (labels == label)].mean(axis=0) for label in range(4)])
    nearest = np.linalg.norm(means[~train, None] - centres, axis=2).argmin(axis=1)
    assert np.mean(nearest == labels[~train]) < 0.45


def test_colour_gives_the_patient_away(colours):
    """A split that parts patients must leak, or the phantom could not show that one does."""
    records, means = colours
    groups = np.array([record.group for record in records])
    labels = np.array([record.label for record in records])
    distances = np.linalg.norm(means[:, None] - means, axis=2)
    np.fill_diagonal(distances, np.inf)
    leaky = np.mean(labels[distances.argmin(axis=1)] == labels)
    distances[groups[:, None] == groups] = np.inf
    clean = np.mean(labels[distances.argmin(axis=1)] == labels)
    assert leaky > clean + 0.15


def test_labelled_phantoms_lie_as_a_users_own_images_do(tmp_path):
    phantom.main(tmp_path / "mine", "1")
    with (tmp_path / "mine" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows[:2]] == ["normal/p000-0.png", "normal/p000-1.png"]
    assert Counter((row["label"], row["patient"]) for row in rows) == {
        (label, f"p00{number}"): phantom.IMAGES_PER_PATIENT for number, label in enumerate(CLASSES)
    }
    pixels = np.asarray(Image.open(tmp_path / "mine" / rows[-1]["path"]))
    # None of them is an image of the data set.
    np.testing.assert_array_equal(pixels, phantom.draw("invasive", 3, 4, seed=1))
    assert (pixels != phantom.draw("invasive", 3, 4)).any()
