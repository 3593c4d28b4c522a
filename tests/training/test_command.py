import pytest

from bach_keras.training import command


def test_a_run_that_is_resumed_keeps_its_data_and_its_start(tree_of_runs, tmp_path):
    folder = tree_of_runs["carci"]
    before = (folder / "config.json").read_text()
    for asked, told in (
        ({"protocol": "paper"}, "protocol was patient, is paper"),
        ({"config": "bisque"}, "config was phantom, is bisque"),
        ({"init": "imagenet"}, "init was none, is imagenet"),
        ({"until": tmp_path}, "until was None, is"),
        ({"split_seed": 5}, "parts of the split hold other images"),
    ):
        with pytest.raises(ValueError, match=f"was begun otherwise: .*{told}"):
            command.resume_training("carci", asked, {}, folder, False, None, lambda line: None)
    assert (folder / "config.json").read_text() == before
