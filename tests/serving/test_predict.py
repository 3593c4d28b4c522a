import json
import os
import re
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bach_keras.serving.answers import TREE
from bach_keras.serving.exported import Export
from bach_keras.serving.images import as_png, as_seen
from bach_keras.serving.predict import answer_batch, predict_files
from bach_keras.serving.remote.servable import Servable
from bach_keras.tree import NODES
from cli import cli
from datasets import phantom
from tests.terminal import run_in_terminal


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGE = {
    "graph cut": lambda place: cut(place / "saved_model.pb"),
    "graph of another kind": lambda place: (place / "saved_model.pb").write_text("text"),
    "variables cut": lambda place: cut(place / "variables" / "variables.index"),
    "variables gone": lambda place: shutil.rmtree(place / "variables"),
    "card gone": lambda place: (place / "assets" / "model_card.json").unlink(),
    "card cut": lambda place: cut(place / "assets" / "model_card.json"),
    "card of another kind": lambda place: (place / "assets" / "model_card.json").write_text(json.dumps({"a": 1})),
    "card of another type": lambda place: (place / "assets" / "model_card.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_export_is_refused_in_one_sentence(exported, tmp_path, damage):
    place = shutil.copytree(exported, tmp_path / "1")
    damage(place)
    with pytest.raises(ValueError, match="not an export of this project that can be read"):
        Export(place)


def test_the_highest_version_is_taken(exported, tmp_path):
    for version in ("2", "10"):
        shutil.copytree(exported, tmp_path / version)
    (tmp_path / "11").mkdir()
    assert Export(tmp_path).folder == tmp_path / "10"
    with pytest.raises(ValueError, match=r"holds no saved_model\.pb"):
        Export(tmp_path / "11")


def test_only_a_number_is_a_version(exported, tmp_path):
    for name in ("²", "٣", "1" * 19, "3"):
        shutil.copytree(exported, tmp_path / name)
    assert Export(tmp_path).folder == tmp_path / "3"
    assert Servable(Export(tmp_path / "²"), "bach").version == 1


@pytest.mark.parametrize("name", ["n" * 300 + ".png", "file.png/inside.png"])
def test_a_name_that_cannot_be_looked_up_is_an_error_row(exported, tmp_path, name):
    Image.new("RGB", (32, 32)).save(tmp_path / "file.png")
    words = ["--format", "json", str(tmp_path / name), str(tmp_path / "file.png")]
    result = CliRunner().invoke(cli, ["predict", "--model", str(exported), *words])
    assert result.exit_code == 1
    bad, good = map(json.loads, result.stdout.splitlines())
    assert bad["path"] == str(tmp_path / name)
    assert "name too long" in bad["error"] or "is not there" in bad["error"]
    assert good["label"]


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_a_name_that_is_not_text_does_not_end_the_command(exported, tmp_path, form):
    for name in (b"\xff.png", b"\xfe.png"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"no image")
    result = CliRunner().invoke(cli, ["predict", "--model", str(exported), "--format", form, str(tmp_path)])
    assert result.exit_code == 1
    assert result.stdout_bytes.count(b"is not a PNG, JPEG, BMP or TIFF image") == 2
    assert form == "json" or b"\xff.png" in result.stdout_bytes


class Ready:
    """What answers every image alike, in place of an export."""

    side = 32
    outputs = TREE

    def __init__(self, **spoiled):
        self.spoiled = spoiled

    def prepared(self, pixels):
        return as_seen(pixels, self.side)

    def classify(self, images, routing):
        answers = {node: np.full((len(images), 2), 0.5) for node in NODES}
        return (
            answers
            | {
                "probabilities": np.full((len(images), 4), 0.25),
                "label": [b"normal"] * len(images),
                "ok": [True] * len(images),
            }
            | self.spoiled
        )


SPOILED = {
    "NaN": ({"probabilities": np.array([[np.nan] * 4, [0.25] * 4])}, "probabilities that are not probabilities"),
    "NaN of a node": ({"invis": np.array([[np.nan, 0.5], [0.5, 0.5]])}, "invis that are not probabilities"),
    "infinity": ({"carci": np.array([[np.inf, 0.5], [0.5, 0.5]])}, "carci that are not probabilities"),
    "another label": ({"label": [b"\xff", b"normal"]}, "a label that is not one of this project's"),
}


@pytest.mark.parametrize("spoiled", SPOILED)
def test_an_impossible_answer_is_an_error_row_among_the_others(tmp_path, spoiled):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    outputs, reason = SPOILED[spoiled]
    bad, good = predict_files(Ready(**outputs), [tmp_path])
    assert bad["error"] == f"The model gives answers that an export of this project cannot give: {reason}."
    assert good["label"] == "normal"


def test_an_export_that_answers_for_fewer_images_gives_error_rows(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    rows = list(predict_files(Ready(ok=[True]), [tmp_path]))
    assert ["ok that is not 2 values" in row["error"] for row in rows] == [True, True]


def test_a_batch_may_be_pixels_or_files(export):
    pixels = phantom.draw("benign", 930, 0)
    from_pixels, from_file, broken = answer_batch(export, [pixels, as_png(pixels), b"text"])
    assert from_pixels == from_file
    assert from_pixels["label"] == max(from_pixels["probabilities"], key=from_pixels["probabilities"].get)
    assert broken == {"error": "The model could not decode this image."}


def test_a_server_that_is_lost_gives_every_image_of_the_batch_an_error():
    class Lost:
        def classify(self, images, routing):
            raise ConnectionResetError("The server is gone.")

    assert answer_batch(Lost(), [b"", b""]) == [{"error": "The server is gone."}] * 2


def test_json_on_stdout_is_all_that_a_terminal_without_stderr_shows(exported, tmp_path):
    for number in range(10):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{number}.png")
    command = [sys.executable, "cli.py", "predict", "--model", str(exported), "--format", "json", str(tmp_path)]
    shown = run_in_terminal(command, stderr=subprocess.DEVNULL)
    assert len([json.loads(line) for line in shown.splitlines()]) == 10


def test_the_bar_on_a_terminal_leaves_every_row_a_line(exported, tmp_path):
    for number in range(10):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{number}.png")
    command = [sys.executable, "cli.py", "predict", "--model", str(exported), "--format", "json", str(tmp_path)]
    shown = run_in_terminal(command)
    assert "predict:" in shown
    # A bar is drawn over itself behind carriage returns, and wiped before a row is printed.
    rows = [piece for piece in re.split(r"[\r\n]+", shown) if piece.strip().startswith("{")]
    assert len([json.loads(row) for row in rows]) == 10


@pytest.mark.parametrize("begin", [b"II*\0", b"II+\0\x08\0\0\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM", b""])
def test_a_file_of_40_gb_among_tiles_is_one_error_row(tmp_path, begin):
    for name in ("a.png", "c.tif"):
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    (tmp_path / "b.tif").write_bytes(begin)
    os.truncate(tmp_path / "b.tif", 40 * 10**9)
    tracemalloc.start()
    rows = list(predict_files(Ready(), [tmp_path]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ["error" in row for row in rows] == [False, True, False]
    assert peak < 50 * 10**6
