"""What ``predict`` says of, and does with, what a file says beside its pixels."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bach_keras.serving.exported import Export
from bach_keras.serving.formats import as_csv, as_table
from bach_keras.serving.metadata import READERS, ColourProfile, PixelSize
from bach_keras.serving.predict import Extra, predict_files
from benchmarks.profiles import PLANTED, SRGB_CURVE, matrix_profile
from cli import cli
from datasets import phantom
from datasets.images.icc import read_srgb
from datasets.labels import CLASSES

WIDE = PLANTED["Adobe RGB"]
PIXELS = phantom.draw("benign", 931, 0)


@pytest.fixture(scope="module")
def export(exported):
    return Export(exported)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One picture in files that say different things of it."""
    place, picture = tmp_path_factory.mktemp("images"), Image.fromarray(PIXELS)
    picture.save(place / "a.png")
    picture.save(place / "b.png", icc_profile=WIDE)
    picture.save(place / "c.tif", resolution=40_000, resolution_unit=3)
    picture.save(place / "d.png", icc_profile=b"no profile")
    return place


def run(export, *words):
    result = CliRunner().invoke(cli, ["predict", "--model", str(export.folder), "--format", "json", *map(str, words)])
    return result, [json.loads(line) for line in result.stdout.splitlines()]


def test_a_row_says_how_large_a_pixel_is_and_which_profile_was_not_applied(export, folder):
    result, (plain, wide, sized, broken) = run(export, folder)
    assert result.exit_code == 0
    assert plain["um_per_pixel"] is plain["icc"] is wide["um_per_pixel"] is sized["icc"] is None
    assert sized["um_per_pixel"] == {"value": 0.25, "source": "TIFF XResolution per centimetre"}
    assert wide["icc"] == {"profile": "like Adobe RGB", "applied": False}
    assert broken["icc"] == {"profile": "damaged, incomplete or too large", "applied": False}
    assert plain["probabilities"] == wide["probabilities"] == sized["probabilities"] == broken["probabilities"]


def test_apply_converts_before_everything_else_and_refuses_what_it_cannot(export, folder, tmp_path):
    result, (plain, wide, sized, broken) = run(export, "--icc", "apply", "--um-per-pixel", "0.5", folder)
    assert result.exit_code == 1
    assert broken["path"] == str(folder / "d.png")
    assert "colour profile that cannot be applied (damaged, incomplete or too large): leave out" in broken["error"]
    assert wide["icc"] == {"profile": "like Adobe RGB", "applied": True}
    assert plain["um_per_pixel"] == sized["um_per_pixel"] == {"value": 0.5, "source": "given by --um-per-pixel"}
    Image.fromarray(read_srgb(folder / "b.png")).save(tmp_path / "b.png")
    (expected,) = predict_files(export, [tmp_path])
    assert wide["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    assert wide["probabilities"] != pytest.approx(plain["probabilities"], abs=1e-5)


def test_every_extra_sees_the_converted_pixels(export, folder):
    class Seen(Extra):
        def fields(self, path, row, looked, asked):
            return {"mean": looked}

        def look(self, path, pixels):
            return pixels.mean()

    for name, expected in (("note", PIXELS), ("apply", read_srgb(folder / "b.png"))):
        rows = predict_files(export, [folder / "b.png"] * 9, extras=[Seen()], read=READERS[name])
        assert [row["mean"] for row in rows] == [expected.mean()] * 9


@pytest.mark.parametrize("given", ["0", "-0.25", "250", "nan", "inf", "0.04"])
def test_a_pixel_of_no_microscope_is_refused_before_anything_is_read(given):
    result = CliRunner().invoke(cli, ["predict", "--model", "nowhere", "--um-per-pixel", given, "x.png"])
    assert result.exit_code == 2
    assert f"--um-per-pixel {given} is not a microscope's: give micrometres" in result.output


def test_a_profiles_name_is_text_in_the_table_and_in_csv(tmp_path):
    hostile = matrix_profile("=1+1\x1b[2J", [(0.64, 0.33), (0.3, 0.6), (0.15, 0.06)], SRGB_CURVE)
    Image.fromarray(PIXELS).save(tmp_path / "a.png", icc_profile=hostile, dpi=(101_600, 101_600))
    row = {"path": "a.png", "label": "benign", "probabilities": dict.fromkeys(CLASSES, 0.25)}
    for extra in (PixelSize(), ColourProfile()):
        row |= extra.fields(tmp_path / "a.png", row, extra.look(tmp_path / "a.png", np.zeros((1, 1, 3), np.uint8)), {})
    ((_, line),) = as_table([row])
    assert "profile not applied (=1+1\\x1b[2J)  a.png" in line
    ((_, text),) = as_csv([row])
    (cells,) = csv.DictReader(text.splitlines())
    assert (cells["icc"], cells["icc_applied"]) == ("'=1+1\\x1b[2J", "false")
    assert (float(cells["um_per_pixel"]), cells["um_per_pixel_source"]) == (0.25, "PNG pHYs per metre")
    ((_, text),) = as_csv([{**row, "um_per_pixel": None, "icc": None}])
    assert next(csv.DictReader(text.splitlines()))["um_per_pixel"] == ""
