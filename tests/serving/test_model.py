"""The way in from Python: the same rows as ``predict --format json``, for files and for arrays."""

import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image

from bach_keras import load
from bach_keras.serving.exported import Export
from bach_keras.serving.model import Model
from bach_keras.serving.predict import answer_batch
from bach_keras.serving.remote.server import Server
from bach_keras.serving.views import with_views
from cli import cli
from datasets.errors import UserError
from tests.serving.conftest import IMAGES

SHAPES = (slice(None), slice(1, 200), slice(None, None, 2))


@pytest.fixture(scope="module")
def export(knowing):
    return Export(knowing)


@pytest.fixture(scope="module")
def model(export):
    return Model(export)


@pytest.fixture(scope="module")
def pixels():
    """More images than go into one batch, of several sizes."""
    return [np.ascontiguousarray(image[SHAPES[number % 3]]) for number, image in enumerate(IMAGES[:10])]


@pytest.fixture(scope="module")
def folder(pixels, tmp_path_factory):
    """The same as files, and one that is broken."""
    place = tmp_path_factory.mktemp("images")
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(place / f"{number}.{'png' if number % 2 else 'tif'}")
    (place / "broken.png").write_bytes(b"no image")
    return place


def printed(export, *words):
    """Return the rows that the command prints."""
    words = ["predict", "--model", str(export.folder), "--format", "json", *map(str, words)]
    return [json.loads(line) for line in CliRunner().invoke(cli, words).stdout.splitlines()]


def without_path(rows):
    return [{name: value for name, value in row.items() if name != "path"} for row in rows]


def test_rows_are_those_of_the_command_to_the_bit(model, export, folder):
    found = model.predict(folder)
    assert found == printed(export, folder)
    assert [row["path"] for row in found if "error" in row] == [str(folder / "broken.png")]


def test_so_are_those_with_options(model, export, folder):
    words = ["--routing", "routed", "--um-per-pixel", ".5", "--icc", "apply", "--neighbours", 2, folder / "1.png"]
    options = {"routing": "routed", "um_per_pixel": 0.5, "icc": "apply", "neighbours": 2}
    assert model.predict(folder / "1.png", **options) == printed(export, *words)


def test_arrays_answer_as_the_files_of_the_same_pixels(model, folder, pixels):
    files = sorted(folder.glob("[0-9].*"))
    found = model.predict(pixels)
    assert without_path(found) == without_path(model.predict(files))
    assert [row["path"] for row in found] == [f"images[{number}]" for number in range(10)]
    mixed = model.predict([files[0], pixels[1], str(files[2])])
    assert [row["path"] for row in mixed] == [str(files[0]), "images[1]", str(files[2])]
    assert [row["label"] for row in mixed] == found.labels[:3]


def test_several_views_are_averaged(export, pixels):
    found = Model(export, views=8).predict(pixels[0])
    assert without_path(found)[0].items() >= answer_batch(with_views(export, 8), pixels[:1])[0].items()
    assert found[0]["spread"] > 0


def test_an_explanation_has_a_picture_of_each_node_on_the_path(model, pixels, tmp_path):
    (row,) = model.predict(pixels[0], explain=tmp_path / "maps")
    assert {*row["explanation"].values()} == {str(place) for place in (tmp_path / "maps").iterdir()}
    specialist = "norbe" if row["nodes"]["carci"]["noncarcinoma"] > 0.5 else "invis"
    assert [*row["explanation"]] == ["carci", specialist]


def test_a_server_answers_as_the_export_does(export, model, folder):
    with Server(export) as server:
        remote = load(server.rest_url)
        assert without_path(remote.predict(folder)) == without_path(model.predict(folder))
        with pytest.raises(UserError, match="neighbours needs the export itself: load its folder"):
            remote.predict(folder, neighbours=1)
    assert remote.classes == model.classes
    assert "on a server" in repr(remote)


def test_arrays_are_taken_in_every_form_that_is_clear(model, pixels):
    image = pixels[0]
    grey = image[..., 1]
    opaque = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    (expected,) = without_path(model.predict(image))
    for given in ([image], (image,), image[None], tf.constant(image), opaque):
        assert without_path(model.predict(given)) == [expected]
    shades = model.predict([grey, grey[..., None], np.dstack([grey] * 3)])
    assert without_path(shades)[0] == without_path(shades)[1] == without_path(shades)[2] != expected
    clear = np.dstack([image, np.zeros(image.shape[:2], np.uint8)])
    glass = np.full_like(image, 255)
    assert model.predict(clear).probabilities.tolist() == model.predict(glass).probabilities.tolist()


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (np.zeros((8, 8, 3), np.float32), r"images\[0\] is float32, of which nobody can tell whether 1 is white"),
        (np.zeros((8, 8, 3), np.uint16), r"images\[0\] is uint16: give uint8"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool)], r"images\[1\] is bool"),
        (np.zeros((2, 8, 8), np.uint8), r"the shape \[2, 8, 8\]: give \[height, width, 3\], or a list"),
        ([Image.new("P", (8, 8))], r"convert\('RGB'\)"),
        ([b"bytes"], "is a bytes, and neither a path nor a uint8 array"),
        (Image.new("P", (8, 8)), r"convert\('RGB'\)"),
        (3, "is a int, and neither"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_answered(model, images, sentence):
    with pytest.raises(UserError, match=sentence):
        model.predict(images)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"routing": "hard"}, "choose 'soft' or 'routed'"),
        ({"icc": "no"}, "choose 'note' or 'apply'"),
        ({"um_per_pixel": 0}, "um_per_pixel is 0"),
        ({"um_per_pixel": float("nan")}, "um_per_pixel is nan"),
        ({"neighbours": 0}, "^neighbours is 0"),
        ({"neighbours": 0, "explain": "x"}, "^neighbours is 0"),
        ({"neighbours": 17, "explain": "x"}, "^neighbours=17 is more than the 16 training images"),
        ({"explain": "x", "routing": "routed"}, "leave out routing='routed'"),
    ],
)
def test_an_option_that_is_not_there_is_refused(model, pixels, options, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=sentence):
        model.predict(pixels[0], **options)
    with pytest.raises(UserError, match="views is 3"):
        Model(model.export, views=3)
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_is_not_accepted_is_a_row(model, pixels):
    found = model.predict([np.zeros((1, 80, 3), np.uint8), pixels[0], np.zeros((0, 8, 3), np.uint8)])
    assert found[0] == {
        "path": "images[0]",
        "error": "images[0] has 80x1 pixels; at most 50 times as long as wide is taken.",
    }
    assert "nothing to see" in found[2]["error"]
    assert found.labels == [None, found[1]["label"], None]
    assert np.isnan(found.probabilities).all(axis=1).tolist() == [True, False, True]


def test_probabilities_are_in_the_order_of_the_classes_and_a_table_is_printed(model, pixels):
    found = model.predict(pixels[:3])
    assert found.probabilities.dtype == np.float32
    assert [model.classes[place] for place in found.probabilities.argmax(axis=1)] == found.labels
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines] == found.labels
    nothing = model.predict([])
    assert (nothing, nothing.probabilities.shape, str(nothing)) == ([], (0, 4), "")


def test_the_warning_of_phantoms_is_logged_each_time_a_model_is_loaded(export, caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert Model(export).warnings
    said = [record.message for record in caplog.records if record.name.startswith("bach_keras")]
    assert len([line for line in said if "learned from synthetic phantom images" in line]) == 2


def test_importing_the_package_brings_nothing_heavy_and_another_datasets_is_named(tmp_path):
    code = "import sys, bach_keras; print([name for name in ('tensorflow', 'numpy') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("")
    code = f"import sys, bach_keras; sys.path.insert(0, {str(tmp_path)!r}); bach_keras.load('x')"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = answer.stderr.splitlines()[-1]
    assert last.startswith("ImportError: bach_keras needs its own folder datasets/")
    assert str(tmp_path / "datasets") in last
