import csv
import io
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from PIL import Image

from bach_keras import packed_kernels
from bach_keras.packed_kernels import SWITCH
from cli import cli
from datasets import phantom
from datasets.labels import CLASSES

COMMANDS = [
    ["data", "prepare"], ["data", "info"], ["data", "splits"], ["data", "show"], ["data", "audit"],
    ["data", "verify"], ["reproduce"],
    ["weights", "fetch"], ["weights", "port"], ["weights", "inspect"], ["train"], ["lr-find"], ["runs"], ["calibrate"],
    ["evaluate"], ["export"], ["predict"], ["slide"], ["bulk"], ["submit"], ["serve"], ["app"], ["parity"],
    ["verify-result"], ["compare"], ["doctor"],
]  # fmt: skip


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


PHANTOM = ["train", "--config", "phantom"]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert f"python cli.py {' '.join(command)}" in result.output


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from cli import cli\n"
        f"for command in [[], *{COMMANDS}]: CliRunner().invoke(cli, [*command, '--help'])\n"
        "print([name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


# What training needs, and an answer does not.
UNUSED = (
    "keras",
    "keras_cv",
    "matplotlib",
    "tensorflow_datasets",
    "huggingface_hub",
    "ai_edge_litert",
    "ai_edge_quantizer",
)


def test_an_answer_imports_nothing_that_only_training_needs(exported, tmp_path):
    Image.fromarray(phantom.draw("benign", 901, 0)).save(tmp_path / "a.png")
    code = (
        "import sys; from click.testing import CliRunner; from cli import cli\n"
        f"answer = CliRunner().invoke(cli, ['predict', '--model', {str(exported)!r}, {str(tmp_path)!r}])\n"
        "assert answer.exit_code == 0, answer.output\n"
        f"print([name for name in {(*UNUSED, 'grpc', 'tensorflow_serving')} if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"
    code = (
        "import sys; from bach_keras.quiet import quiet_tensorflow; quiet_tensorflow()\n"
        "from bach_keras.serving.remote import client, server\n"
        f"print([name for name in {UNUSED} if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_a_command_prints_nothing_of_the_start_up_of_tensorflow(exported, tmp_path):
    Image.fromarray(phantom.draw("benign", 901, 0)).save(tmp_path / "a.png")
    words = ["predict", "--model", str(exported), "--format", "json", str(tmp_path)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    process = subprocess.run(
        [sys.executable, "cli.py", *words], capture_output=True, text=True, check=True, env=environment
    )
    assert [json.loads(line)["path"] for line in process.stdout.splitlines()] == [str(tmp_path / "a.png")]
    (warning,) = process.stderr.splitlines()
    assert warning.startswith("WARNING: this model learned from synthetic phantom images.")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "--node", "carcinoma"], "carcinoma"),
        (["train", "--node", "carci", "--config", "imagenet"], "imagenet"),
        (["train", "--node", "carci", "--config", "phantom", "--lr", "0", "--run-dir", "x"], "--lr must be a positive"),
        (["train", "--node", "carci", "--config", "phantom", "--init", "nowhere", "--run-dir", "x"], "nowhere"),
        (["lr-find", "--node", "carci", "--config", "phantom", "--steps", "3"], "'--steps': 3"),
        ([*PHANTOM, "--node", "carci", "--no-range-test", "--lr", "auto"], " with --lr"),
        ([*PHANTOM, "--node", "carci", "--lr-steps", "19"], "'--lr-steps': 19"),
        (["lr-find", "--node", "carci", "--config", "phantom", "--probe", "-1"], "'--probe': -1"),
        (["lr-find", "--node", "carci", "--config", "phantom", "--phase", "head"], "choose --phase all"),
        (["lr-find", "--node", "carci", "--config", "phantom", "--max-lr", "-1"], "positive and rise"),
        (["data", "prepare", "--config", "bach", "--source", "nowhere"], "nowhere"),
        (["data", "splits", "--config", "bach", "--protocol", "kfold:5/6"], "i goes from 1 to K"),
        (["train", "--node", "carci", "--config", "phantom", "--protocol", "k", "--run-dir", "x"], "no protocol 'k'"),
        (["predict", "--model", "nowhere", "x.png"], "it holds no saved_model.pb"),
        (["export", "--out", "m/1"], "needs a run for each node"),
        (["export"], "--out saved_models/NAME/1"),
        (["export", "--out", "m/1", "--quantize", "int8"], "name it with --tflite FILE"),
        (["serve", "--model", "nowhere"], "it holds no saved_model.pb"),
        (["predict", "--server", "localhost:8501", "x.png"], "server's address"),
        (["export", "--carci", "nowhere", "--out", "m/1"], "it has no config.json"),
        ([*PHANTOM, "--node", "carci", "--init", "best"], "starts a specialist from carci or from elsewhere"),
        ([*PHANTOM, "--node", "norbe", "--init", "best"], "none at runs/phantom-carci: train it"),
        ([*PHANTOM, "--node", "norbe", "--until", "runs/x"], "--until is for --protocol all"),
        ([*PHANTOM, "--node", "norbe", "--cycles", "5"], "after epoch 155, beyond the budget of 60"),
        ([*PHANTOM, "--node", "norbe", "--accumulate", "3"], "cannot be computed in --accumulate 3 equal parts"),
        (["reproduce", "--config", "phantom", "--protocol", "all"], "protocol all keeps no validation images"),
        (["train", "--node", "carci", "--config", "phantom", "--seed", "-1"], "--seed must be from 0"),
        (["reproduce", "--config", "phantom", "--init", "x.h5"], "neither imagenet, histology, none, a weights file"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_2(words, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_data_splits_says_what_it_cannot_exclude_next_to_the_counts(tmp_path):
    rows = [f"{prefix}{n:03d},{n // 4}\n" for prefix in ("b", "is", "iv", "n") for n in range(1, 101)]
    (tmp_path / "sheet.csv").write_text("".join(rows))
    asked = ["data", "splits", "--config", "bach", "--protocol", "kfold:5/1"]
    result = run(*asked)
    assert result.stdout == "bach, kfold:5/1, seed 0: 315 train, 85 validation\n"
    assert "cannot exclude leaks" in result.stderr
    result = run(*asked, "--patients", tmp_path / "sheet.csv", "--out", tmp_path / "split.csv")
    assert result.exit_code == 0
    assert "cannot exclude leaks" not in result.stderr
    # The made-up sheet joins and parts the patients of the public list.
    assert "patients" in result.stderr
    assert (tmp_path / "split.csv").read_text().count("validation") == 80


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


def test_export_refuses_an_unfinished_run(tree_of_runs, tmp_path):
    shutil.copytree(tree_of_runs["carci"], tmp_path / "carci")
    (tmp_path / "carci" / "metrics.json").unlink()
    result = run("export", "--carci", tmp_path / "carci", "--out", tmp_path / "tree" / "1")
    assert result.exit_code == 2
    assert "has not finished training" in result.output
    assert not (tmp_path / "tree").exists()


ESCAPES = "\x1b[31m\u202e\u2028\x07"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--node", f"carci{ESCAPES}"],
        ["train", "--node", "carci", f"--{ESCAPES}"],
        [f"train{ESCAPES}"],
        ["predict", "--model", f"no{ESCAPES}where", "x.png"],
        ["predict", "--server", f"local{ESCAPES}host", "x.png"],
        ["data", "splits", "--config", "bach", "--protocol", f"k{ESCAPES}"],
        ["data", "splits", "--config", "bach", "--protocol", "paper", "--out", f"no{ESCAPES}where.csv"],
        ["data", "info", "--data-dir", f"no{ESCAPES}where"],
        ["data", "info", "--data-dir", "no\udcffwhere"],
        ["weights", "port", f"no{ESCAPES}where.pth", "x.h5"],
    ],
    ids=lambda words: ascii(" ".join(words)),
)
def test_no_word_from_outside_reaches_the_terminal_as_an_order_to_it(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert not {"\x1b", "\u202e", "\u2028", "\x07", "\udcff"} & set(result.output)
    assert "Traceback" not in result.output
    assert len(result.output.splitlines()) == result.output.count("\n")


def test_each_file_is_one_row_of_the_table_whatever_its_name(exported, tmp_path):
    names = ["a\n.png", "a\r.png", "\x1b[2J.png", "\u202egnp.png", "=1.png", os.fsdecode(b"\xff\x9b.png")]
    for name in names:
        (tmp_path / name).write_bytes(b"no image")
    for form in ("table", "csv"):
        result = run("predict", "--model", exported, "--format", form, tmp_path)
        for order in (b"\x1b", b"\x9b", "\u202e".encode()):
            assert order not in result.stdout_bytes
        if form == "table":
            assert len(result.stdout_bytes.decode(errors="replace").splitlines()) == len(names)
        else:
            text = result.stdout_bytes.decode(errors="surrogateescape")
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
            assert len(rows) == len(names)
    result = run("predict", "--model", exported, "--format", "json", tmp_path)
    assert {json.loads(line)["path"] for line in result.stdout.splitlines()} == {str(tmp_path / name) for name in names}


def test_a_process_that_only_answers_keeps_packed_kernels():
    code = (
        "import os; from click.testing import CliRunner; from cli import cli\n"
        f"CliRunner().invoke(cli, ['predict', '--model', 'nowhere', 'nowhere']); print(os.environ.get({SWITCH!r}))"
    )
    own = {key: value for key, value in os.environ.items() if key != SWITCH}
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=own)
    assert process.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("words", "before", "has_started", "after"),
    [
        (("predict", "--model", "nowhere", "nowhere"), None, False, "1"),
        (("serve", "--model", "nowhere"), None, False, "1"),
        (("train", "--node", "carci", "--lr", "-1"), None, False, None),
        (("predict", "--model", "nowhere", "nowhere"), "0", False, "0"),
        # A program that has TensorFlow already may also train.
        (("predict", "--model", "nowhere", "nowhere"), None, True, None),
    ],
)
def test_kernels_are_kept_packed_where_nothing_trains(words, before, has_started, after, monkeypatch):
    monkeypatch.setenv(SWITCH, "")  # so that it is put back afterwards
    monkeypatch.delenv(SWITCH) if before is None else monkeypatch.setenv(SWITCH, before)
    if not has_started:
        monkeypatch.setattr(packed_kernels, "sys", SimpleNamespace(modules={}))
    assert run(*words).exit_code == 2
    assert os.environ.get(SWITCH) == after


def test_a_share_of_unsure_answers_that_is_no_number_is_refused():
    given = [part for node in ("carci", "norbe", "invis") for part in (f"--{node}", f"runs/{node}")]
    result = CliRunner().invoke(cli, ["calibrate", *given, "--out", "x.json", "--unsure", "nan"])
    assert result.exit_code == 2
    assert "--unsure must be a number between 0 and 1, not nan." in result.stderr
