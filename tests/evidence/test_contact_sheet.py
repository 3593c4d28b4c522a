from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image

from bach_keras.evidence import contact_sheet
from bach_keras.evidence.contact_sheet import Settings, write_contact_sheet
from bach_keras.preprocess import centre_crop, resize_shorter
from cli import cli
from datasets import phantom
from datasets.catalogue import Record
from datasets.errors import MissingError, UserError, WorkError
from tests.full_disk import fill_the_disk

SIZE = 32
SETTINGS = Settings(SIZE, seed=0, stain_jitter=0.2, brightness=0.2)
PHANTOMS = [tf.constant(phantom.draw(label, patient, 0)[::9, ::8]) for label, patient in (("benign", 1), ("normal", 0))]


class FewPrepared:
    """Stands in for a prepared data set of a few phantoms, which come in an order of their own when they are read."""

    def __init__(self, few_phantoms):
        self.data = few_phantoms
        self.records = [Record(name, few_phantoms.labels[name], "", "phantom") for name in few_phantoms.files["train"]]

    def load(self, names):
        return self.data.images(names[::-1])


@pytest.fixture
def prepared(few_phantoms):
    return FewPrepared(few_phantoms)


@pytest.fixture(scope="module")
def rows():
    return contact_sheet.rows(PHANTOMS, replace(SETTINGS, seed=1))


def test_a_row_for_each_operation_and_each_changes_the_picture(rows):
    first, *others = rows
    assert first == "as prepared, the central square"
    assert len(others) == 9
    for title in others:
        assert rows[title].shape == (2, SIZE, SIZE, 3)
        assert not np.array_equal(rows[title], rows[first]), title


def test_each_row_shows_its_operation_alone(rows):
    for number, image in enumerate(PHANTOMS):
        square = centre_crop(image, SIZE).numpy()
        np.testing.assert_array_equal(rows["as prepared, the central square"][number], square)
        assert any(np.array_equal(rows["reflection"][number], shown) for shown in (square, square[:, ::-1]))
        starts = (0, (image.shape[1] - SIZE) // 2, image.shape[1] - SIZE)
        crop = rows["left, centre or right crop"][number]
        assert any(np.array_equal(crop, image[:, start : start + SIZE]) for start in starts)


def test_the_sheet_alone_is_written_with_each_label_once(prepared, tmp_path):
    shown = write_contact_sheet(tmp_path / "a.png", prepared, 4, SETTINGS)
    assert sorted(prepared.data.labels[name] for name in shown) == sorted(phantom.CLASSES)
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.width > 4 * SIZE
        assert sheet.height > 10 * SIZE
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_names_are_those_of_the_pictures_from_left_to_right(prepared, tmp_path):
    shown = write_contact_sheet(tmp_path / "a.png", prepared, 4, SETTINGS)
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    for column, name in enumerate(shown):
        left, top = contact_sheet.GAP + column * (SIZE + contact_sheet.GAP), contact_sheet.TITLE
        image = resize_shorter(tf.constant(phantom.draw_named(name)[::4, ::4]), SIZE)
        np.testing.assert_array_equal(pixels[top : top + SIZE, left : left + SIZE], centre_crop(image, SIZE), name)


def test_a_full_disk_is_reported_with_the_path_and_leaves_nothing(prepared, tmp_path):
    fill_the_disk(tmp_path / "a.png")
    with pytest.raises(WorkError, match=r"a\.png cannot be written: No space left on device\.$"):
        write_contact_sheet(tmp_path / "a.png", prepared, 1, SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused(prepared, tmp_path):
    with pytest.raises(MissingError, match="nowhere is not there"):
        write_contact_sheet(tmp_path / "nowhere/a.png", prepared, 4, SETTINGS)
    with pytest.raises(UserError, match="is a folder: name a PNG file"):
        write_contact_sheet(tmp_path, prepared, 4, SETTINGS)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--images", 0), ("--image-size", 31), ("--seed", -1), ("--stain-jitter", 1), ("--brightness", -0.1)],
)
def test_a_number_out_of_its_range_starts_nothing(option, value):
    result = CliRunner().invoke(cli, ["data", "show", "--out", "a.png", option, str(value)])
    assert result.exit_code == 2
    assert f"'{option}': {value}" in result.output
