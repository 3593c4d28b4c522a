"""Exports of earlier versions, which decode JPEG otherwise."""

import json
import shutil

import pytest
from click.testing import CliRunner
from PIL import Image

from bach_keras.serving.card import DECODING, warnings_of
from bach_keras.serving.exported import Export
from bach_keras.serving.remote.server import Server
from cli import cli


@pytest.fixture
def older(exported, tmp_path):
    place = shutil.copytree(exported, tmp_path / "1")
    card = json.loads((place / "assets" / "model_card.json").read_text())
    del card["decoding"]
    (place / "assets" / "model_card.json").write_text(json.dumps(card))
    return place


def test_a_card_without_this_decoding_is_of_an_earlier_version(export, older):
    assert export.card["decoding"] == DECODING
    assert "JPEG" not in " ".join(export.warnings)
    assert "JPEG" in Export(older).warnings[-1]
    for number in (1, None, "2", True):
        assert "JPEG" in warnings_of({"configs": ["bach"], "decoding": number})[0]
    assert warnings_of({"configs": ["bach"], "decoding": DECODING + 1}) == ()


def test_predict_warns_of_an_older_export_on_stderr(exported, older, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    for place, warns in ((exported, False), (older, True)):
        words = ["predict", "--model", str(place), "--format", "json", str(tmp_path / "a.png")]
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0
        assert ("decodes JPEG with libjpeg's fast transform" in result.stderr) == warns
        assert ("export it again" in result.stderr) == warns
        assert list(json.loads(result.stdout)) == [
            "path", "label", "probabilities", "nodes", "unsure", "set", "spread", "um_per_pixel", "icc", "warnings",
        ]  # fmt: skip


def test_serve_warns_of_an_older_export_once(older, monkeypatch):
    def serve(server):
        with server:
            pass

    monkeypatch.setattr(Server, "serve", serve)
    result = CliRunner().invoke(cli, ["serve", "--model", str(older), "--port", "0", "--grpc-port", "0"])
    assert result.exit_code == 0, result.output
    assert result.stderr.count("WARNING: this export decodes JPEG") == 1
    assert "WARNING" not in result.stdout


def test_parity_warns_of_an_older_export_once(older, tree_of_runs, tmp_path):
    Image.new("RGB", (40, 40), "white").save(tmp_path / "a.png")
    options = [word for node, run in tree_of_runs.items() for word in (f"--{node}", str(run))]
    result = CliRunner().invoke(cli, ["parity", "--model", str(older), *options, str(tmp_path / "a.png")])
    assert result.exit_code == 0, result.output
    assert result.stderr.count("WARNING: this export decodes JPEG") == 1
    assert "WARNING" not in result.stdout
