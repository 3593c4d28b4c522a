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
