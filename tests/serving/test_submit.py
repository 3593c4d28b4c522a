"""The challenge's answer file: every case once, or no file."""

import csv
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from PIL import Image

from bach_keras.serving.predict import predict_files
from bach_keras.serving.submit import check_model, find_cases, missing_cases
from cli import cli
from datasets import phantom
from datasets.errors import MissingError, UserError
from datasets.labels import CLASSES


@pytest.fixture
def images(tmp_path):
    """A folder of images named as the challenge names them, more than a batch."""
    folder = tmp_path / "Photos"
    folder.mkdir()
    for number in range(11):
        pixels = phantom.draw(CLASSES[number % 4], 900 + number, 0)
        Image.fromarray(pixels[::4, ::4]).save(folder / f"test{number}.tif")
    return folder


def submit(exported, out, folder):
    return CliRunner().invoke(cli, ["submit", "--model", str(exported), "--out", str(out), str(folder)])


def test_the_file_holds_the_class_of_each_case_in_the_order_of_the_numbers(exported, export, images, tmp_path):
    out = tmp_path / "new" / "pred.csv"
    result = submit(exported, out, images)
    assert result.exit_code == 0
    assert f"wrote {out}: 11 cases" in result.stdout
    head, *rows = csv.reader(out.read_text().splitlines())
    assert head == ["case", "class"]
    assert [int(case) for case, _ in rows] == list(range(11))
    paths = [images / f"test{number}.tif" for number in range(11)]
    labels = [row["label"] for row in predict_files(export, paths)]
    assert [int(number) for _, number in rows] == [CLASSES.index(label) for label in labels]
    assert out.read_bytes().endswith(b"\n")
    assert b"\r" not in out.read_bytes()


def test_the_models_warnings_and_the_cases_that_are_missing_go_to_stderr(exported, images, tmp_path):
    result = submit(exported, tmp_path / "pred.csv", images)
    assert "learned from synthetic phantom images" in result.stderr
    assert "has 89 cases that" in result.stderr
    assert "11, 12, 13, 14, 15, ..." in result.stderr


def test_cases_that_the_challenge_does_not_have_are_named(exported, images, tmp_path):
    (images / "test9.tif").rename(images / "test100.tif")
    result = submit(exported, tmp_path / "pred.csv", images)
    assert f"{images} has 1 case that the challenge's test set lacks: 100." in result.stderr


@pytest.mark.parametrize("classes", [("normal", "benign"), ("noncarcinoma", "carcinoma")])
def test_a_node_by_itself_is_refused(classes):
    with pytest.raises(UserError, match=f"m/1 answers {classes[0]}, {classes[1]} .* export a whole tree"):
        check_model(SimpleNamespace(classes=classes, folder="m/1"))


def test_an_image_is_never_written_over(exported, images):
    before = (images / "test3.tif").read_bytes()
    result = submit(exported, images / "test3.tif", images)
    assert result.exit_code == 2
    assert "test3.tif is one of the images to answer for" in result.stderr
    assert (images / "test3.tif").read_bytes() == before


def test_the_challenges_hundred_cases_lack_none():
    assert missing_cases(range(100)) == []
    assert missing_cases([*range(50), *range(51, 100)]) == [50]


def test_an_image_that_cannot_be_read_ends_with_1_and_nothing_is_written(exported, images, tmp_path):
    out = tmp_path / "pred.csv"
    out.write_text("of before")
    (images / "test9.tif").write_bytes(b"no image")
    result = submit(exported, out, images)
    assert result.exit_code == 1
    assert f"{out} was not written, as {images / 'test9.tif'} has no answer" in result.stderr
    assert out.read_text() == "of before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Photos", "pred.csv"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("slide.tif", r"slide\.tif has no number in its name, so it is not known which case it is"),
        ("test1_2.tif", r"test1_2\.tif has the numbers 1, 2 in its name"),
        ("test07.png", r"test07\.png and .*test7\.tif are both case 7"),
        ("more/test7.tif", r"test7\.tif and .*test7\.tif are both case 7"),
        ("test².tif", "has no number"),
    ],
)
def test_a_folder_that_does_not_hold_each_case_once_is_refused(images, name, sentence):
    (images / name).parent.mkdir(exist_ok=True)
    (images / name).write_bytes(b"not looked at")
    with pytest.raises(UserError, match=sentence):
        find_cases(images)


def test_what_is_no_folder_of_images_is_refused(images, tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        find_cases(images / "test0.tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="holds no image"):
        find_cases(tmp_path / "empty")


def test_mistakes_end_with_2_before_the_model_is_read(images, tmp_path):
    (tmp_path / "file").write_text("")
    for out, folder, sentence in (
        (tmp_path, images, "is a folder: name a file"),
        (tmp_path / "file" / "pred.csv", images, "cannot be written"),
        (tmp_path / "pred.csv", tmp_path / "none", "is not a folder"),
        (tmp_path / "pred.csv", images, "no saved_model.pb"),
    ):
        result = submit(tmp_path / "no model", out, folder)
        assert (result.exit_code, result.stdout) == (2, "")
        assert sentence in result.stderr
