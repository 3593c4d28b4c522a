"""Trainings on two devices against the same on one; each has its own processes, for devices are chosen once."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from bach_keras.recipe import Recipe
from bach_keras.run_folder import Run
from bach_keras.training import devices
from bach_keras.training.stops import TrainingError
from bach_keras.training.train import create, reopen
from bach_keras.training.train import train as train_job
from cli import cli
from tests import few_phantoms as few
from tests.trainings import AFTER_EVERY_EPOCH, job, start_at

ROOT = Path(__file__).parents[2]
# At .01 batch norm over four images makes chaos of rounding, also on one device whose start is changed by 1e-6.
RECIPE = replace(few.RECIPE, head_epochs=0, cycles=1, cycle_epochs=2, lr=3e-5)
SECONDS = 240  # far more than is needed, so that a hang ends


def train(parent: str, folder: str, head_epochs: int = 0, tensorboard: bool = False, **options) -> dict:
    """Train norbe from a run of carci, or resume that; the last batch of validation is a single image."""
    data = few.few_phantoms()
    spare = next(name for name in data.files["test"] if data.labels[name] == "normal")
    data.files["validation"].append(spare)
    recipe = replace(RECIPE, head_epochs=head_epochs)
    planned = job(Path(folder), "norbe", start_at(Path(parent)), recipe, data, tensorboard=tensorboard)
    is_there = Path(folder, "config.json").is_file()
    return train_job(planned, reopen(planned) if is_there else create(planned), **options)


class CompareCopies(keras.callbacks.Callback):
    """Looks, at the end, at both devices' copies of every weight."""

    def on_train_end(self, logs=None):
        for weight in self.model.weights:
            one, other = (copy.numpy() for copy in weight.value.values)
            np.testing.assert_array_equal(one, other, weight.path)
        print("compared", len(self.model.weights))


class Leave(keras.callbacks.Callback):
    """Leaves the training after some epochs, when the chief has written."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.after:
            devices.wait()
            sys.exit(0)


def train_mirrored(parent: str, folder: str):
    """Train on two logical devices of this process, and look at both copies of every weight."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    # A process of its own: nothing else sees that it takes processors for GPUs.
    devices.accelerators = lambda: ["CPU:0", "CPU:1"]
    train(parent, folder, tensorboard=True, callbacks=[CompareCopies()])
    assert devices.in_words() == ", 2 devices"


def train_as_worker(parent: str, folder: str, head_epochs: int = 0, leave_after: int = 0):
    """Train with another process; both may leave after some epochs."""
    devices.choose()
    assert devices.in_words() == ", 2 devices on 2 hosts"
    result = train(parent, folder, head_epochs, callbacks=[Leave(leave_after)], state_share=AFTER_EVERY_EPOCH)
    assert bool(result) == devices.is_chief()


def run(call: str, folders: list[Path], environments: list[dict]) -> None:
    """Call a function of this module in several processes at once, each with a folder and an environment."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", f"from tests.training import test_devices as t; t.{call.format(folder=folder)}"],
            cwd=ROOT, env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}, stderr=subprocess.PIPE, text=True,
        )
        for folder, environment in zip(folders, environments, strict=True)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=SECONDS)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()  # does nothing but to one that hangs
    for process, errors in zip(processes, said, strict=True):
        assert process.returncode == 0, errors


def tf_configs(count: int) -> list[dict]:
    """Return the environments of some workers on this host, at ports that are free."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    workers = ["{}:{}".format(*each.getsockname()) for each in sockets]
    for each in sockets:
        each.close()
    return [
        {"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})}
        for index in range(count)
    ]


def last_weights(folder: Path, snapshot: str) -> dict:
    run = Run.open(folder)
    model = run.read_model()
    run.load_snapshot(model, snapshot)
    return {weight.path: weight.numpy() for weight in model.weights}


def assert_same_training(folder: Path, alone: Path, parent: Path):
    """Compare weights, statistics and history of two runs, up to a small share of what changed."""
    ended = f"cycle-{Run.open(alone).recipe.head_epochs}-1"  # as many phases before it as epochs
    ours, theirs, before = last_weights(folder, ended), last_weights(alone, ended), last_weights(parent, "best")
    for path, weight in theirs.items():
        moved, size = np.abs(weight - before[path]).max(), np.abs(weight).max()
        assert (moved > 0) == path.startswith(("layer3", "layer4", "head")), path
        np.testing.assert_allclose(ours[path], weight, rtol=0, atol=1e-3 * moved + 1e-5 * size, err_msg=path)
    for row, other in zip(*(Run.open(each).history() for each in (folder, alone)), strict=True):
        for name in ("loss", "val_loss", "accuracy", "val_accuracy", "learning_rate"):
            assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-4)


@pytest.fixture(scope="module")
def alone(tree_of_runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert not devices.in_words()
    train(str(tree_of_runs["carci"]), str(folder))
    return folder


def test_two_devices_of_a_host_train_as_one(tree_of_runs, alone, tmp_path):
    run(f"train_mirrored({str(tree_of_runs['carci'])!r}, '{{folder}}')", [tmp_path / "run"], [{}])
    assert_same_training(tmp_path / "run", alone, tree_of_runs["carci"])


def test_two_hosts_train_as_one_device_and_only_the_chief_writes(tree_of_runs, alone, tmp_path):
    chief, other = tmp_path / "chief", tmp_path / "other"
    run(f"train_as_worker({str(tree_of_runs['carci'])!r}, '{{folder}}')", [chief, other], tf_configs(2))
    assert_same_training(chief, alone, tree_of_runs["carci"])
    assert not other.exists()


@pytest.mark.long
def test_two_hosts_resume_from_the_folder_that_they_share(tree_of_runs, tmp_path):
    chief, other, alone = (tmp_path / name for name in ("chief", "other", "alone"))
    call = f"train_as_worker({str(tree_of_runs['carci'])!r}, '{{folder}}', head_epochs=1"
    run(f"{call}, leave_after=2)", [chief, other], tf_configs(2))
    assert not Run.open(chief).is_finished
    assert not other.exists()
    # A copy shows what the other would write.
    shutil.copytree(chief, other)
    before = {path: path.read_bytes() for path in other.rglob("*.*")}
    run(f"{call})", [chief, other], tf_configs(2))
    assert {path: path.read_bytes() for path in other.rglob("*.*")} == before
    train(str(tree_of_runs["carci"]), str(alone), head_epochs=1)
    assert_same_training(chief, alone, tree_of_runs["carci"])


def test_what_devices_cannot_share_is_refused():
    devices.check(replace(RECIPE, accumulate=2, precision="mixed_float16"), 1)
    with pytest.raises(ValueError, match="--batch-size 10 cannot be shared out evenly over 4 devices"):
        devices.check(Recipe(), 4)
    with pytest.raises(ValueError, match="--accumulate is for one device"):
        devices.check(Recipe(batch_size=8, accumulate=2), 4)
    with pytest.raises(ValueError, match="take mixed_bfloat16"):
        devices.check(Recipe(batch_size=8, precision="mixed_float16"), 4)
    devices.check(Recipe(batch_size=8, precision="mixed_bfloat16"), 4)


def test_several_hosts_train_from_one_start(tree_of_runs, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_configs(2)[0]["TF_CONFIG"])
    words = ["train", "--node", "norbe", "--config", "phantom", "--init", f"best:{tree_of_runs['carci']}"]
    answer = CliRunner().invoke(cli, [*words, "--run-dir", str(tmp_path / "run")])
    assert answer.exit_code == 2
    assert "--init best is for one host" in answer.output


def test_a_lost_host_ends_the_training_in_a_sentence():
    with pytest.raises(TrainingError, match=r"Another host was lost \(socket closed\)"), devices.scope():
        raise tf.errors.UnavailableError(None, None, "socket\nclosed")


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"cluster": {"worker": 2}}'])
def test_a_broken_tf_config_says_so(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="TF_CONFIG cannot be read"):
        devices.hosts()


def test_a_cluster_of_one_is_no_cluster(monkeypatch):
    assert devices.hosts() == 1
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"chief": ["localhost:1"]}, "task": {"type": "chief", "index": 0}}')
    assert devices.hosts() == 1
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1"]}}')
    assert devices.hosts() == 3
