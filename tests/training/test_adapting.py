"""Runs that start from another run or from a member of an export, of the same node too: what they take and say."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from bach_keras.exported_members import find
from bach_keras.run_folder import Run
from bach_keras.training.best_start import train_best
from bach_keras.training.building import network
from bach_keras.training.start import Start, recorded_init, start_from, start_of_run, starts_from
from bach_keras.training.train import create, finish, reopen, train
from cli import cli
from tests.few_phantoms import NO_SWEEP
from tests.trainings import history, interrupted, job, start_at, trained, weights

HEAD = replace(NO_SWEEP, cycles=0)


def started(start, recipe=NO_SWEEP) -> dict:
    """Return the weights of a network that begins there, by path."""
    model = network(recipe)
    start.load(model)
    return {weight.path: weight.numpy() for weight in model.weights}


@pytest.fixture(scope="module")
def adapted(exported, tmp_path_factory):
    """A run of norbe from the export's member of norbe."""
    folder = tmp_path_factory.mktemp("adapted") / "norbe"
    trained(job(folder, "norbe", start_from(str(exported), "own-lab", "norbe"), HEAD))
    return folder


def test_a_run_from_an_export_says_where_it_comes_from(adapted, exported, tree_of_runs, few_phantoms):
    run, own = Run.open(adapted), Run.open(tree_of_runs["norbe"])
    assert run.settings["init"] == f"{exported}:norbe"
    assert run.settings["head"] == "kept"
    assert run.settings["ancestors"] == [f"{exported}:norbe"]
    assert own.provenance.trained_on <= run.provenance.trained_on
    assert own.provenance.chosen_on <= run.provenance.chosen_on
    assert run.provenance.trained_on == set(few_phantoms.files["train"])  # carci's too, from which norbe started


def test_what_is_kept_frozen_is_the_members_bit_for_bit(adapted, exported):
    member = {weight.path: weight.numpy() for weight in find(str(exported), "norbe").read_model().weights}
    for path, value in zip(member, weights(adapted), strict=True):
        assert np.array_equal(member[path], value) == (not path.startswith("head.")), path


def test_the_head_is_taken_of_the_same_node_alone(exported, tree_of_runs):
    for start, keeps in (
        (start_from(f"{exported}:norbe", "phantom", "norbe"), True),
        (start_from(f"{exported}:norbe", "phantom", "norbe", "new"), False),
        (start_from(f"{exported}:carci", "phantom", "norbe"), False),
        (start_from(str(tree_of_runs["norbe"]), "phantom", "norbe"), False),
        (start_from(str(tree_of_runs["norbe"]), "phantom", "norbe", "keep"), True),
        (start_from(str(tree_of_runs["norbe"]), "own-lab", "norbe"), True),
        (start_from(str(tree_of_runs["norbe"]), "bach+own-lab", "norbe", "new"), False),
        (start_from(str(tree_of_runs["carci"]), "own-lab", "norbe"), False),
        (start_from(str(tree_of_runs["norbe"]), "own-lab"), False),  # for all three nodes
    ):
        own = {weight.path: weight.numpy() for weight in start.parent.read_model().weights}
        assert ("head kept" in str(start), "new head" in str(start)) == (keeps, not keeps)
        assert start.recorded.get("head") == ("kept" if keeps else None)
        for path, value in started(start).items():
            # New biases and statistics are 0 and 1, which a short training may have left as they are.
            if path.endswith("kernel"):
                assert np.array_equal(value, own[path]) == (keeps or not path.startswith("head.")), (str(start), path)


@pytest.mark.parametrize(
    ("init", "head", "sentence"),
    [("none", "new", "--init none has none"), ("carci", "keep", "is of carci, whose head answers another question")],
)
def test_a_head_that_is_not_there_is_not_kept(tree_of_runs, init, head, sentence):
    with pytest.raises(ValueError, match=sentence):
        start_from(str(tree_of_runs.get(init, init)), "phantom", "norbe", head)


def test_a_run_from_an_export_is_resumed_bit_for_bit_with_the_head_it_kept(exported, tmp_path):
    start = start_from(str(exported.parent), "phantom", "norbe")
    short = replace(NO_SWEEP, cycles=1)
    whole = job(tmp_path / "whole", "norbe", start, short)
    trained(whole)
    run = interrupted(job(tmp_path / "cut", "norbe", start, short))
    again = replace(whole, folder=run.folder, start=start_of_run(run.settings))
    assert again.start.keeps_head
    train(again, reopen(again))
    for one, other in zip(weights(whole.folder), weights(run.folder), strict=True):
        np.testing.assert_array_equal(one, other)
    assert history(whole.folder) == history(run.folder)


def test_a_finished_run_with_another_head_is_another_run(adapted, exported):
    start = start_from(str(exported), "phantom", "norbe", "new")
    with pytest.raises(ValueError, match="holds another run than the one wanted here: head was kept, is new"):
        finish(job(adapted, "norbe", start, HEAD))
    finish(job(adapted, "norbe", replace(start, keeps_head=True), HEAD))  # trains nothing


def test_images_that_trained_a_member_do_not_validate(exported, few_phantoms, tmp_path):
    swapped = {**few_phantoms.files, "validation": few_phantoms.files["train"], "train": few_phantoms.files["test"]}
    start = start_from(str(exported), "phantom", "norbe")
    with pytest.raises(ValueError, match=f"{exported} trained on 8 of the 8 images that are to validate here"):
        create(job(tmp_path / "run", "norbe", start, data=replace(few_phantoms, files=swapped)))
    assert not (tmp_path / "run").exists()


def test_a_network_of_another_shape_is_refused_before_a_folder_is_made(exported, recipe, tmp_path):
    wider = replace(recipe, backbone={**recipe.backbone, "stem": 16})
    with pytest.raises(ValueError, match="another network than this one"):
        create(job(tmp_path / "run", "norbe", start_from(str(exported), "phantom", "norbe"), wider))
    assert not (tmp_path / "run").exists()


def test_specialists_from_one_member_share_its_trunk(exported, tmp_path):
    trunks = []
    for node in ("norbe", "invis"):
        start = start_from(f"{exported}:carci", "phantom", node)
        trained(job(tmp_path / node, node, start, replace(NO_SWEEP, head_epochs=0, cycles=1)))
        model = Run.open(tmp_path / node).read_model()
        trunks.append({w.path: w.numpy() for w in model.weights if w.path.startswith(("conv1", "bn1", "layer1"))})
    for path, value in trunks[0].items():
        np.testing.assert_array_equal(value, trunks[1][path])


def test_best_takes_carcis_member_of_an_export(exported, tmp_path):
    starts = starts_from(f"best:{exported}", "phantom", "norbe", tmp_path / "norbe")
    assert {name: start.init for name, start in starts.items()} == {"none": "none", "carci": f"{exported}:carci"}
    assert not starts["carci"].keeps_head
    train_best(job(tmp_path / "norbe", "norbe", recipe=HEAD), starts)
    candidates = Run.open(tmp_path / "norbe").settings["candidates"]
    assert Run.open(candidates["carci"]["run"]).settings["init"] == f"{exported}:carci"
    with pytest.raises(ValueError, match="--head is for one start"):
        starts_from("best", "phantom", "norbe", tmp_path / "norbe", "keep")


def test_the_normalisation_and_the_licence_of_a_members_weights_go_on(exported, recipe):
    member = find(str(exported), "norbe")
    origin = {"source": "tiatoolbox", "licence": "CC BY 4.0", "sha256": "0"}
    facts = {**member.facts, "backbone": {**recipe.backbone, "normalisation": "unit"}, "weights_origin": origin}
    start = Start("x", parent=replace(member, facts=facts))
    assert start.adapted(recipe).backbone == {**recipe.backbone, "normalisation": "unit"}
    assert start.origin == origin
    plain = Start("x", parent=member)
    assert (plain.adapted(recipe), plain.origin) == (recipe, None)


def test_a_folder_of_runs_is_named_after_the_member(exported):
    assert start_from(f"{exported}:carci", "phantom").name == f"{exported.parent.name}-carci"


def test_an_init_is_recorded_by_its_full_name(exported, tree_of_runs):
    assert recorded_init(str(exported.parent), "norbe") == f"{exported}:norbe"
    for init in (str(tree_of_runs["carci"]), "imagenet", "none", "best", "x.h5"):
        assert recorded_init(init, "norbe") == init


def test_runs_that_kept_no_head_say_what_they_always_said(tree_of_runs):
    assert start_at(tree_of_runs["carci"]).recorded == {"init": str(tree_of_runs["carci"])}
    assert Start("none").recorded == {"init": "none"}
    assert "head" not in json.loads((tree_of_runs["norbe"] / "config.json").read_text())


def test_resuming_takes_the_start_as_it_was_given_and_no_other(adapted, exported, tmp_path):
    run = Run.open(shutil.copytree(adapted, tmp_path / "run"))
    words = ["train", "--node", "norbe", "--run-dir", str(run.folder), "--resume", "--init"]
    same = CliRunner().invoke(cli, [*words, str(exported)])
    assert "is finished: there is nothing to resume" in same.stderr or "phantom" in same.stderr
    assert "was started with different options" not in same.stderr
    for more in ([f"{exported}:carci"], [str(exported), "--head", "new"]):
        other = CliRunner().invoke(cli, [*words, *more])
        assert (other.exit_code, "was started with different options" in other.stderr) == (2, True)


def test_the_first_line_says_what_is_taken(exported, tree_of_runs):
    """The folder holds a run already, so nothing follows it."""
    words = ["train", "--node", "norbe", "--config", "phantom", "--run-dir", str(tree_of_runs["norbe"])]
    for init, more, said in (
        (
            f"{exported.parent}",
            ["--class-weights", "benign=3,normal=1"],
            f"init {exported}:norbe (norbe's head kept), ",
        ),
        (f"{exported}:norbe", ["--head", "new"], f"init {exported}:norbe (new head), "),
        (f"best:{exported}", [], f"init none or {exported}:carci (new head), "),
        ("none", [], "init none, "),
    ):
        result = CliRunner().invoke(cli, [*words, "--init", init, *more])
        assert (result.exit_code, "holds a run already" in result.stderr) == (2, True)
        assert said in result.stdout
        assert ("class weights normal=1,benign=3, " if more[:1] == ["--class-weights"] else "class weights none, ") in (
            result.stdout
        )


@pytest.mark.parametrize(
    ("init", "sentence"),
    [
        ("{place}:nobody", "is not a member of an export: give EXPORT:NODE"),
        ("{place}:norbe.2", "has no members that are norbe.2: name the one"),
        ("{place}/nothing:norbe", "is neither imagenet, histology, none, a weights file, a run folder nor an export."),
        ("{place}/assets", "is not a run folder"),
    ],
)
def test_a_start_that_is_none_is_refused_in_a_sentence(exported, tmp_path, monkeypatch, init, sentence):
    monkeypatch.chdir(tmp_path)
    words = ["train", "--node", "norbe", "--config", "phantom", "--init", init.format(place=exported)]
    result = CliRunner().invoke(cli, words)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert sentence in result.stderr
    assert list(tmp_path.iterdir()) == []
