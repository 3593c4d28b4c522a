from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image

from bach_keras.evidence import contact_sheet
from bach_keras.preprocess import centre_crop, resize_shorter
from cli import cli
from datasets import phantom
from datasets.catalogue import Record
from tests.full_disk import fill_the_disk

SIZE = 32
PHANTOMS = [tf.constant(phantom.draw(label, patient, 0)[::9, ::8]) for label, patient in (("benign", 1), ("normal", 0))]


@pytest.fixture(scope="module")
def rows():
    return contact_sheet.rows(PHANTOMS, SIZE, seed=1, stain_jitter=0.2, brightness=0.2)


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


def test_the_sheet_is_written_whole_with_the_labels_in_turns(few_phantoms, tmp_path, monkeypatch):
    names = few_phantoms.files["train"]
    records = [Record(name, few_phantoms.labels[name], "", "phantom") for name in names]
    prepared = SimpleNamespace(records=records, load=few_phantoms.images)
    monkeypatch.setattr(contact_sheet, "Prepared", lambda *given: prepared)
    shown = contact_sheet.write_contact_sheet(tmp_path / "a.png", "phantom", None, 4, SIZE, 0, 0.2, 0.2)
    assert sorted(few_phantoms.labels[name] for name in shown) == sorted(phantom.CLASSES)
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.width > 4 * SIZE
        assert sheet.height > 10 * SIZE
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_names_are_those_of_the_pictures_from_left_to_right(few_phantoms, tmp_path, monkeypatch):
    records = [Record(name, few_phantoms.labels[name], "", "phantom") for name in few_phantoms.files["train"]]
    # Records come in an order of their own, here the reverse of what was asked for.
    prepared = SimpleNamespace(records=records, load=lambda some: few_phantoms.images(some[::-1]))
    monkeypatch.setattr(contact_sheet, "Prepared", lambda *given: prepared)
    shown = contact_sheet.write_contact_sheet(tmp_path / "a.png", "phantom", None, 4, SIZE, 0, 0.2, 0.2)
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    for column, name in enumerate(shown):
        left, top = contact_sheet._GAP + column * (SIZE + contact_sheet._GAP), contact_sheet._TITLE
        image = resize_shorter(tf.constant(phantom.draw_named(name)[::4, ::4]), SIZE)
        np.testing.assert_array_equal(pixels[top : top + SIZE, left : left + SIZE], centre_crop(image, SIZE), name)


def test_a_full_disk_is_told_with_the_path_and_leaves_nothing(few_phantoms, tmp_path, monkeypatch):
    records = [Record(name, few_phantoms.labels[name], "", "phantom") for name in few_phantoms.files["train"]]
    prepared = SimpleNamespace(records=records, load=few_phantoms.images)
    monkeypatch.setattr(contact_sheet, "Prepared", lambda *given: prepared)
    fill_the_disk(tmp_path / "a.png")
    with pytest.raises(OSError, match=r"a\.png cannot be written: No space left on device\.$"):
        contact_sheet.write_contact_sheet(tmp_path / "a.png", "phantom", None, 1, SIZE, 0, 0.2, 0.2)
    assert list(tmp_path.iterdir()) == []


def test_bad_requests_get_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not there"):
        contact_sheet.write_contact_sheet(tmp_path / "nowhere/a.png", "phantom", None, 4, SIZE, 0, 0.2, 0.2)
    with pytest.raises(IsADirectoryError, match="is a folder: name a PNG file"):
        contact_sheet.write_contact_sheet(tmp_path, "phantom", None, 4, SIZE, 0, 0.2, 0.2)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--images", 0), ("--image-size", 31), ("--seed", -1), ("--stain-jitter", 1), ("--brightness", -0.1)],
)
def test_a_number_out_of_its_range_starts_nothing(option, value):
    result = CliRunner().invoke(cli, ["data", "show", "--out", "a.png", option, str(value)])
    assert result.exit_code == 2
    assert f"'{option}': {value}" in result.output
