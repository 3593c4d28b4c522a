import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bach_keras.evidence.quality import measures
from bach_keras.evidence.ranges import fit
from bach_keras.serving.answers import Outputs
from bach_keras.serving.exported import Export
from bach_keras.serving.formats import lines
from bach_keras.serving.images import as_seen
from bach_keras.serving.judgement import Judgement, Symmetries
from bach_keras.serving.predict import predict_files
from bach_keras.serving.remote.client import Remote
from bach_keras.serving.remote.server import Server
from bach_keras.tree import NODES
from cli import cli
from datasets import phantom
from datasets.errors import UserError
from datasets.images.scale import Scale
from datasets.labels import CLASSES

USUAL = phantom.draw("insitu", 6, 1)
HOSTILE = {
    "1x1": np.full((1, 1, 3), 90, np.uint8),
    "white": np.full((40, 50, 3), 255, np.uint8),
    "black": np.zeros((40, 50, 3), np.uint8),
    "50 to 1": np.full((2, 100, 3), 200, np.uint8),
}


@pytest.fixture(scope="module")
def ranges():
    images = [phantom.draw(CLASSES[patient % 4], patient, 0) for patient in range(24)]
    measured = [{**measures(image, 2.24), "um_per_pixel": 2.24, "side": 288} for image in images]
    return fit(measured, [f"p{place}" for place in range(24)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("images")
    for name, pixels in {"usual": USUAL, **HOSTILE}.items():
        Image.fromarray(pixels).save(place / f"{name}.png")
    return place


class Asked:
    """Answers by the brightness of the upper left quarter of a square."""

    side = 32

    def __init__(self):
        self.outputs = Outputs()

    def prepared(self, pixels):
        return as_seen(pixels, self.side)

    def classify(self, images, routing):
        first = np.array([image[:16, :16].mean() > 128 for image in images], int)
        pairs = {node: np.eye(2)[first] if node == "carci" else np.full((len(images), 2), 0.5) for node in NODES}
        probabilities = 0.5 * np.repeat(pairs["carci"], 2, axis=1)
        labels = [CLASSES[place].encode() for place in probabilities.argmax(axis=1)]
        return {**pairs, "probabilities": probabilities, "label": labels, "ok": [True] * len(images)}


def rows_of(paths, *extras):
    return {row["path"].rsplit("/", 1)[-1]: row for row in predict_files(Asked(), paths, "soft", extras)}


def names(row):
    return [each["name"] for each in row["warnings"]]


def test_images_that_hold_no_tissue_are_answered_and_warned_of(folder, ranges):
    rows = rows_of([folder], Judgement(ranges, lambda path: None))
    assert [row["label"] in CLASSES for row in rows.values()] == [True] * 5
    assert names(rows["usual.png"]) == []
    for name in HOSTILE:
        assert "stain" in names(rows[f"{name}.png"])
    assert "tissue" in names(rows["white.png"])


def test_a_scale_far_from_that_of_training_is_named_with_its_source(folder, ranges):
    found = rows_of([folder / "usual.png"], Judgement(ranges, lambda path: Scale(0.25, "a tag")))["usual.png"]
    (scale,) = [each for each in found["warnings"] if each["name"] == "scale"]
    assert (scale["value"], scale["source"]) == (0.25, "a tag")
    assert scale["range"] == pytest.approx([0.8 * 2.24, 1.25 * 2.24])


def test_a_model_without_ranges_judges_no_image(folder):
    assert rows_of([folder / "usual.png"], Judgement(None, None))["usual.png"]["warnings"] is None


def test_a_label_that_changes_with_the_turns_of_an_image_is_a_warning(tmp_path, ranges):
    bright = np.zeros((64, 64, 3), np.uint8)
    bright[:32, :32] = 255
    for name, pixels in {"corner": bright, "even": bright // 255 + 90}.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    rows = rows_of([tmp_path], Symmetries(Asked()), Judgement(ranges, lambda path: None))
    assert (rows["corner.png"]["symmetry"], rows["even.png"]["symmetry"]) == (0.25, 1.0)
    (found,) = [each for each in rows["corner.png"]["warnings"] if each["name"] == "symmetry"]
    assert found == {"name": "symmetry", "value": 0.25, "range": [1.0, 1.0]}
    assert "symmetry" not in names(rows["even.png"])


def test_symmetries_of_a_model_that_averages_them_are_refused():
    averaging = Asked()
    averaging.outputs = Outputs(views=8)
    with pytest.raises(UserError, match="averages 8 views"):
        Symmetries(averaging)
    whole = Asked()
    whole.side = None
    with pytest.raises(UserError, match="--send-whole"):
        Symmetries(whole)


def test_every_form_shows_the_names():
    row = {"path": "a.png", "label": "benign", "probabilities": dict.fromkeys(CLASSES, 0.25), "nodes": {}}
    found = [{"name": name, "value": 2.0, "range": [0.0, 1.0]} for name in ("blur", "stain")]
    rows = [{**row, "warnings": each} for each in (found, [], None)]
    table = [line for _, line in lines("table", rows, CLASSES)]
    assert ["WARNING: blur, stain" in line for line in table] == [True, False, False]
    assert "WARNING: blur, stain (blur 2, not 0 to 1; stain 2, not 0 to 1)  a.png" in table[0]
    cells = [line.split("\n")[-1].split(",")[-2] for _, line in lines("csv", rows, CLASSES)]
    assert cells == ["blur stain", "none", ""]
    assert json.loads(next(lines("json", rows, CLASSES))[1])["warnings"] == found


@pytest.mark.parametrize("routing", ["soft", "routed"])
def test_an_export_judges_by_the_images_that_trained_it(knowing, folder, routing):
    words = ["predict", "--model", str(knowing), "--routing", routing, "--format", "json", "--symmetries"]
    result = CliRunner().invoke(cli, [*words, str(folder)])
    rows = {json.loads(line)["path"].rsplit("/", 1)[-1]: json.loads(line) for line in result.stdout.splitlines()}
    assert result.exit_code == 0
    assert "tissue" in names(rows["white.png"])
    assert all(row["symmetry"] in [each / 8 for each in range(1, 9)] for row in rows.values())
    ranges = Export(knowing).card["ranges"]
    assert (ranges["n"], ranges["groups"], set(ranges["bounds"])) == (16, 8, {"blur", "tissue", "stain", "features"})
    assert "## Images that it can judge" in (knowing / "assets.extra" / "model_card.md").read_text()


def test_a_server_tells_the_ranges_by_which_a_client_warns(knowing, folder):
    def found(export):
        rows = predict_files(
            export, [folder], "soft", [Symmetries(export), Judgement(export.ranges, lambda path: None)]
        )
        return [(row["symmetry"], names(row)) for row in rows]

    with Server(Export(knowing)) as server:
        assert found(Remote(server.rest_url)) == found(Export(knowing))


def test_the_damaged_ranges_of_a_server_are_told_of_and_judge_no_image(knowing):
    remote = Remote.__new__(Remote)  # without a server
    remote.card, remote.warnings = Export(knowing).card | {"ranges": {"n": 0}}, ()
    assert remote._ranges() is None
    assert "card is damaged" in remote.warnings[0]


def test_an_export_whose_ranges_were_tampered_with_is_refused_in_one_sentence(knowing, tmp_path):
    place = shutil.copytree(knowing, tmp_path / "1")
    file = place / "assets" / "model_card.json"
    card = json.loads(file.read_text())
    card["ranges"]["bounds"]["blur"] = [1, 0]
    file.write_text(json.dumps(card))
    with pytest.raises(UserError, match="the range of blur must not end before it begins"):
        Export(place)
