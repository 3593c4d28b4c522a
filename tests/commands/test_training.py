"""What the training commands say before any training."""

import json
import shutil

import pytest
from click.testing import CliRunner

from bach_keras.commands.recipe_options import recipe_of
from bach_keras.network import half_precision
from bach_keras.recipe import PHANTOM
from bach_keras.training import devices
from bach_keras.training.building import seed_everything
from cli import cli
from datasets.bach_bisque.prepared import Prepared
from datasets.errors import UserError
from tests.datasets.a_set import own_records, write_set


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--protocol", "paper"], "protocol was patient, is paper"),
        (["--config", "bisque"], "config was phantom, is bisque"),
        (["--init", "imagenet"], "init was none, is imagenet"),
        (["--init", "best.h5"], "init was none, is best.h5"),
        (["--until", "another"], "until was None, is"),
        (["--split-seed", "5"], "parts of the split hold other images"),
    ],
    ids=lambda words: words[0],
)
def test_a_run_that_is_resumed_keeps_its_data_and_its_start(tree_of_runs, words, sentence):
    folder = tree_of_runs["carci"]
    before = (folder / "config.json").read_text()
    result = CliRunner().invoke(cli, ["train", "--node", "carci", "--run-dir", str(folder), "--resume", *words])
    assert result.exit_code == 2
    assert f"{folder} was started with different options: " in result.stderr
    assert sentence in result.stderr
    assert (folder / "config.json").read_text() == before


def test_a_resumed_run_on_own_images_looks_for_them_in_its_data_dir(tree_of_runs, tmp_path):
    write_set(tmp_path / "data", "own-a", own_records("a", dict.fromkeys(("normal", "invasive"), 4)))
    folder = shutil.copytree(tree_of_runs["carci"], tmp_path / "run")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "config": "own-a"}))
    words = ["--run-dir", folder, "--resume", "--protocol", "paper", "--data-dir", tmp_path / "data"]
    result = CliRunner().invoke(cli, ["train", "--node", "carci", *map(str, words)])
    assert result.exit_code == 2
    assert "protocol was patient, is paper" in result.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--run-dir", "."], "--run-dir . has no name of its own"),
        (["--run-dir", "..", "--init", "best"], "--run-dir .. has no name of its own"),
        (["--no-range-test", "--lr-steps", "20"], "--lr-steps is the length of the range test"),
        (["--data-dir", "~nobody-here/data"], "--data-dir ~nobody-here/data does not exist"),
    ],
    ids=lambda words: words[0],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["train", "--node", "norbe", "--config", "phantom", *words])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert sentence in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def fast(monkeypatch):
    """A machine that is fast in bfloat16."""
    monkeypatch.setattr(half_precision, "probe", lambda: half_precision.Probe("A chip", 2.0, 1.0, 4.0))


def test_auto_takes_the_precision_that_this_machine_is_fast_in_and_says_so(fast, monkeypatch, capsys):
    recipe = recipe_of(PHANTOM, precision="auto", seed=3)
    assert (recipe.precision, recipe.seed) == ("mixed_bfloat16", 3)
    assert "on A chip: float32 2.0 ms, bfloat16 1.0 ms, float16 4.0 ms; bfloat16 is taken" in capsys.readouterr().out
    monkeypatch.setattr(half_precision, "probe", lambda: half_precision.Probe("A chip", 2.0, None, 4.0))
    assert recipe_of(PHANTOM, precision="auto").precision == "float32"


def test_float32_is_the_default_and_measures_nothing(monkeypatch):
    monkeypatch.setattr(half_precision, "probe", lambda: pytest.fail("measured"))
    assert recipe_of(PHANTOM, precision=None).precision == "float32"


def test_several_hosts_do_not_choose_each_for_itself(fast, monkeypatch):
    monkeypatch.setattr(devices, "hosts", lambda: 2)
    with pytest.raises(UserError, match="--precision auto is for one host"):
        recipe_of(PHANTOM, precision="auto")


def test_a_run_is_not_resumed_in_another_precision(tree_of_runs, fast, tmp_path):
    folder = tmp_path / "carci"
    shutil.copytree(tree_of_runs["carci"], folder)
    (folder / "metrics.json").unlink()  # as if it had been interrupted
    words = ["train", "--node", "carci", "--run-dir", str(folder), "--resume", "--precision"]
    for precision in ("mixed_float16", "auto"):
        result = CliRunner().invoke(cli, [*words, precision, "--allow-changes"])
        assert result.exit_code == 2
        assert "cannot be resumed with another precision, not even with --allow-changes" in result.stderr
    result = CliRunner().invoke(cli, [*words, "mixed_float16"])
    assert "because these settings changed: precision was" in result.stderr
    assert not Prepared("phantom").is_there  # nothing was drawn for a run that is refused


@pytest.mark.parametrize("words", [["train", "--node", "carci"], ["lr-find", "--node", "carci"], ["reproduce"]])
def test_nothing_is_trained_where_kernels_are_taken_for_frozen(few_phantoms, tmp_path, monkeypatch, words):
    """TensorFlow would compute with the kernels as they were at first, without a word."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")
    result = CliRunner().invoke(cli, [*words, "--config", "phantom"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS is set" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["", "0", "false", "False"])
def test_the_switch_that_is_off_is_no_hindrance(monkeypatch, value):
    monkeypatch.setenv("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", value)
    assert recipe_of(PHANTOM) == PHANTOM


def test_a_programs_own_training_refuses_it_too(monkeypatch):
    monkeypatch.setenv("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")
    with pytest.raises(UserError, match="ignores what a training learns: unset it"):
        seed_everything(0)
