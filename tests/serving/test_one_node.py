"""One node by itself, exported and asked."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bach_keras.hierarchy import Hierarchy
from bach_keras.provenance import Provenance
from bach_keras.serving.card import as_markdown
from bach_keras.serving.export import export_tree
from bach_keras.serving.exported import Export
from bach_keras.serving.images import as_png
from bach_keras.serving.parity import measure, open_forms
from bach_keras.serving.predict import answer_batch
from bach_keras.serving.remote.client import Remote
from bach_keras.serving.remote.server import Server
from bach_keras.tree import NODES
from cli import cli
from datasets.errors import UserError
from tests.serving.conftest import IMAGES


@pytest.fixture(scope="module")
def members(sure_members):
    """Two members of carci."""
    origin = Provenance(frozenset({"trained.png"}), frozenset(), frozenset({"paper"}))
    carci = dataclasses.replace(sure_members[0], provenance=origin)
    return [carci, dataclasses.replace(carci, weight=0.5, temperature=3.0)]


@pytest.fixture(scope="module")
def export(members, tmp_path_factory):
    return Export(export_tree(members, tmp_path_factory.mktemp("carci") / "1"))


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_every_signature_answers_as_the_node(export, members):
    expected = Hierarchy(members).images(np.stack(IMAGES[:4]))
    files = [*map(as_png, IMAGES[:4]), b"text"]
    for signature in ("serving_default", "routed"):
        answers = export.signatures[signature](image_bytes=np.array(files))
        assert set(answers) == {"probabilities", "label", "carci", "ok"}
        np.testing.assert_allclose(answers["carci"][:4], expected["carci"], atol=1e-5)
        np.testing.assert_array_equal(answers["probabilities"], answers["carci"])
        assert answers["label"].numpy().tolist() == [*expected["label"].numpy().tolist(), b""]
    for routing in ("soft", "routed"):
        np.testing.assert_allclose(export.images(np.stack(IMAGES[:4]), routing)["carci"], expected["carci"], atol=1e-5)


def test_rows_have_two_probabilities_and_the_nodes_that_are_there(export):
    rows = answer_batch(export, IMAGES[:4])
    assert rows == answer_batch(export, IMAGES[:4], "routed") == answer_batch(export, list(map(as_png, IMAGES[:4])))
    for row in rows:
        assert list(row["probabilities"]) == ["noncarcinoma", "carcinoma"]
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)
        assert row["nodes"] == {"carci": row["probabilities"], "norbe": None, "invis": None}
        assert row["unsure"] is row["set"] is row["spread"] is None
    assert {row["label"] for row in rows} == {"noncarcinoma", "carcinoma"}


@pytest.mark.parametrize("transport", ["rest_url", "grpc_url"])
def test_a_served_node_answers_as_the_export(export, transport):
    with Server(export) as server:
        assert answer_batch(Remote(getattr(server, transport)), IMAGES[:4]) == answer_batch(export, IMAGES[:4])


def test_predict_shows_the_nodes_classes(export, tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(IMAGES[0]).save(tmp_path / name)
    (tmp_path / "a.png").write_bytes(b"no image")
    words = ("predict", "--model", export.folder, tmp_path)
    _, row = [json.loads(line) for line in run(*words, "--format", "json").stdout.splitlines()]
    error, line = csv.DictReader(io.StringIO(run(*words, "--format", "csv").stdout))
    assert list(line)[:4] == ["path", "label", "noncarcinoma", "carcinoma"]
    assert float(line["carcinoma"]) == row["probabilities"]["carcinoma"]
    assert error["error"]
    assert f"noncarcinoma {row['probabilities']['noncarcinoma']:.3f}  carcinoma" in run(*words).stdout


def test_the_card_and_the_class_names_are_the_nodes(export):
    assert (export.card["kind"], export.card["node"]) == ("node", "carci")
    assert (export.folder / "assets/class_names.txt").read_text() == "noncarcinoma\ncarcinoma\n"
    assert "into noncarcinoma, carcinoma, through 2 networks" in as_markdown(export.card)
    assert (export.nodes, export.classes) == (("carci",), NODES["carci"].classes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "system"}, "classes must be the list normal, benign"),
        ({"kind": "system", "classes": ...}, "members must be of each node, but none is of norbe, invis"),
        ({"node": "norbe"}, "classes must be the list normal, benign"),
        ({"node": "norbe", "classes": ...}, r"members\[0\]\.node must be norbe, not 'carci'"),
        ({"node": ...}, "node is missing"),
        ({"node": "nobody"}, "node must be one of"),
        ({"kind": "forest"}, "kind must be one of system, node"),
        ({"classes": ["carcinoma", "noncarcinoma"]}, "classes must be the list noncarcinoma, carcinoma"),
    ],
)
def test_a_card_of_something_else_is_refused(export, changes, words):
    path = export.folder / "assets/model_card.json"
    before = path.read_text()
    card = {name: value for name, value in (export.card | changes).items() if value is not ...}
    path.write_text(json.dumps(card))
    try:
        with pytest.raises(UserError, match=words):
            Export(export.folder)
    finally:
        path.write_text(before)


def test_parity_compares_a_node_with_its_runs(export, members, sure_members, tmp_path):
    (tmp_path / "a.png").write_bytes(as_png(IMAGES[0]))
    rows, errors = measure(open_forms(members, export, []), [tmp_path / "a.png"])
    assert not errors
    assert all(row.holds for row in rows)
    with pytest.raises(UserError, match="answers for carci, and the runs are of carci, invis, norbe"):
        open_forms(sure_members, export, [])


def test_a_tflite_file_of_one_node_is_refused(tree_of_runs, tmp_path):
    result = run("export", "--carci", tree_of_runs["carci"], "--tflite", tmp_path / "t.tflite")
    assert result.exit_code == 2
    assert "A TFLite file holds a whole tree" in result.stderr


def test_two_of_three_nodes_are_refused_and_the_third_is_named(tree_of_runs, tmp_path):
    runs = ("--carci", tree_of_runs["carci"], "--invis", tree_of_runs["invis"])
    result = run("export", *runs, "--out", tmp_path / "1")
    assert result.exit_code == 2
    assert "none was given for norbe" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_exports_one_node(tree_of_runs, tmp_path):
    result = run("export", "--norbe", tree_of_runs["norbe"], "--out", tmp_path / "1", "--views", 8)
    assert result.exit_code == 0, result.output
    export = Export(tmp_path / "1")
    assert (export.nodes, export.classes, export.views) == (("norbe",), ("normal", "benign"), 8)
