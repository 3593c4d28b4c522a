"""Signature ``explain``, and the pictures of ``predict --explain``."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image

from bach_keras.evidence import overlay
from bach_keras.hierarchy import Hierarchy
from bach_keras.serving.explain import Pictures, file_name
from bach_keras.serving.exported import Export
from bach_keras.serving.images import as_png
from bach_keras.serving.predict import predict_files
from bach_keras.tree import NODES
from cli import cli
from datasets import phantom
from datasets.labels import CLASSES

TISSUE = np.stack([phantom.draw(label, 906, 0) for label in CLASSES])

ALONE = """
import json, sys
sys.modules["keras"] = None  # no import of it can succeed
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
answers = model.signatures["explain"](image_bytes=tf.io.read_file(sys.argv[2])[None])
assert not [name for name in sys.modules if name.split(".")[0] in ("bach_keras", "callbacks", "datasets")]
print(json.dumps({name: answers[name].numpy().tolist() for name in ("carci_map", "specialist_map")}))
"""


@pytest.fixture
def folder(tmp_path):
    """Two images of one name in two folders, and one that is broken."""
    for place, image in (("a", TISSUE[0]), ("b", TISSUE[3])):
        (tmp_path / "slides" / place).mkdir(parents=True)
        Image.fromarray(image[:, :400]).save(tmp_path / "slides" / place / "x.png")
    (tmp_path / "slides" / "c.png").write_bytes(b"no image")
    return tmp_path / "slides"


def run(*words):
    return CliRunner().invoke(cli, ["predict", *(str(word) for word in words)])


def test_its_answers_are_those_of_serving_default_and_its_maps_the_trees(export, members):
    files = tf.constant([*map(as_png, TISSUE), b"text"])
    found = export.signatures["explain"](image_bytes=files)
    expected = export.signatures["serving_default"](image_bytes=files)
    assert set(found) == {*expected, "carci_map", "specialist_map"}
    for name, value in expected.items():
        if value.dtype == tf.float32:
            np.testing.assert_allclose(found[name], value, atol=1e-6)
        else:
            np.testing.assert_array_equal(found[name], value)
    maps = Hierarchy(members).explain(TISSUE)
    for name in ("carci_map", "specialist_map"):
        np.testing.assert_allclose(found[name][:4], maps[name], atol=1e-4)
        assert not found[name][4].numpy().any()  # a broken image


def test_it_answers_with_tensorflow_alone(exported, export, tmp_path):
    (tmp_path / "tissue.png").write_bytes(as_png(TISSUE[0]))
    answer = subprocess.run(
        [sys.executable, "-c", ALONE, exported, tmp_path / "tissue.png"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    expected = export.explain([as_png(TISSUE[0])])
    for name, value in json.loads(answer.stdout).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5)


def test_rows_are_those_of_predict_and_name_the_pictures(export, folder, tmp_path):
    rows = list(predict_files(export, [folder], extras=[Pictures(export, tmp_path / "out")]))
    files = [row.pop("explanation", None) for row in rows]
    assert rows == list(predict_files(export, [folder]))
    assert files[2] is None  # of the broken image
    for row, of_image in zip(rows[:2], files[:2], strict=True):
        group = max(row["nodes"]["carci"], key=row["nodes"]["carci"].get)
        assert list(of_image) == ["carci", {"noncarcinoma": "norbe", "carcinoma": "invis"}[group]]
    written = sorted(path for of_image in files[:2] for path in of_image.values())
    assert written == sorted(str(path) for path in (tmp_path / "out").iterdir())
    assert len(set(written)) == 4
    for path in written:
        Image.open(path).verify()


def test_a_name_stays_in_its_folder_and_is_new_for_each_path():
    paths = ["a/x.png", "b/x.png", "../../x.png", "/etc/x.png", "a/..", "n" * 300, os.fsdecode(b"\xff.png"), "a/x.tif"]
    names = [file_name(path, node) for path in paths for node in NODES]
    assert len(set(names)) == len(names)
    for name in names:
        assert Path(name).name == name
        assert name.isascii()
        assert not name.startswith(".")
        assert len(name) < 100


def test_json_rows_have_it_only_when_asked(exported, folder, tmp_path):
    words = ("--model", exported, "--format", "json", folder)
    plain, shown = run(*words), run(*words, "--explain", tmp_path / "out")
    assert plain.exit_code == shown.exit_code == 1  # one image is broken
    assert "explanation" not in plain.stdout
    first, second, broken = map(json.loads, shown.stdout.splitlines())
    assert Path(first["explanation"]["carci"]).is_file()
    assert set(first["explanation"].values()).isdisjoint(second["explanation"].values())
    assert list(broken) == ["path", "error"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--server", "http://127.0.0.1:9"), "--explain needs the export itself"),
        (("--model", "MODEL", "--routing", "routed"), "leave out --routing routed"),
        (("--model", "MODEL", "--views", 8), "with the model's own views, 1"),
    ],
)
def test_what_it_cannot_explain_is_refused_in_a_sentence(exported, folder, tmp_path, words, sentence):
    result = run(*(exported if word == "MODEL" else word for word in words), "--explain", tmp_path / "out", folder)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("place", "sentence"), [("slides/out", "outside it"), ("file", "not a folder")])
def test_a_place_where_pictures_cannot_go_is_refused(exported, folder, place, sentence):
    (folder.parent / "file").write_text("mine")
    result = run("--model", exported, "--explain", folder.parent / place, folder)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
    assert not (folder / "out").exists()


def test_an_older_export_is_read_and_refused_here_in_one_sentence(exported, folder, tmp_path, monkeypatch):
    class Older:
        """What TensorFlow loads of an export without the signature."""

        def __init__(self, model):
            self.model = model
            self.signatures = {name: each for name, each in model.signatures.items() if name != "explain"}

    load = tf.saved_model.load
    monkeypatch.setattr(tf.saved_model, "load", lambda path: Older(load(path)))
    assert run("--model", exported, folder / "a").exit_code == 0
    result = run("--model", exported, "--explain", tmp_path / "out", folder)
    assert result.exit_code == 2
    assert "has no signature explain" in " ".join(result.stderr.split())


def test_a_picture_of_a_map_that_is_all_0_says_so(export, folder, tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(overlay, "write", lambda path, picture, title: titles.append(title))

    class Dark(Pictures):
        def ask(self, export, prepared):
            asked = super().ask(export, prepared)
            return asked | {"carci_map": np.zeros((1, 2, 2)), "specialist_map": np.ones((1, 2, 2))}

    list(predict_files(export, [folder / "a"], extras=[Dark(export, tmp_path / "out")]))
    assert [title.endswith(", no place speaks for it") for title in titles] == [True, False]


def test_a_map_of_other_numbers_is_an_error_row(export, folder, tmp_path):
    class Spoiled:
        outputs, side, prepared = export.outputs, export.side, export.prepared

        def explain(self, parts):
            return export.explain(parts) | {"specialist_map": np.full((len(parts), 1, 1), np.nan)}

    rows = list(predict_files(Spoiled(), [folder / "a"], extras=[Pictures(export, tmp_path / "out")]))
    assert "not of numbers from 0 to 1" in rows[0]["error"]
    assert not list((tmp_path / "out").iterdir())


def test_an_export_whose_maps_have_another_form_is_refused(exported, tmp_path):
    class Other(tf.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
        def explain(self, image_bytes):
            return self.model.signatures["serving_default"](image_bytes=image_bytes)

    model = tf.saved_model.load(str(exported))
    place = shutil.copytree(exported, tmp_path / "1")
    named = {name: each for name, each in model.signatures.items() if name != "explain"}
    other = Other(model)
    tf.saved_model.save(other, str(tmp_path / "other"), signatures={**named, "explain": other.explain})
    shutil.copytree(tmp_path / "other", place, dirs_exist_ok=True)
    with pytest.raises(ValueError, match="explain answers other things"):
        Export(place)
