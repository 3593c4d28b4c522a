"""An export that knows its doubt: in every signature, on the card, in rows, through a server and in a TFLite file."""

import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image

from bach_keras.hierarchy import Hierarchy
from bach_keras.serving import answers
from bach_keras.serving.card import as_markdown, check_card, model_card
from bach_keras.serving.exported import Export
from bach_keras.serving.images import as_png
from bach_keras.serving.parity import measure, open_forms
from bach_keras.serving.predict import answer_batch
from bach_keras.serving.remote.client import Remote
from bach_keras.serving.remote.server import Server
from bach_keras.serving.tflite.convert import convert
from bach_keras.serving.tflite.file import TFLite
from cli import cli
from datasets.labels import CLASSES
from tests.calibrations import calibration
from tests.serving.conftest import IMAGES

PIXELS = np.stack(IMAGES)
FILES = [as_png(image) for image in IMAGES]


@pytest.fixture(scope="module")
def export(calibrated):
    return Export(calibrated)


@pytest.mark.parametrize("routing", ["soft", "routed"])
def test_each_signature_doubts_as_the_tree_does(export, doubting, routing):
    soft, thresholds = doubting
    tree = Hierarchy(soft, calibration=thresholds)
    expected = (tree.images if routing == "soft" else tree.routed)(PIXELS)
    share = expected["unsure"].numpy().mean()
    assert 0.1 < share < 0.9
    for found in (export.images(PIXELS, routing), export.encoded(FILES, routing)):
        # A probability that lies on a threshold may be rounded otherwise in a batch of another graph.
        assert (found["unsure"].numpy() == expected["unsure"].numpy()).mean() > 0.95
        assert (found["set"].numpy() == expected["set"].numpy()).mean() > 0.95
        labels = [CLASSES.index(label.decode()) for label in found["label"].numpy()]
        assert found["set"].numpy()[np.arange(len(labels)), labels].all()


@pytest.mark.parametrize("routing", ["soft", "routed"])
def test_nothing_is_said_of_a_broken_image(export, routing):
    found = export.encoded([b"text", FILES[0], b""], routing)
    assert found["ok"].numpy().tolist() == [False, True, False]
    assert not found["unsure"].numpy()[[0, 2]].any()
    assert not found["set"].numpy()[[0, 2]].any()
    assert found["set"].numpy()[1].any()


def test_a_batch_of_none_is_answered(export):
    files = {"image_bytes": tf.constant([], tf.string)}
    pixels = {"images": PIXELS[:0]}
    requests = {"serving_default": files, "routed": files, "images": pixels, "routed_images": pixels}
    for name, given in requests.items():
        found = export.signatures[name](**{key: tf.constant(value) for key, value in given.items()})
        assert found["unsure"].shape == (0,)
        assert found["set"].shape == (0, 4)


def test_the_card_says_what_was_calibrated(export, doubting, calibrated):
    soft, thresholds = doubting
    said = export.card["calibration"]
    assert said["levels"] == thresholds.levels
    assert said["unsure"] == {"share": 0.2, "threshold": thresholds.threshold}
    assert (said["n"], said["groups"], said["views"]) == (40, 20, 1)
    assert [member["temperature"] for member in export.card["members"]] == [20.0] * 3
    chosen = frozenset(["chose.png"]).union(*(member.provenance.chosen_on for member in soft))
    assert export.card["chosen_on"] == sorted(chosen)
    assert "chose.png" in export.provenance.chosen_on
    page = (calibrated / "assets.extra" / "model_card.md").read_text()
    assert "## Calibration" in page
    assert f"below {thresholds.threshold:g}" in page
    assert "40 validation images of 20 patients" in page


def test_a_card_of_a_tree_that_was_not_calibrated_says_nothing(members):
    card = model_card(members)
    assert "calibration" not in card
    assert "Calibration" not in as_markdown(card)


def test_a_card_says_whose_images_trained_it(members):
    configs = ("bach+own-lab", "bisque", "own-lab")
    card = check_card(model_card([replace(each, config=config) for each, config in zip(members, configs, strict=True)]))
    assert card["configs"] == sorted(configs)
    assert list(card["data"]) == ["bach", "bisque", "own-lab"]
    assert "BACH is CC BY-NC-ND 4.0" in card["licence"]
    assert card["licence"].endswith("So do weights that trained on somebody's own images.")
    assert "prepared as own-lab. Their owner says who may use them" in as_markdown(card)
    assert "own images" not in model_card(members)["licence"]


def test_the_digest_follows_the_files_that_answer(export, calibrated, tmp_path):
    place = shutil.copytree(calibrated, tmp_path / "7")
    assert Export(place).digest == export.digest
    (place / "assets.extra" / "model_card.md").write_text("another page")
    assert Export(place).digest == export.digest
    card = place / "assets" / "model_card.json"
    card.write_text(card.read_text() + "\n")
    assert Export(place).digest != export.digest


TAMPERED = [
    ("levels", {"0.9": 0.1}), ("levels", []), ("unsure", {"share": 0.2, "threshold": 2}), ("unsure", ...), ("n", 0),
    ("views", 3), ("groups", "20"), ("config", ...),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), TAMPERED)
def test_a_field_of_the_calibration_that_is_wrong_is_named(calibrated, tmp_path, field, value):
    place = shutil.copytree(calibrated, tmp_path / "1")
    card = json.loads((place / "assets" / "model_card.json").read_text())
    card["calibration"][field] = value
    if value is ...:
        del card["calibration"][field]
    (place / "assets" / "model_card.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=rf"can be read \(.*calibration\.{field}"):
        Export(place)


def test_a_card_and_a_graph_that_contradict_each_other_are_refused(calibrated, exported, tmp_path):
    for number, (graph, card) in enumerate([(calibrated, exported), (exported, calibrated)]):
        place = shutil.copytree(graph, tmp_path / str(number))
        shutil.copy(card / "assets" / "model_card.json", place / "assets")
        with pytest.raises(ValueError, match=r"of which the card says nothing|answers other things than .*set.*unsure"):
            Export(place)


def test_rows_say_unsure_and_name_the_set(export, calibrated, tmp_path):
    rows = answer_batch(export, list(PIXELS[:16]))
    assert {row["unsure"] for row in rows} == {False, True}
    assert all(row["label"] in row["set"] and set(row["set"]) <= set(CLASSES) for row in rows)
    for number in range(8):
        Image.fromarray(PIXELS[number]).save(tmp_path / f"{number}.png")
    (tmp_path / "9.png").write_bytes(b"text")

    def lines(form):
        result = CliRunner().invoke(cli, ["predict", "--model", str(calibrated), "--format", form, str(tmp_path)])
        assert result.exit_code == 1  # of the broken one
        return result.stdout

    *good, broken = map(json.loads, lines("json").splitlines())
    assert list(broken) == ["path", "error"]
    assert [row["label"] != "unsure" and type(row["unsure"]) for row in good] == [bool] * 8
    table = list(csv.DictReader(io.StringIO(lines("csv"))))
    assert [row["unsure"] for row in table] == [*(json.dumps(row["unsure"]) for row in good), ""]
    assert [row["set"].split() for row in table] == [*(row["set"] for row in good), []]
    for line, row in zip(lines("table").splitlines(), good, strict=False):
        assert f"{'unsure' if row['unsure'] else 'sure  '} {{{', '.join(row['set'])}}}" in line


def test_rows_of_a_tree_that_was_not_calibrated_are_null_and_never_false(exported):
    (row,) = answer_batch(Export(exported), [PIXELS[0]])
    assert row["unsure"] is None
    assert row["set"] is None


@pytest.mark.parametrize("routing", ["soft", "routed"])
def test_a_server_answers_the_same(export, routing):
    expected = answer_batch(export, FILES[:8], routing)
    with Server(export) as server:
        for url in (server.rest_url, server.grpc_url):
            assert answer_batch(Remote(url), FILES[:8], routing) == expected


GOOD = {
    "probabilities": [[0.6, 0.2, 0.1, 0.1]], "label": ["normal"], "carci": [[0.8, 0.2]], "norbe": [[0.75, 0.25]],
    "invis": [[0.5, 0.5]], "ok": [True], "unsure": [False], "set": [[True, True, False, False]],
}  # fmt: skip


def test_doubt_that_an_export_can_have_is_taken():
    found = answers.as_arrays(GOOD, 1, "soft", "It")
    assert found["fault"].tolist() == [""]
    assert (found["unsure"].tolist(), found["set"].tolist()) == ([False], [[True, True, False, False]])
    none = answers.as_arrays({name: [] for name in GOOD}, 0, "soft", "It")
    assert none["set"].shape == (0, 4)


@pytest.mark.parametrize(
    "changed",
    [
        {"unsure": [0]}, {"unsure": [None]}, {"unsure": []}, {"set": [[True, True, False]]}, {"set": [[1, 1, 0, 0]]},
        {"set": [True]},
    ],
)  # fmt: skip
def test_doubt_of_another_form_is_impossible(changed):
    with pytest.raises(answers.ImpossibleError):
        answers.as_arrays(GOOD | changed, 1, "soft", "It")
    for name in ("unsure", "set"):
        with pytest.raises(answers.ImpossibleError, match=f"no {name}"):
            answers.as_arrays({key: value for key, value in GOOD.items() if key != name}, 1, "soft", "It")


def test_a_set_without_its_own_label_is_impossible():
    found = answers.as_arrays(GOOD | {"set": [[False, True, False, False]]}, 1, "soft", "It")
    assert "a set without its own label" in found["fault"][0]
    assert not found["set"].any()


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_a_tflite_file_has_the_temperatures_inside_and_doubts_by_its_card(sure_members, tmp_path, quantize):
    soft = [replace(member, temperature=0.5 + index) for index, member in enumerate(sure_members)]
    given = np.sort(Hierarchy(soft).images(PIXELS)["probabilities"].numpy(), axis=1)
    thresholds = calibration(soft, float(np.median(given[:, 3])), float(np.median(given[:, 2])))
    convert(soft, tmp_path / "tree.tflite", quantize, IMAGES, calibration=thresholds)
    lite = TFLite(tmp_path / "tree.tflite")
    assert [member["temperature"] for member in lite.card["members"]] == [0.5, 1.5, 2.5]
    assert lite.card["calibration"]["unsure"]["threshold"] == thresholds.threshold
    found, expected = lite.images(PIXELS), Hierarchy(soft, calibration=thresholds).images(PIXELS)
    if quantize == "none":
        np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=1e-4)
    for name in ("unsure", "set"):
        assert found[name].dtype == bool
        assert found[name].shape == expected[name].shape
        assert (found[name] == expected[name].numpy()).mean() > 0.9
    assert 0 < found["unsure"].mean() < 1


def test_parity_holds_for_a_calibrated_tree(export, doubting, tmp_path):
    for number in range(4):
        Image.fromarray(PIXELS[number]).save(tmp_path / f"{number}.png")
    rows, errors = measure(open_forms(doubting[0], export, []), sorted(tmp_path.glob("*.png")))
    assert not errors
    assert all(row.holds for row in rows)


def test_a_calibration_adds_a_handful_of_operations(calibrated, exported):
    def count(place):
        graph = tf.saved_model.load(str(place)).signatures["images"].graph.as_graph_def()
        return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)

    assert 0 < count(calibrated) - count(exported) < 60
