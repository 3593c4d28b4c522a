"""Phantoms that several processes draw: the same as one would, with nothing left of them however it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datasets.ahead import ahead
from datasets.catalogue import PHANTOM
from datasets.drawing import drawn_by
from datasets.errors import WorkError
from datasets.phantom import draw_named

ROOT = Path(__file__).parents[2]
NAMES = [record.filename for record in PHANTOM.records[::97]]

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not list processes")


def children(pid="self") -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in listed for child in file.read_text().split()]


def drawing(pid="self") -> list[int]:
    """Return the processes of a process that draw."""
    return [child for child in children(pid) if b"drawing.serve" in Path(f"/proc/{child}/cmdline").read_bytes()]


def until(is_true) -> None:
    deadline = time.monotonic() + 120
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("processes", [1, 3])
def test_processes_draw_what_one_draws_in_order(processes):
    with drawn_by(processes) as draw:
        drawn = list(ahead(draw, NAMES, threads=3))
    for name, pixels in zip(NAMES, drawn, strict=True):
        np.testing.assert_array_equal(pixels, draw_named(name))


@needs_proc
def test_the_processes_are_as_many_as_asked_for_and_none_is_left():
    with drawn_by(3) as draw:
        draw(NAMES[0])
        assert len(drawing()) == 3
    assert drawing() == []


@needs_proc
def test_a_process_imports_no_tensorflow():
    with drawn_by(2) as draw:
        for _ in range(4):
            draw(NAMES[0])
        for process in drawing():
            mapped = Path(f"/proc/{process}/maps").read_text()
            assert "numpy" in mapped
            assert "tensorflow" not in mapped


@needs_proc
def test_a_process_that_is_killed_ends_the_drawing_with_a_sentence():
    with drawn_by(2) as draw:
        draw(NAMES[0])
        os.kill(drawing()[0], signal.SIGKILL)
        with pytest.raises(WorkError, match=r"^A process that draws .* ended by SIGKILL, .*: run it again\.$"):
            list(map(draw, NAMES))
    assert drawing() == []


def test_a_fault_of_a_process_is_no_mistake_of_the_user(capfd):
    with drawn_by(2) as draw, pytest.raises(RuntimeError, match=r"failed at n001\.tif\.$"):
        draw("n001.tif")
    assert "'n001.tif' is not the name of a phantom" in capfd.readouterr().err


def test_phantoms_are_drawn_here_where_no_process_can_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with drawn_by(2) as draw:
        assert draw is draw_named


PREPARE = [sys.executable, "cli.py", "data", "prepare", "--config", "phantom", "--data-dir"]


@needs_proc
@pytest.mark.parametrize("what", ["Ctrl-C", "killed child", "killed"])
def test_a_preparation_that_is_ended_leaves_no_process_and_no_half_set(tmp_path, what):
    command = subprocess.Popen(
        [*PREPARE, tmp_path], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    config = tmp_path / "bach_bisque" / "phantom"
    with command:
        until(lambda: len(drawing(command.pid)) > 1 and list(config.rglob("*incomplete*")))
        processes = drawing(command.pid)
        time.sleep(0.5)
        if what == "Ctrl-C":
            os.killpg(command.pid, signal.SIGINT)
        else:
            os.kill(processes[0] if what == "killed child" else command.pid, signal.SIGKILL)
        stderr = command.communicate(timeout=120)[1]
    until(lambda: not any(Path(f"/proc/{process}").exists() for process in processes))
    if what == "killed":
        assert command.returncode == -signal.SIGKILL
        return
    assert command.returncode == (130 if what == "Ctrl-C" else 1)
    said = r"Interrupted\." if what == "Ctrl-C" else r"Error: A process that draws phantoms was ended by SIGKILL, .*\."
    assert re.fullmatch(rf"\s*{said}\s*", stderr)
    assert [path.name for path in config.iterdir()] == [".prepare.lock"]


SCRIPT = """
import dataclasses, sys
import tensorflow as tf
import tensorflow_datasets as tfds

sys.path.insert(0, {root!r})
from datasets.bach_bisque import bach_bisque_dataset_builder
from datasets.catalogue import CONFIGS, PHANTOM

CONFIGS["phantom"] = (dataclasses.replace(PHANTOM, records=PHANTOM.records[::160]),)
print("the script runs", tf.reduce_sum(tf.random.normal([900, 900]) @ tf.random.normal([900, 900])).shape)
loaded = tfds.load("bach_bisque/phantom", split="train", data_dir={data_dir!r})
print(sorted(example["filename"].numpy().decode() for example in loaded))
"""


def test_tfds_load_draws_in_a_script_that_guards_nothing(tmp_path):
    """A process that ran the script again, or a copy of one that TensorFlow's threads run in, would fail here."""
    (tmp_path / "script.py").write_text(SCRIPT.format(root=str(ROOT), data_dir=str(tmp_path / "data")))
    ran = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    first, names = ran.stdout.splitlines()[0], ran.stdout.splitlines()[-1]
    assert ran.stdout.count("the script runs") == 1
    assert first == "the script runs ()"
    assert names == str(sorted(record.filename for record in PHANTOM.records[::160]))
