"""What ``export`` writes, and what it says where it writes nothing or half."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image

from bach_keras.commands import serving
from bach_keras.network import half_precision
from bach_keras.serving import export as exporting
from bach_keras.serving.agreement import Limit
from bach_keras.serving.check_images import LEAST_IMAGES, check_count
from bach_keras.serving.exported import Export
from cli import cli
from datasets.bach_bisque.prepared import Prepared
from datasets.whole import write_json
from tests import calibrations

DATA = {"export": [], "evaluate": ["--config", "phantom"]}


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def runs(tree_of_runs):
    return [word for node, folder in tree_of_runs.items() for word in (f"--{node}", folder)]


@pytest.fixture
def calibration(tmp_path):
    folder = tmp_path / "calibration"
    folder.mkdir()
    for number in range(8):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def no_networks(monkeypatch):
    def built(*given):
        raise AssertionError("a network was built")

    monkeypatch.setattr(serving, "load_members", built)


def test_too_few_images_are_refused_before_the_networks_are_built(runs, calibration, tmp_path, no_networks):
    result = run("export", *runs, "--tflite", tmp_path / "t.tflite", "--calibration", calibration)
    assert result.exit_code == 2
    assert "8 images are too few" in result.stderr
    assert "at least 9" in result.stderr


def test_too_few_training_images_are_refused_before_the_networks_are_built(runs, tmp_path, no_networks, monkeypatch):
    monkeypatch.setattr(Prepared, "records", [])
    result = run("export", *runs, "--tflite", tmp_path / "t.tflite")
    assert result.exit_code == 2
    assert "0 images are too few" in result.stderr


@pytest.mark.parametrize("words", [["--calibration", "nowhere"], ["--carci", "nowhere"]])
def test_images_or_runs_that_are_not_there_end_the_command_before_anything(words, tmp_path, no_networks, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("export", *words, "--out", "tree/1", "--tflite", "t.tflite")
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_calibration_folder_without_images_ends_the_command_before_anything(runs, tmp_path, no_networks):
    (tmp_path / "empty").mkdir()
    words = ["--out", tmp_path / "tree" / "1", "--tflite", tmp_path / "t.tflite", "--calibration", tmp_path / "empty"]
    result = run("export", *runs, *words)
    assert result.exit_code == 2
    assert "holds no image" in result.stderr
    assert not (tmp_path / "tree").exists()


def test_the_least_number_of_images_is_in_the_help():
    assert f"At least {LEAST_IMAGES} images to check" in " ".join(run("export", "--help").stdout.split())


@pytest.mark.parametrize("count", [8, 9], ids=["too few images", "all of one label"])
def test_the_saved_model_is_written_where_the_tflite_form_is_refused(runs, calibration, tmp_path, count):
    for number in range(count):
        Image.new("RGB", (8, 8)).save(calibration / f"{number}.png")
    out, file = tmp_path / "tree" / "1", tmp_path / "t.tflite"
    words = ["--out", out, "--tflite", file, "--calibration", calibration, "--quantize", "int8"]
    result = run("export", *runs, *words)
    assert result.exit_code == 1
    assert f"wrote {out}" in result.stdout
    assert result.stderr.count(f"{file} was not written:") == 1
    assert Export(out).card["classes"]
    assert not file.exists()


@pytest.mark.parametrize("file", ["tree", "tree/1", "tree/../tree"])
def test_a_file_where_the_saved_model_needs_a_folder_is_refused_before_anything(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("export", "--out", "tree/1", "--tflite", file)
    assert result.exit_code == 2
    assert "give the file another place" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_image_is_too_few():
    with pytest.raises(ValueError, match=r"^1 image is too few"):
        check_count(1)


def test_the_tflite_file_is_written_where_the_saved_model_fails(runs, calibration, tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(calibration / "8.png")

    def full(*given, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting.tf.saved_model, "save", full)
    out, file = tmp_path / "tree" / "1", tmp_path / "t.tflite"
    result = run("export", *runs, "--out", out, "--tflite", file, "--calibration", calibration)
    assert result.exit_code == 1
    assert f"{out} could not be written" in result.stderr
    assert file.is_file()
    assert [path.name for path in out.parent.iterdir()] == []


@pytest.mark.parametrize("name", ["a[1]", "a[b", "a\\b", os.fsdecode(b"\xff")])
def test_a_place_that_tensorflow_takes_for_a_pattern_is_refused_before_anything(runs, tmp_path, no_networks, name):
    result = CliRunner().invoke(cli, ["export", *map(str, runs), "--out", str(tmp_path / name / "1")])
    assert result.exit_code == 2
    assert "TensorFlow takes [ and \\ in a path for a pattern" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a[1]", "a\\b", os.fsdecode(b"\xff")])
def test_an_export_is_read_from_wherever_it_was_moved_to(exported, tmp_path, name, monkeypatch):
    place = shutil.copytree(exported, tmp_path / name / "1")
    assert place.is_dir()
    monkeypatch.chdir(tmp_path)
    answers = Export(f"{name}/1").images(np.zeros((1, 32, 32, 3), np.uint8))
    assert float(np.sum(answers["probabilities"])) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["a*b?", "größe {組織}."])
def test_what_is_written_anywhere_else_is_loaded_by_tensorflow_alone(members, tmp_path, name):
    out = exporting.export_tree(members[:1], tmp_path / name / "1")
    assert "serving_default" in tf.saved_model.load(str(out)).signatures


def test_half_precision_needs_a_saved_model_and_its_images_something_to_check(runs, calibration, tmp_path, no_networks):
    lite = ("--tflite", tmp_path / "t.tflite")
    assert "name its place with --out" in run("export", *runs, *lite, "--precision", "bfloat16").stderr
    words = ("--out", tmp_path / "1", "--calibration", calibration)
    assert "--calibration is for a TFLite file" in run("export", *runs, *words).stderr
    result = run("export", *runs, *words, "--precision", "float16")
    assert result.exit_code == 2
    assert "8 images are too few" in result.stderr


@pytest.mark.parametrize(("milliseconds", "precision"), [(1.0, "bfloat16"), (None, "float32")])
def test_auto_takes_what_this_machine_is_fast_in_and_says_so(
    runs, calibration, tmp_path, monkeypatch, milliseconds, precision
):
    monkeypatch.setattr(half_precision, "probe", lambda: half_precision.Probe("A chip", 2.0, milliseconds, None))
    # The networks of these runs are too small for half precision's limit.
    monkeypatch.setattr(exporting, "HALF_PRECISION", Limit(1.0))
    Image.new("RGB", (8, 8)).save(calibration / "ninth.png")
    words = ("--calibration", calibration)
    result = run("export", *runs[:2], "--out", tmp_path / "1", "--precision", "auto", *words)
    assert result.exit_code == 0, result.stderr
    assert f"on A chip: float32 2.0 ms, {'bfloat16' if milliseconds else 'bfloat16 not at all'}" in result.stdout
    assert f"{precision} is taken" in result.stdout
    assert Export(tmp_path / "1").precision == precision


@pytest.fixture
def calibrated(members, tmp_path):
    """A calibration of the members of ``runs``, and its file."""
    made, path = calibrations.calibration(members), tmp_path / "calibration.json"
    write_json(path, made.as_json())
    return made, path


def test_a_calibration_goes_into_the_export(runs, calibrated, tmp_path):
    made, path = calibrated
    result = run("export", *runs, "--out", tmp_path / "1", "--calibrated", path)
    assert result.exit_code == 0, result.output
    # Nothing is prepared in the home of the tests.
    assert result.stderr.count("The export knows nothing of its training images") == 1
    assert "phantom is not prepared" in result.stderr
    export = Export(tmp_path / "1")
    assert export.calibration.levels == made.levels
    assert "unsure" in export.images(np.zeros((1, 32, 32, 3), np.uint8))


@pytest.mark.parametrize("command", ["export", "evaluate"])
def test_a_calibration_of_other_runs_is_refused_by_name(command, runs, calibrated, tmp_path):
    made, path = calibrated
    others = [{**member, "digest": 64 * "0"} if member["node"] == "norbe" else member for member in made.members]
    write_json(path, made.as_json() | {"members": others})
    result = run(command, *runs, "--out", tmp_path / "1", "--calibrated", path, *DATA[command])
    assert result.exit_code == 2, result.output
    said = " ".join(result.stderr.split())
    assert f"{path} was made for other members: {runs[3]} is not one of its members of norbe" in said
    assert not (tmp_path / "1").exists()


def test_a_calibration_that_is_not_there_is_refused_before_the_networks_are_built(runs, tmp_path, no_networks):
    result = run("export", *runs, "--out", tmp_path / "1", "--calibrated", tmp_path / "none.json")
    assert result.exit_code == 2
    assert "is not what `calibrate` writes (there is no such file)" in " ".join(result.stderr.split())


def test_an_export_has_its_calibration_inside(calibrated, tmp_path):
    result = run("evaluate", "--model", tmp_path, "--out", tmp_path / "o", "--calibrated", calibrated[1])
    assert result.exit_code == 2
    assert "an export has its calibration inside" in " ".join(result.stderr.split())
