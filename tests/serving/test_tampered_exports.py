"""Exports whose files were changed: each gets one sentence that names the file and the field."""

import json
import os
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from bach_keras.preprocess import View
from bach_keras.serving.exported import Export
from cli import cli
from datasets.errors import WorkError

CARD = "assets/model_card.json"


@pytest.fixture
def place(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "1")


FIELDS = [
    ("configs", "phantom"), ("configs", {"phantom": 1}), ("configs", []), ("configs", [1]), ("configs", [["phantom"]]),
    ("configs", None), ("configs", ...),
    ("trained_on", "n001.tif"), ("trained_on", {"n001.tif": 1}), ("trained_on", [1]), ("trained_on", [["a"]]),
    ("trained_on", None), ("trained_on", []), ("trained_on", ...),
    ("chosen_on", "n001.tif"), ("chosen_on", 3), ("chosen_on", [None]), ("chosen_on", ...),
    ("pixels", ["a"]), ("pixels", {"a": 1}), ("pixels", {"a": "0123"}),
    ("image_size", "32"), ("image_size", 0), ("image_size", -1), ("image_size", 10**9), ("image_size", 32.5),
    ("image_size", float("nan")), ("image_size", True), ("image_size", ...),
    ("members", {}), ("members", []), ("members", "abc"), ("members", [1, 2, 3]), ("members", ...),
    ("classes", ["a", "b"]), ("limits", 3), ("licence", []), ("stain_normalisation", 1), ("data", []),
    ("stain_normalisation", "vahadane"),
    ("index", []), ("index", {"images": 1, "thumbnails": 0, "sha256": 64 * "0"}),
    ("index", {"images": 2, "thumbnails": 0, "sha256": "x"}), ("index", {"images": 2, "sha256": 64 * "0"}),
]  # fmt: skip
OF_A_MEMBER = [
    ("node", "nobody"), ("node", []), ("node", ...), ("protocol", 3), ("protocol", []), ("source", {}),
    ("weight", 0), ("weight", "1"), ("temperature", 0), ("temperature", float("nan")), ("temperature", float("inf")),
    ("metrics", []),
]  # fmt: skip


def put(values, name, value):
    if value is ...:
        del values[name]
    else:
        values[name] = value


def assert_refused(place, *words):
    with pytest.raises(ValueError, match="is not an export of this project that can be read") as caught:
        Export(place)
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value)) < 500 + 2 * len(str(place))


@pytest.mark.parametrize(("field", "value"), FIELDS, ids=[f"{name}-{str(value)[:30]}" for name, value in FIELDS])
def test_a_field_of_the_card_that_is_wrong_is_named(place, field, value):
    card = json.loads((place / CARD).read_text())
    put(card, field, value)
    (place / CARD).write_text(json.dumps(card))
    assert_refused(place, str(place / CARD), field)


@pytest.mark.parametrize(
    ("field", "value"), OF_A_MEMBER, ids=[f"{name}-{str(value)[:30]}" for name, value in OF_A_MEMBER]
)
def test_a_field_of_a_member_that_is_wrong_is_named(place, field, value):
    card = json.loads((place / CARD).read_text())
    put(card["members"][1], field, value)
    (place / CARD).write_text(json.dumps(card))
    assert_refused(place, str(place / CARD), f"members[1].{field}")


def test_names_that_pixels_contradict_are_noticed(place):
    card = json.loads((place / CARD).read_text())
    card["pixels"] = {card["trained_on"][0]: "0123456789abcdef"}
    card["trained_on"][0] += "x"
    (place / CARD).write_text(json.dumps(card))
    assert_refused(place, "model_card.json", "pixels names")


def test_names_of_classes_that_the_card_contradicts_are_noticed(place):
    names = place / "assets" / "class_names.txt"
    names.write_text(names.read_text().replace("normal", "nosmal"))
    assert_refused(place, "class_names.txt does not name normal, benign, insitu, invasive")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (tf.errors.InvalidArgumentError(None, None, "assertion\nfailed"), "fails when it answers (assertion failed)"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), "the memory of this machine is used up"),
    ],
)
def test_a_graph_that_fails_when_it_answers_is_one_sentence(export, monkeypatch, error, words):
    def fail(**inputs):
        raise error

    monkeypatch.setattr(export, "signatures", dict.fromkeys(("images", "explain", "features"), fail))
    square = np.zeros((export.side, export.side, 3), np.uint8)
    for ask in (export.classify, export.explain, export.features):
        with pytest.raises(WorkError, match=re.escape(words)) as raised:
            ask([square])
        assert "\n" not in str(raised.value)


TEXTS = {
    "not UTF-8": b'{"configs": "\xff"}',
    "nothing": b"null",
    "nested deeply": b'{"configs":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "a name twice": b'{"configs": ["bach"], "configs": ["phantom"]}',
    "a number of many digits": b'{"configs": ' + b"9" * 10_000 + b"}",
    "huge": b'{"configs": "' + b"x" * 2**25 + b'"}',
}


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_a_card_that_is_not_our_json_gets_one_sentence(place, content):
    (place / CARD).write_bytes(content)
    assert_refused(place, str(place / CARD))


class Other(tf.Module):
    """A model of something else."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def classes(self, image_bytes):
        return {"probabilities": tf.zeros((tf.size(image_bytes), 1000)), "label": image_bytes}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "image_bytes")])
    def numbers(self, image_bytes):
        return {"probabilities": image_bytes}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def words(self, text):
        return {"label": text}


@pytest.mark.parametrize(
    ("signatures", "words"),
    [
        ([], "no signature serving_default"),
        (["words"], "serving_default takes other things than image_bytes"),
        (["numbers"], "image_bytes of serving_default is not string"),
        (["classes"], "serving_default answers other things than carci, invis"),
    ],
)
def test_a_saved_model_of_something_else_is_refused_before_it_answers(place, tmp_path, signatures, words):
    other = Other()
    named = dict(zip(["serving_default"], [getattr(other, name) for name in signatures], strict=False))
    tf.saved_model.save(other, str(tmp_path / "other"), signatures=named)
    shutil.copytree(tmp_path / "other", place, dirs_exist_ok=True)
    assert_refused(place, "saved_model.pb", words)


def test_a_card_that_claims_an_index_of_a_graph_without_distances_is_refused(place):
    card = json.loads((place / CARD).read_text())
    (place / CARD).write_text(json.dumps(card | {"index": {"images": 2, "thumbnails": 0, "sha256": 64 * "0"}}))
    assert_refused(place, "serving_default answers other things than carci, distance")


def test_each_command_that_takes_an_export_says_which_field_is_wrong(place, tree_of_runs, tmp_path):
    card = json.loads((place / CARD).read_text())
    (place / CARD).write_text(json.dumps(card | {"trained_on": "n001.tif"}))
    runs = [word for node, folder in tree_of_runs.items() for word in (f"--{node}", folder)]
    for words in (
        ["predict", "--model", place, tmp_path],
        ["serve", "--model", place, "--port", "0", "--grpc-port", "0"],
        ["evaluate", "--model", place, "--config", "phantom", "--out", tmp_path / "out"],
        ["parity", *runs, "--model", place, tree_of_runs["carci"] / "lr_range_test.png"],
    ):
        result = CliRunner().invoke(cli, [str(word) for word in words])
        assert result.exit_code == 2, words
        assert isinstance(result.exception, SystemExit)
        assert f"{place / CARD}: trained_on must be a list of text" in " ".join(result.output.split())


def test_a_card_of_an_older_export_is_read(place):
    card = json.loads((place / CARD).read_text())
    for name in ("name", "classes", "nodes", "data", "licence", "limits", "stain_normalisation"):
        del card[name]
    for member in card["members"]:
        del member["protocol"], member["metrics"]
    (place / CARD).write_text(json.dumps(card))
    assert Export(place).configs == ("phantom",)
    assert Export(place).view == View(32)
    np.testing.assert_allclose(np.sum(Export(place).images(np.zeros((1, 32, 32, 3), np.uint8))["carci"]), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["fingerprint.pb", "variables/variables.index", CARD, "pipe"])
def test_a_pipe_or_a_device_among_its_files_is_refused_and_not_waited_for(place, name):
    (place / name).unlink(missing_ok=True)
    os.mkfifo(place / name)
    assert_refused(place, f"{name} is a pipe, a device or a socket")
    (place / name).unlink()
    (place / name).symlink_to("/dev/zero")
    assert_refused(place, f"{name} is a pipe, a device or a socket")


@pytest.mark.parametrize("content", [b"\xff" * 40, bytes(2**16 + 1), None])
def test_a_fingerprint_that_tensorflow_cannot_read_is_refused(place, content):
    path = place / "fingerprint.pb"
    path.unlink()
    Export(place)  # it is not needed
    path.mkdir() if content is None else path.write_bytes(content)
    assert_refused(place, "fingerprint.pb is damaged")
