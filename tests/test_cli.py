import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from PIL import Image

from cli import cli
from datasets import phantom
from datasets.labels import CLASSES

COMMANDS = [
    ["data", "prepare"], ["data", "info"], ["data", "splits"], ["weights", "fetch"], ["weights", "port"], ["train"],
    ["evaluate"], ["export"], ["predict"],
]  # fmt: skip


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert f"python cli.py {' '.join(command)}" in result.output


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['cli.py', '--help']; import runpy\n"
        "try: runpy.run_path('cli.py', run_name='__main__')\n"
        "except SystemExit: print([m for m in ('tensorflow', 'keras', 'numpy') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.rstrip().endswith("[]")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "--node", "carcinoma"], "carcinoma"),
        (["train", "--node", "carci", "--config", "imagenet"], "imagenet"),
        (["train", "--node", "carci", "--config", "phantom", "--lr", "0", "--run-dir", "x"], "--lr must be a positive"),
        (["train", "--node", "carci", "--config", "phantom", "--init", "nowhere", "--run-dir", "x"], "nowhere"),
        (["data", "prepare", "--config", "bach", "--source", "nowhere"], "nowhere"),
        (["predict", "--model", "nowhere", "x.png"], "nowhere is no export"),
        (["export", "--out", "m/1"], "needs a run for each node"),
        (["export", "--carci", "nowhere", "--out", "m/1"], "nowhere is no run folder"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_2(words, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_real_data_without_weights_names_the_three_ways_on(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    result = run("train", "--node", "carci", "--config", "bisque", "--data-dir", tmp_path, "--run-dir", tmp_path / "r")
    assert result.exit_code == 2
    for way in ("weights fetch", "--init FILE.h5", "--init none"):
        assert way in result.output
    assert not (tmp_path / "r").exists()


def test_predict_prints_only_json_and_counts_a_broken_file(exported, tmp_path):
    for number, label in enumerate(CLASSES):
        Image.fromarray(phantom.draw(label, 901, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "4.tif").write_bytes((tmp_path / "0.png").read_bytes()[:1000])
    (tmp_path / "notes.txt").write_text("skipped")
    result = run("predict", "--model", exported, "--format", "json", tmp_path)
    assert result.exit_code == 1
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["path"] for row in rows] == [str(tmp_path / f"{n}.{'png' if n < 4 else 'tif'}") for n in range(5)]
    assert "error" in rows[4]
    for row in rows[:4]:
        assert set(row["probabilities"]) == set(CLASSES)
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(row["probabilities"], key=row["probabilities"].get)
        assert set(row["nodes"]["carci"]) == {"noncarcinoma", "carcinoma"}
    assert "phantom" in result.stderr
    (tmp_path / "4.tif").unlink()
    assert run("predict", "--model", exported, "--format", "csv", tmp_path).exit_code == 0
    routed = run("predict", "--model", exported, "--format", "json", "--routing", "routed", tmp_path)
    assert [sorted(json.loads(line)["nodes"].values(), key=bool)[0] for line in routed.stdout.splitlines()] == [
        None
    ] * 4


def test_export_refuses_a_run_of_another_node(tree_of_runs, tmp_path):
    result = run("export", "--carci", tree_of_runs["norbe"], "--out", tmp_path / "tree" / "1")
    assert result.exit_code == 2
    assert "is a run of norbe" in result.output
    assert not (tmp_path / "tree").exists()
