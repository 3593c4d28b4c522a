"""What ends a training early: divergence, a loss that was to be reached, a disk that is full."""

import csv
import errno
import json
import os
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from bach_keras import run_folder as runs
from bach_keras.network.resnext import BatchNorm
from bach_keras.training import best_start as best
from bach_keras.training import checkpoint as kept
from bach_keras.training import command
from bach_keras.training import train as training
from bach_keras.training.stops import Interrupted, StopAtDivergence, TrainingError
from cli import cli


def quiet(line):
    pass


def history(folder) -> list[dict]:
    with (folder / "history.csv").open() as file:
        return [{**row, "loss": float(row["loss"])} for row in csv.DictReader(file)]


def cut(data, recipe, folder, monkeypatch, after=1):
    """Train carci until some epoch's state is written, and return the run."""
    saved = kept.save

    def save_then_die(run, progress):
        saved(run, progress)
        if progress.epoch == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kept, "STATE_SHARE", 1e9)
        patch.setattr(kept, "save", save_then_die)
        with pytest.raises(KeyboardInterrupt):
            training.train(data, "carci", training.Start("none"), recipe, folder, say=quiet)
    return runs.open_run(folder)


def test_a_diverging_training_names_the_step_and_the_rate_and_keeps_good_weights(
    few_phantoms, recipe, tmp_path, monkeypatch
):
    run = cut(few_phantoms, recipe, tmp_path / "run", monkeypatch)
    before = (run.folder / "snapshots/best.weights.h5").read_bytes()
    wild = replace(recipe, lr=1e30)
    told = r"loss is (nan|inf) at step \d of 4 of epoch 2, at a rate of \S+e\+(29|30); the last good weights are .*best"
    with pytest.raises(TrainingError, match=told):
        training.resume(few_phantoms, training.Start("none"), run, quiet, wild, allow_changes=True)
    assert (run.folder / "snapshots/best.weights.h5").read_bytes() == before
    assert not runs.open_run(run.folder).is_finished


def test_weights_that_an_epochs_last_update_spoils_are_not_kept(few_phantoms, recipe, tmp_path, monkeypatch):
    """The loss of a step is that before its update, so no step's loss shows this one."""

    class Spoiler(kept.Dropout):
        def on_train_batch_end(self, batch, logs=None):
            if batch == self.steps - 1 and self.model.optimizer.iterations > self.steps:
                self.model.trainable_variables[0].assign(np.nan * self.model.trainable_variables[0])

    monkeypatch.setattr(kept, "Dropout", Spoiler)
    whole = replace(few_phantoms, protocol="all", files={**few_phantoms.files, "validation": []})
    with pytest.raises(TrainingError, match=r"weights are no numbers after step 4 of 4 of epoch 3.*the last good"):
        training.train(whole, "carci", training.Start("none"), recipe, tmp_path / "run", say=quiet)
    monkeypatch.undo()
    model = training.network(recipe)
    runs.load_snapshot(model, tmp_path / "run/snapshots/best")
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def normalised(place: str, value: float, norm=keras.layers.BatchNormalization) -> keras.Model:
    """Return a model with a nested batch norm, one value of whose weights is spoilt."""
    inside = keras.Sequential([keras.Input((2,)), norm(name="norm")])
    model = keras.Sequential([keras.Input((2,)), inside, keras.layers.Dropout(0.1), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    weight = getattr(inside.get_layer("norm"), place)
    weight.assign([1.0, value])
    return model


@pytest.mark.parametrize("norm", [keras.layers.BatchNormalization, BatchNorm])
@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            "moving_mean",
            np.nan,
            r"statistics of batch norm contain NaN or infinity \(\S*moving_mean\) after step 4 of 4 of epoch 3",
        ),
        ("moving_mean", -np.inf, "the statistics of batch norm contain NaN or infinity"),
        (
            "moving_variance",
            np.nan,
            r"statistics of batch norm contain NaN or infinity \(\S*norm/moving_variance\)",
        ),
        ("moving_variance", np.inf, "the statistics of batch norm contain NaN or infinity"),
        ("moving_variance", -1e-3, r"variances of batch norm are below 0 \(\S*norm/moving_variance\) after step 4"),
        ("gamma", np.nan, "weights are no numbers after step 4 of 4 of epoch 3"),
    ],
)
def test_batch_norm_that_is_spoilt_stops_a_training_before_it_is_kept(place, value, message, norm, tmp_path):
    stop = StopAtDivergence(tmp_path, 4)
    stop.set_model(normalised(place, value, norm))
    stop.on_epoch_begin(2)
    with pytest.raises(TrainingError, match=message):
        stop.on_epoch_end(2)


def test_a_divergence_on_several_devices_is_one_sentence_too(tmp_path, monkeypatch):
    class OnSeveral:
        """A rate as MirroredStrategy holds it, of which Python makes no float."""

        def numpy(self):
            return np.float32(0.5)

    model = normalised("gamma", np.nan)
    monkeypatch.setattr(type(model.optimizer), "learning_rate", OnSeveral())
    stop = StopAtDivergence(tmp_path, 4)
    stop.set_model(model)
    with pytest.raises(TrainingError, match=r"loss is nan at step 2 of 4 of epoch 1, at a rate of 0.5; no epoch"):
        stop.on_train_batch_end(1, {"loss": np.nan})
    with pytest.raises(TrainingError, match=r"at a rate of 0.5"):
        stop.on_epoch_end(0)


def test_good_statistics_do_not_stop_a_training(tmp_path):
    stop = StopAtDivergence(tmp_path, 4)
    stop.set_model(normalised("moving_variance", 0.0))
    stop.on_epoch_end(0)


def test_a_validation_loss_that_is_no_number_is_never_the_best():
    assert kept.standing({"accuracy": 0.5, "loss": float("nan")}) < kept.standing({"accuracy": 0.5, "loss": 9.0})


def test_the_whole_set_trains_until_the_loss_of_another_runs_best_epoch(few_phantoms, tree_of_runs, recipe, tmp_path):
    told = runs.loss_to_reach(runs.open_run(tree_of_runs["carci"]), "carci")
    losses = [row["loss"] for row in history(tree_of_runs["carci"])]
    assert told["loss"] == losses[told["epoch"] - 1]
    everything = {"train": sorted(few_phantoms.labels), "validation": [], "test": []}
    whole = replace(few_phantoms, protocol="all", files=everything)
    until = runs.open_run(tree_of_runs["carci"])
    longer = replace(recipe, cycle_epochs=8, cycles=1)
    result = training.train(whole, "carci", training.Start("none"), longer, tmp_path / "run", say=quiet, until=until)
    losses = [row["loss"] for row in history(tmp_path / "run")]
    assert result["reached"] == (losses[-1] <= told["loss"])
    assert all(loss > told["loss"] for loss in losses[:-1])
    assert result["reached"] or len(losses) == longer.epochs
    config = runs.open_run(tmp_path / "run").config
    assert set(few_phantoms.files["validation"]) <= set(config["chosen_on"])
    assert runs.load_member("carci", str(tmp_path / "run")).weight == runs.WHOLE_DATA_WEIGHT


def test_a_run_of_another_node_cannot_say_when_to_stop(tree_of_runs):
    with pytest.raises(ValueError, match="is a run of norbe, so it cannot say when carci stops"):
        runs.loss_to_reach(runs.open_run(tree_of_runs["norbe"]), "carci")


def test_a_full_disk_ends_a_run_in_one_sentence_and_it_goes_on_later(
    few_phantoms, tree_of_runs, recipe, tmp_path, monkeypatch
):
    write, written = np.savez, []

    def full(file, *arrays, **named):
        written.append(file)
        if len(written) == 2:
            write(file, *arrays[:3], **named)  # some of it
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, *arrays, **named)

    start = training.Start("none")
    with monkeypatch.context() as patch:
        patch.setattr(kept, "STATE_SHARE", 1e9)
        patch.setattr(kept.np, "savez", full)
        with pytest.raises(TrainingError, match=r"No space left on device.*make room on the disk"):
            training.train(few_phantoms, "carci", start, recipe, tmp_path / "run", say=quiet)
    run = runs.open_run(tmp_path / "run")
    assert kept.load(run).epoch == 1
    training.resume(few_phantoms, start, run, say=quiet)
    assert (tmp_path / "run/history.csv").read_text() == (tree_of_runs["carci"] / "history.csv").read_text()


def test_a_run_does_not_go_on_with_another_recipe_or_version_unless_told(few_phantoms, recipe, tmp_path, monkeypatch):
    start, run = training.Start("none"), cut(few_phantoms, recipe, tmp_path / "run", monkeypatch)
    other = replace(recipe, lr=0.02)
    with pytest.raises(ValueError, match=r"lr was 0.01, is 0.02.*--allow-changes"):
        training.resume(few_phantoms, start, run, quiet, other)
    newer = {**run.config, "versions": {**run.config["versions"], "keras": "2.0"}}
    with pytest.raises(ValueError, match=r"keras was 2.0, is 3"):
        training.resume(few_phantoms, start, runs.Run(run.folder, newer), quiet)
    training.resume(few_phantoms, start, run, quiet, other, allow_changes=True)
    changes = json.loads((tmp_path / "run/config.json").read_text())["changes"]
    assert changes == [{"after_epoch": 1, "changed": ["lr was 0.01, is 0.02"]}]


def test_a_run_does_not_go_on_with_other_pixels_or_with_what_its_state_cannot_fit(
    few_phantoms, recipe, tmp_path, monkeypatch
):
    start, run = training.Start("none"), cut(few_phantoms, recipe, tmp_path / "run", monkeypatch)
    before = (run.folder / "config.json").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(type(few_phantoms), "digest", lambda self, names: "another")
        with pytest.raises(ValueError, match=r"images_sha256 was \w{64}, is another.*--allow-changes"):
            training.resume(few_phantoms, start, run, quiet)
    with pytest.raises(ValueError, match="cannot go on with another batch_size, with --allow-changes either"):
        training.resume(few_phantoms, start, run, quiet, replace(recipe, batch_size=2), allow_changes=True)
    assert (run.folder / "config.json").read_text() == before


def test_a_best_snapshot_later_than_the_state_is_forgotten_where_the_replay_may_differ(
    few_phantoms, recipe, tmp_path, monkeypatch
):
    run = cut(few_phantoms, recipe, tmp_path / "run", monkeypatch)
    progress = kept.load(run)
    kept.forget_lost_best(run, progress)
    assert kept.load(run).best["epoch"] == 1
    lost = {**progress.history[0], "epoch": 2, "val_accuracy": 1.0}
    runs.write_history(run.folder / "history.csv", [*progress.history, lost])
    kept.forget_lost_best(run, progress)
    assert kept.load(run).best == {}


def interrupted(data, recipe, folder) -> Interrupted:
    """Train carci until it is interrupted, and return what is raised."""
    with pytest.raises(Interrupted) as raised:
        training.train(data, "carci", training.Start("none"), recipe, folder, say=quiet)
    return raised.value


def test_a_training_that_is_interrupted_says_what_is_kept_and_how_to_resume(
    few_phantoms, recipe, tmp_path, monkeypatch
):
    class Stopped(kept.Dropout):
        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch, logs)
            if epoch == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(kept, "STATE_SHARE", 1e9)
    monkeypatch.setattr(kept, "Dropout", Stopped)
    folder = tmp_path / "a run"
    told = interrupted(few_phantoms, recipe, folder)
    assert str(told).startswith(
        f"Interrupted: {folder} keeps the state after epoch 1 of {recipe.epochs} and the snapshots best, cycle-0-1. "
    )
    words = shlex.split(str(told).partition("Resume with: ")[2])
    assert words == ["python", "cli.py", "train", "--node", "carci", "--run-dir", str(folder), "--resume"]
    assert kept.load(runs.open_run(folder)).epoch == 1


def test_a_training_that_is_interrupted_while_it_writes_leaves_nothing_half_written(
    few_phantoms, recipe, tmp_path, monkeypatch
):
    def half(self, path):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "save_weights", half)
    told = interrupted(few_phantoms, recipe, tmp_path / "run")
    assert f"no state of {tmp_path / 'run'} is kept yet, so it starts again from its first epoch. Resume" in str(told)
    assert not [path for path in (tmp_path / "run").rglob("*") if ".part" in path.name]


def test_what_an_interrupted_run_keeps_is_said_of_each_state(recipe, tmp_path):
    run = runs.Run(tmp_path, {"node": "norbe", "recipe": runs.recipe_as_json(recipe)})
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots/best.weights.h5").touch()
    (tmp_path / ".history.csv.part").touch()
    told = str(kept.interrupted(run, Path("my data"), KeyboardInterrupt()))
    assert "starts again from its first epoch; kept are the snapshots best. Resume with: python cli.py train" in told
    assert told.endswith("--resume --data-dir 'my data'")
    assert not (tmp_path / ".history.csv.part").exists()
    (tmp_path / "metrics.json").touch()
    assert "was finished just before. Nothing is left" in str(kept.interrupted(run, None, KeyboardInterrupt()))


def test_of_two_starts_the_same_command_is_given_again(few_phantoms, recipe, tmp_path, monkeypatch):
    def stopped(*given, **named):
        raise Interrupted("Interrupted: run-from-none keeps all.", "Resume with: x", KeyboardInterrupt())

    monkeypatch.setattr(best, "train_or_go_on", stopped)
    starts = {"none": training.Start("none"), "other": training.Start("none")}
    told = r"keeps all\. Resume by giving the same command again: what is finished is kept\."
    with pytest.raises(Interrupted, match=told):
        best.train_best(few_phantoms, "carci", starts, recipe, tmp_path / "run", say=quiet)


@pytest.mark.parametrize(
    ("raised", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "Give the same command again"),
        (
            Interrupted("Interrupted: it keeps all.", "Resume with: x", KeyboardInterrupt()),
            130,
            "keeps all. Resume with: x",
        ),
    ],
)
def test_an_interrupted_command_ends_with_130_and_no_traceback(raised, code, sentence, monkeypatch):
    def run(*given):
        raise raised

    monkeypatch.setattr(command, "run_training", run)
    result = CliRunner().invoke(cli, ["train", "--node", "carci", "--config", "phantom"])
    assert (result.exit_code, "Traceback" in result.output) == (code, False)
    assert sentence in result.stderr


def test_a_terminated_command_ends_with_143(monkeypatch):
    monkeypatch.setattr(command, "run_training", lambda *given: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    result = CliRunner().invoke(cli, ["train", "--node", "carci", "--config", "phantom"])
    assert result.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c_in_any_other_command_ends_with_130(monkeypatch):
    def run(*given):
        raise KeyboardInterrupt

    from bach_keras.commands import training as commands

    monkeypatch.setattr(commands, "load_members", run)
    result = CliRunner().invoke(cli, ["evaluate", "--carci", "x", "--out", "y"])
    assert (result.exit_code, result.stderr) == (130, "\nInterrupted.\n")
