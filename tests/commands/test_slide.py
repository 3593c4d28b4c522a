import csv
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bach_keras.serving.slide.journal import NAME as JOURNAL
from cli import cli
from datasets import phantom
from datasets.labels import CLASSES

FILES = {
    "tiles.csv", "tiles.geojson.gz", "classes.png", "classes.ome.tiff", "probabilities.png",
    "probabilities.ome.tiff", "index.html", "summary.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A slide of two by three phantoms."""
    drawn = [[phantom.draw(CLASSES[(row + column) % 4], column, row) for column in range(3)] for row in range(2)]
    path = tmp_path_factory.mktemp("slides") / "a scan.tif"
    pixels = np.concatenate([np.concatenate(row, axis=1) for row in drawn])
    Image.fromarray(pixels).save(path, dpi=(25_400 / 2.24, 25_400 / 2.24))
    return path


def run(*words):
    return CliRunner().invoke(cli, ["slide", *map(str, words)])


def test_a_slide_gets_a_folder_with_all_its_files(exported, scan, tmp_path):
    result = run("--model", exported, "--out", tmp_path / "maps", scan)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "maps" / "a scan"
    assert {path.name for path in folder.iterdir()} == FILES
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["files"]) == FILES - {"summary.json"}
    assert summary["um_per_pixel"]["value"] == 2.24
    assert summary["tiles"]["all"] == 8
    assert "WARNING: this model learned from synthetic phantom images" in result.stderr
    assert "8 of 8 tiles answered (0 have less than 25% tissue)" in result.stdout
    assert "2.24 micrometres a pixel (TIFF XResolution per inch), 645.12 a tile" in result.stdout


def test_a_tile_is_answered_as_predict_answers_the_same_pixels(exported, scan, tmp_path):
    run("--model", exported, "--out", tmp_path, "--routing", "soft", scan)
    with (tmp_path / "a scan" / "tiles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with Image.open(scan) as slide:
        for index, row in enumerate(rows):
            x, y, side = (int(row[name]) for name in ("minx", "miny", "width"))
            slide.crop((x, y, x + side, y + side)).save(tmp_path / f"tile{index}.png")
    predicted = CliRunner().invoke(
        cli, ["predict", "--model", str(exported), "--format", "json", *map(str, sorted(tmp_path.glob("tile*.png")))]
    )
    for row, line in zip(rows, predicted.stdout.splitlines(), strict=True):
        answer = json.loads(line)
        assert row["label"] == answer["label"]
        for name, share in answer["probabilities"].items():
            assert float(row[f"prob_{name}"]) == pytest.approx(share, abs=2e-5)


def test_regions_choose_the_tiles_and_their_classes_are_compared(exported, scan, tmp_path):
    square = [[[10, 10], [280, 10], [280, 280], [10, 280], [10, 10]]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": square},
        "properties": {"objectType": "annotation", "classification": {"name": "Normal"}},
    }
    regions = tmp_path / "regions.geojson"
    regions.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    result = run("--model", exported, "--out", tmp_path, "--regions", regions, scan)
    assert result.exit_code == 0, result.output
    assert "1 of 8 tiles answered (0 have less than 25% tissue, 7 touch no region)" in result.stdout
    assert "The class agrees" in result.stdout
    summary = json.loads((tmp_path / "a scan" / "summary.json").read_text())
    assert summary["agreement"]["compared"] == 1


def test_the_outputs_may_lie_beside_the_slides(exported, scan, tmp_path):
    slide = tmp_path / "s.tif"
    slide.write_bytes(scan.read_bytes())
    assert run("--model", exported, "--out", tmp_path, slide).exit_code == 0
    again = run("--model", exported, "--out", tmp_path, slide)
    assert again.exit_code == 0
    assert "finished by an earlier run" in again.stdout


REFUSED = {
    "no such slide": (["gone.tif"], "gone.tif is not there"),
    "a folder": (["."], "is a folder"),
    "overlap": (["--overlap", "1"], "--overlap 1: give the share of a tile that the next one shows too"),
    "tissue": (["--tissue", "nan"], "--tissue nan: give the least share of a tile that has to be tissue"),
    "field": (["--field", "0"], "--field 0: give the micrometres that a tile shows"),
    "scale": (["--um-per-pixel", "0"], "--um-per-pixel 0 is not a microscope's"),
    "no scale": (["--um-per-pixel", ""], "--um-per-pixel . is neither a number nor a file"),
    "small": (["--um-per-pixel", "0.42"], "484 x 242 micrometres at 0.42 a pixel (given by --um-per-pixel), less than"),
    "no regions": (["--regions", "gone.json"], "gone.json"),
}


@pytest.mark.parametrize(("words", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence_and_nothing_is_written(
    words, sentence, exported, scan, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    slides = [] if words[0] in ("gone.tif", ".") else [scan]
    result = run("--model", exported, "--out", "maps", *words, *slides)
    assert result.exit_code == 2
    assert sentence in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.output
    assert not (tmp_path / "maps").exists()


def test_one_node_by_itself_maps_no_slide(members, scan, tmp_path):
    from bach_keras.serving.export import export_tree

    node = export_tree(members[:1], tmp_path / "node" / "1")
    result = run("--model", node, "--out", tmp_path / "maps", scan)
    assert result.exit_code == 2
    assert "The model is carci by itself, and slides are mapped by all four classes" in result.stderr


def test_ctrl_c_says_that_what_was_answered_is_kept(exported, scan, tmp_path, monkeypatch):
    from bach_keras.serving.exported import Export

    def interrupted(self, images, routing):
        raise KeyboardInterrupt

    monkeypatch.setattr(Export, "classify", interrupted)
    result = run("--model", exported, "--out", tmp_path, scan)
    assert result.exit_code == 130
    assert "Interrupted. What was answered is kept: the same command continues with it." in result.stderr


def test_a_command_that_was_killed_continues_and_ends_alike(exported, scan, tmp_path):
    command = [sys.executable, "cli.py", "slide", "--model", str(exported), "--overlap", "0.8", str(scan), "--out"]
    subprocess.run([*command, tmp_path / "whole"], check=True, capture_output=True)
    journal = tmp_path / "cut" / "a scan" / JOURNAL
    with subprocess.Popen(
        [*command, tmp_path / "cut"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not (journal.exists() and journal.stat().st_size > 5000):
            time.sleep(0.005)
        process.kill()
    assert journal.exists()
    subprocess.run([*command, tmp_path / "cut"], check=True, capture_output=True)
    for name in FILES - {"summary.json"}:
        whole, cut = ((tmp_path / place / "a scan" / name).read_bytes() for place in ("whole", "cut"))
        assert whole == cut, name
    whole, cut = (json.loads((tmp_path / place / "a scan" / "summary.json").read_text()) for place in ("whole", "cut"))
    assert 0 < cut["run"]["answered_before"] < 96
    assert whole | {"run": 0} == cut | {"run": 0}
