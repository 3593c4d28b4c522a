"""What the training commands say before any training."""

import pytest
from click.testing import CliRunner

from cli import cli


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
