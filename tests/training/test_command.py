import json
from dataclasses import replace

import pytest

from bach_keras.serving.exported import Export
from bach_keras.training import command


@pytest.fixture
def evaluated(few_phantoms, members, tree_of_runs, exported, tmp_path, monkeypatch):
    """Return a function that evaluates on a few phantoms under a protocol, and returns what it wrote and said."""

    def evaluate(protocol, note="", from_export=False):
        origin = {**few_phantoms.origin, "note": note}
        data = replace(few_phantoms, protocol=protocol, origin=origin)
        monkeypatch.setattr(command, "open_data", lambda *asked: data)
        folders = [] if from_export else [str(folder) for folder in tree_of_runs.values()]
        system = Export(exported) if from_export else members
        lines = []
        command.run_evaluation(
            system, folders, "phantom", protocol, 0, None, "test", tmp_path / "out", None, lines.append
        )
        metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
        return metrics["split_notes"], "\n".join(lines), (tmp_path / "out" / "report.html").read_text()

    return evaluate


@pytest.mark.parametrize("from_export", [False, True])
def test_a_phantom_system_is_loudly_called_so_in_the_report_and_on_the_terminal(evaluated, from_export):
    _, told, page = evaluated("patient", from_export=from_export)
    assert "WARNING: this system learned from synthetic phantom images" in told
    assert "SYNTHETIC: this system learned from" in page[: page.index("<h1>")]


def test_one_split_has_nothing_to_say(evaluated):
    notes, lines, page = evaluated("patient")
    assert notes == []
    assert "protocol patient" in lines
    assert "mixes" not in lines + page
    assert page.count("Validation accuracy by protocol patient") == 3


@pytest.mark.parametrize("from_export", [False, True])
def test_a_score_of_mixed_protocols_says_so_everywhere(evaluated, from_export):
    notes, lines, page = evaluated("paper", "It flatters.", from_export)
    assert notes[0] == "It flatters."
    assert "those that paper holds out, but members were trained under patient" in notes[1]
    assert len(notes) == 2
    for note in notes:
        assert note in lines
        assert note in page


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
