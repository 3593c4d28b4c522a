"""What ends a training early: divergence, a loss that was to be reached, a disk that is full."""

import errno
import os
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from bach_keras.members import WHOLE_DATA_WEIGHT, load_member
from bach_keras.network.resnext import BatchNorm
from bach_keras.run_folder import Run, recipe_as_json
from bach_keras.training import checkpoint
from bach_keras.training.best_start import train_best
from bach_keras.training.building import network
from bach_keras.training.stops import Interrupted, StopAtDivergence, TrainingError
from bach_keras.training.train import check_resumable, create, reopen, train
from cli import cli
from datasets.errors import UserError, WorkError
from tests.few_phantoms import NO_SWEEP
from tests.trainings import AFTER_EVERY_EPOCH, RANDOM, Interrupt, history, job, trained


def test_a_diverging_training_names_the_step_and_the_rate_and_keeps_good_weights(recipe, interrupted_run):
    run = interrupted_run
    before = (run.folder / "snapshots/best.weights.h5").read_bytes()
    wild = job(run.folder, recipe=replace(recipe, lr=1e30))
    words = r"loss is (nan|inf) at step \d of 4 of epoch 2, at a rate of \S+e\+(29|30); the last good .*best"
    with pytest.raises(TrainingError, match=words):
        train(wild, reopen(wild, allow_changes=True))
    assert (run.folder / "snapshots/best.weights.h5").read_bytes() == before
    assert not Run.open(run.folder).is_finished


def test_weights_that_an_epochs_last_update_spoils_are_not_kept(few_phantoms, recipe, tmp_path):
    """The loss of a step is that before its update, so no step's loss shows this one."""

    class Spoiler(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps = self.params["steps"]
            if batch == steps - 1 and self.model.optimizer.iterations > steps:
                self.model.trainable_variables[0].assign(np.nan * self.model.trainable_variables[0])

    whole = replace(few_phantoms, protocol="all", files={**few_phantoms.files, "validation": []})
    with pytest.raises(TrainingError, match=r"weights contain NaN or infinity after step 4 of 4 of epoch 3.*last good"):
        trained(job(tmp_path / "run", recipe=NO_SWEEP, data=whole), callbacks=[Spoiler()])
    model = network(recipe)
    Run.open(tmp_path / "run").load_snapshot(model, "best")
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
        ("gamma", np.nan, "the weights contain NaN or infinity after step 4 of 4 of epoch 3"),
    ],
)
def test_batch_norm_that_is_spoilt_stops_a_training_before_it_is_kept(place, value, message, norm, tmp_path):
    stop = StopAtDivergence(Run(tmp_path, {}), 4)
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
    stop = StopAtDivergence(Run(tmp_path, {}), 4)
    stop.set_model(model)
    with pytest.raises(TrainingError, match=r"loss is nan at step 2 of 4 of epoch 1, at a rate of 0.5; no epoch"):
        stop.on_train_batch_end(1, {"loss": np.nan})
    with pytest.raises(TrainingError, match=r"at a rate of 0.5"):
        stop.on_epoch_end(0)


def test_good_statistics_do_not_stop_a_training(tmp_path):
    stop = StopAtDivergence(Run(tmp_path, {}), 4)
    stop.set_model(normalised("moving_variance", 0.0))
    stop.on_epoch_end(0)


def test_a_validation_loss_of_nan_is_never_the_best():
    spoilt, poor = ({"accuracy": 0.5, "loss": loss} for loss in (float("nan"), 9.0))
    assert checkpoint.standing(spoilt) < checkpoint.standing(poor)


def test_the_whole_set_trains_until_the_loss_of_another_runs_best_epoch(few_phantoms, tree_of_runs, tmp_path):
    stop_at = Run.open(tree_of_runs["carci"])
    wanted = stop_at.loss_to_reach("carci")
    assert wanted["loss"] == history(stop_at.folder)[wanted["epoch"] - 1]["loss"]
    everything = {"train": sorted(few_phantoms.labels), "validation": [], "test": []}
    whole = replace(few_phantoms, protocol="all", files=everything)
    longer = replace(NO_SWEEP, cycle_epochs=8, cycles=1)
    result = trained(job(tmp_path / "run", recipe=longer, data=whole, stop_at=stop_at))
    losses = [row["loss"] for row in history(tmp_path / "run")]
    assert result["reached"] == (losses[-1] <= wanted["loss"])
    assert all(loss > wanted["loss"] for loss in losses[:-1])
    assert result["reached"] or len(losses) == longer.epochs
    assert set(few_phantoms.files["validation"]) <= set(Run.open(tmp_path / "run").settings["chosen_on"])
    assert load_member("carci", str(tmp_path / "run")).weight == WHOLE_DATA_WEIGHT


def test_a_run_of_another_node_cannot_say_when_to_stop(tree_of_runs):
    with pytest.raises(ValueError, match="is a run of norbe, so it cannot say when carci stops"):
        Run.open(tree_of_runs["norbe"]).loss_to_reach("carci")


def test_a_full_disk_ends_a_run_in_one_sentence_and_it_is_resumed_later(tree_of_runs, tmp_path, monkeypatch):
    write, written = np.savez, []

    def full(file, *arrays, **named):
        written.append(file)
        if len(written) == 2:
            write(file, *arrays[:3], **named)  # some of it
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, *arrays, **named)

    planned = job(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(TrainingError, match=r"No space left on device.*make room on the disk"):
            trained(planned, state_share=AFTER_EVERY_EPOCH)
    assert checkpoint.load(Run.open(planned.folder)).epoch == 1
    train(planned, reopen(planned))
    assert (tmp_path / "run/history.csv").read_text() == (tree_of_runs["carci"] / "history.csv").read_text()


def test_a_file_that_is_lost_while_a_run_trains_is_no_mistake_before_it(tmp_path):
    def lose(epoch, logs):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "gone")

    planned = job(tmp_path / "run", recipe=NO_SWEEP)
    with pytest.raises(WorkError, match=r"gone: No such file or directory\."):
        trained(planned, callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=lose)])


def test_a_run_is_resumed_with_another_recipe_or_version_only_where_that_is_allowed(recipe, interrupted_run):
    run = interrupted_run
    other = job(run.folder, recipe=replace(recipe, lr=0.02))
    with pytest.raises(ValueError, match=r"Cannot resume .* lr was 0.01, is 0.02.*--allow-changes"):
        reopen(other)
    newer = Run(run.folder, {**run.settings, "versions": {**run.settings["versions"], "keras": "2.0"}})
    newer.write_settings()
    with pytest.raises(ValueError, match=r"keras was 2.0, is 3"):
        reopen(job(run.folder))
    run.write_settings()
    train(other, reopen(other, allow_changes=True))
    changes = Run.open(run.folder).settings["changes"]
    assert changes == [{"after_epoch": 1, "changed": ["lr was 0.01, is 0.02"]}]


def test_a_run_is_not_resumed_with_other_pixels_or_with_what_its_state_cannot_fit(
    few_phantoms, recipe, interrupted_run
):
    class OtherPixels(type(few_phantoms)):
        def digest(self, filenames):
            return "another"

    run = interrupted_run
    before = (run.folder / "config.json").read_text()
    with pytest.raises(ValueError, match=r"images_sha256 was \w{64}, is another.*--allow-changes"):
        reopen(job(run.folder, data=OtherPixels(**vars(few_phantoms))))
    with pytest.raises(ValueError, match="cannot be resumed with another batch_size, not even with --allow-changes"):
        reopen(job(run.folder, recipe=replace(recipe, batch_size=2)), allow_changes=True)
    assert (run.folder / "config.json").read_text() == before


def test_a_best_snapshot_later_than_the_state_is_forgotten_where_the_replay_may_differ(interrupted_run):
    run = interrupted_run
    progress = checkpoint.load(run)
    checkpoint.forget_lost_best(run, progress)
    assert checkpoint.load(run).best["epoch"] == 1
    lost = {**progress.history[0], "epoch": 2, "val_accuracy": 1.0}
    run.write_history([*progress.history, lost])
    checkpoint.forget_lost_best(run, progress)
    assert checkpoint.load(run).best == {}


def test_an_interrupted_training_says_what_is_kept_and_how_to_resume(recipe, tmp_path):
    folder = tmp_path / "a run"
    with pytest.raises(Interrupted) as raised:
        trained(job(folder, recipe=NO_SWEEP), callbacks=[Interrupt(after=1)], state_share=AFTER_EVERY_EPOCH)
    said = str(raised.value)
    assert said.startswith(
        f"Interrupted: {folder} keeps the state after epoch 1 of {recipe.epochs} and the snapshots best, cycle-0-1. "
    )
    words = shlex.split(said.partition("Resume with: ")[2])
    assert words == ["python", "cli.py", "train", "--node", "carci", "--run-dir", str(folder), "--resume"]
    assert checkpoint.load(Run.open(folder)).epoch == 1


def test_a_training_that_is_interrupted_while_it_writes_leaves_nothing_half_written(tmp_path, monkeypatch):
    def half(self, path):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "save_weights", half)
    with pytest.raises(
        Interrupted, match=r"run has no saved state yet, so it starts again from its first epoch\. Resume"
    ):
        trained(job(tmp_path / "run", recipe=NO_SWEEP))
    assert not [path for path in (tmp_path / "run").rglob("*") if ".part" in path.name]


def test_an_interrupted_run_says_what_it_keeps_in_each_state(recipe, tmp_path):
    run = Run.create(tmp_path / "run", {"node": "norbe", "recipe": recipe_as_json(recipe)})
    (run.folder / "snapshots/best.weights.h5").touch()
    (run.folder / ".1-0.part.csv").touch()
    said = str(checkpoint.interrupted(run, Path("my data"), KeyboardInterrupt()))
    assert "starts again from its first epoch; it keeps the snapshots best. Resume with: python cli.py train" in said
    assert said.endswith("--resume --data-dir 'my data'")
    assert not (run.folder / ".1-0.part.csv").exists()
    run.write_metrics({})
    assert "had just finished. Nothing is left" in str(checkpoint.interrupted(run, None, KeyboardInterrupt()))


def test_a_run_killed_right_after_its_last_file_is_finished_and_loses_the_state_to_resume_from(recipe, tmp_path):
    run = Run.create(tmp_path / "run", {"node": "norbe", "recipe": recipe_as_json(recipe)})
    run.write_metrics({})
    before = sorted(run.folder.iterdir())
    for path in (run.state_path, run.folder / ".lock"):
        path.touch()
    with pytest.raises(UserError, match="is finished: there is nothing to resume"):
        check_resumable(run, recipe)
    assert sorted(run.folder.iterdir()) == before


def test_of_two_starts_the_same_command_is_given_again(tmp_path, monkeypatch):
    def stopped(self, *given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "fit", stopped)
    starts = {"none": RANDOM, "other": RANDOM}
    words = r"Resume by giving the same command again: what is finished is kept\."
    with pytest.raises(Interrupted, match=words):
        train_best(job(tmp_path / "run", recipe=NO_SWEEP), starts)


@pytest.mark.parametrize(
    ("stop", "code"),
    [
        (lambda *given, **named: os.kill(os.getpid(), signal.SIGINT), 130),
        (lambda *given, **named: os.kill(os.getpid(), signal.SIGTERM), 143),
    ],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_an_interrupted_command_ends_with_its_signals_code_and_no_traceback(stop, code, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    # The first thing that the command does with the data set.
    monkeypatch.setattr("datasets.split_data.get_split", stop)
    words = ["train", "--node", "carci", "--config", "phantom", "--run-dir", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, words)
    assert (result.exit_code, "Traceback" in result.output) == (code, False)
    assert "Give the same command again" in result.stderr
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_any_other_command_ends_it_with_its_code(tree_of_runs, tmp_path, monkeypatch, number, code):
    monkeypatch.setattr(Path, "is_file", lambda path: os.kill(os.getpid(), number))
    result = CliRunner().invoke(cli, ["evaluate", "--carci", str(tree_of_runs["carci"]), "--out", str(tmp_path)])
    assert (result.exit_code, result.stderr) == (code, "\nInterrupted.\n")


def test_a_run_that_another_process_trains_is_neither_resumed_nor_replaced(interrupted_run):
    run, planned = Run.open(interrupted_run.folder), job(interrupted_run.folder)
    before = sorted(run.folder.rglob("*"))
    with interrupted_run.alone():
        for begin in (lambda: reopen(planned), lambda: create(planned, overwrite=True), lambda: train(planned, run)):
            with pytest.raises(UserError, match=r"Another process trains .*: wait for it to end, or choose another"):
                begin()
    assert sorted(run.folder.rglob("*")) == before


def test_a_run_that_was_replaced_before_it_could_be_locked_is_not_trained_in_the_others_folder(interrupted_run):
    run, planned = Run.open(interrupted_run.folder), job(interrupted_run.folder)
    create(planned, overwrite=True)
    other = Run(run.folder, {**run.settings, "split_seed": 5})
    other.write_settings()
    with pytest.raises(UserError, match=r"Another process started a run in .* meanwhile: choose another --run-dir"):
        train(planned, run)
