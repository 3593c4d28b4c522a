"""Options from a file: TOML for any command, and a run's config.json to train it again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from bach_keras import recipe as recipes
from bach_keras.commands import options, training
from bach_keras.commands.options_file import take_options_file
from bach_keras.run_folder import Run
from cli import Commands, cli
from tests import trainings
from tests.few_phantoms import NO_SWEEP


def run_with(words, text, tmp_path):
    """Run a command line with a file of options on commands that say what they were given."""
    group = Commands("cli")

    @group.command()
    @click.option("--node", type=click.Choice(("carci", "norbe")), required=True)
    @click.option("--lr-steps", "steps", type=click.IntRange(20))
    @click.option("--share", type=float)
    @click.option("--warm-start/--no-warm-start", default=None)
    @click.option("--overwrite", is_flag=True)
    @click.option("--views", type=click.Choice(("1", "8")))
    @click.option("--carci", "carci_runs", multiple=True)
    @click.option("--run-dir", type=options.FOLDER)
    @click.argument("paths", nargs=-1)
    def train(**given):
        print(json.dumps({name: value for name, value in given.items() if value not in (None, ())}, default=str))

    @group.group()
    def data():
        pass

    @data.command()
    @click.option("--config")
    def prepare(config):
        print(config)

    take_options_file(group)
    file = tmp_path / "options.toml"
    file.write_text(text)
    return CliRunner().invoke(group, [*words, "--options", str(file)])


def test_options_of_every_type_are_taken_from_the_table_of_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    text = """
    [train]
    node = "norbe"
    lr-steps = 20
    share = 1
    warm-start = false
    overwrite = true
    views = 8
    carci = ["~/runs/a:.5", "runs/b~"]
    run-dir = "~/runs"
    [data.prepare]
    config = "bisque"
    """
    assert json.loads(run_with(["train", "x.png"], text, tmp_path).output) == {
        "node": "norbe", "steps": 20, "share": 1.0, "warm_start": False, "overwrite": True, "views": "8",
        "carci_runs": ["/home/someone/runs/a:.5", "runs/b~"], "run_dir": "/home/someone/runs", "paths": ["x.png"],
    }  # fmt: skip
    assert run_with(["data", "prepare"], text, tmp_path).output == "bisque\n"


def test_a_mark_of_utf_8_before_the_first_table_is_passed_over(tmp_path):
    assert run_with(["data", "prepare"], '\ufeff[data.prepare]\nconfig = "bisque"', tmp_path).output == "bisque\n"


def test_what_the_command_line_says_wins(tmp_path):
    text = '[train]\nnode = "norbe"\nlr-steps = 20\nwarm-start = true\ncarci = "runs/a"'
    words = ["train", "--node", "carci", "--no-warm-start", "--carci", "runs/b"]
    given = json.loads(run_with(words, text, tmp_path).output)
    assert given == {
        "node": "carci", "steps": 20, "warm_start": False, "overwrite": False, "carci_runs": ["runs/b"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[train]\nlr_steps = 30", "[train] has no option 'lr_steps': did you mean lr-steps?"),
        ("[train]\noptions = 'x'", "[train] has no option 'options': --help lists them."),
        ("[train]\nno-warm-start = true", "[train] has no option 'no-warm-start': write warm-start = false."),
        ("[train]\npaths = ['x']", "[train] has no option 'paths': PATHS is given on the command line."),
        ("[train]\nlr-steps = 30.0", "lr-steps in [train] must be a whole number, not 30.0."),
        ("[train]\nlr-steps = true", "lr-steps in [train] must be a whole number, not true."),
        ("[train]\nlr-steps = 3", "lr-steps in [train]: 3 is not in the range x>=20."),
        ("[train]\nshare = '1'", "share in [train] must be a number, not '1'."),
        ("[train]\noverwrite = 1", "overwrite in [train] must be true or false, not 1."),
        ("[train]\nnode = 'x'", "node in [train]: 'x' is not one of 'carci', 'norbe'."),
        ("[train]\nnode = ['carci']", "node in [train] must be text or a number, not a list."),
        ("[train]\ncarci = [1]", "carci in [train] must be text or a list of such, not 1."),
        ("[train]\nrun-dir = 'a\\u0000b'", "run-dir in [train] must be text, not 'a\\x00b'."),
        ("[train]\nrun-dir = 2026-01-01", "run-dir in [train] must be text, not something else."),
        ("[data.prepare]\nname = 'x'", "[data.prepare] has no option 'name'"),
        ("[data]\nconfig = 'x'", "'config' is not a command of data: options stand under the name of their command"),
        ("[data.prepare]\nconfig = 'x'", "has no table [train] of options for this command: add one, or leave"),
        ("[trian]\nnode = 'carci'", "'trian' is not a group or command: did you mean train?"),
        ("train = 1", "train must be a table, [train], of options."),
        ("node = 'carci'", "'node' is not a group or command"),
        ("[train]\nlr-steps = 0x" + "f" * 9999, "must be a whole number, not a whole number of many digits."),
        ("[train]\nshare = 0x" + "f" * 9999, "must be a number, not a whole number of many digits."),
        ("[train]\nlr-steps = " + "1" * 9999, "is not TOML"),
        ("[train", "is not TOML"),
        ("a=" + "[" * 5000, "is not TOML"),
        ("#" * 2**20 + "#", "is larger than 1048576 bytes"),
    ],
    ids=lambda value: value[:40],
)  # fmt: skip
def test_what_a_file_cannot_say_is_one_sentence_with_its_place(tmp_path, text, sentence):
    result = run_with(["train", "--node", "carci"], text.replace("'", '"'), tmp_path)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "options.toml" in result.output
    assert sentence in result.output


def test_a_file_that_is_not_there_is_named(tmp_path):
    result = CliRunner().invoke(cli, ["runs", "--options", str(tmp_path / "none.toml")])
    assert result.exit_code == 2
    assert result.output == f"Error: --options {tmp_path / 'none.toml'} cannot be read: No such file or directory.\n"


def test_every_command_takes_a_file_of_options():
    def leaves(command):
        inner = getattr(command, "commands", {}).values()
        return [leaf for each in inner for leaf in leaves(each)] if inner else [command]

    assert all("options_file" in [each.name for each in leaf.params] for leaf in leaves(cli))


def test_the_example_of_the_docs_is_taken(tmp_path):
    page = Path("docs/command-line.md").read_text()
    (tmp_path / "own.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    # Every table is checked before a command looks for its own.
    result = CliRunner().invoke(cli, ["runs", "--options", str(tmp_path / "own.toml")])
    assert "has no table [runs]" in result.output


@pytest.fixture
def few(few_phantoms, monkeypatch):
    """Let ``train`` train a tiny network on few phantoms."""
    monkeypatch.setattr(recipes, "default_recipe", lambda config: NO_SWEEP)
    monkeypatch.setattr(options.ImagesAsked, "split", lambda images: few_phantoms)
    monkeypatch.setattr(training, "open_images", lambda data: data)


def again(run, tmp_path, *words):
    given = ["train", "--options", run / "config.json", "--run-dir", tmp_path / "again", *words]
    return CliRunner().invoke(cli, list(map(str, given)), catch_exceptions=False)


def test_a_run_is_trained_again_to_the_bit_by_its_config_json(few, few_phantoms, tmp_path):
    recipe = replace(
        NO_SWEEP, head_epochs=0, cycles=1, seed=7, lr=0.0123, warm_start=True, brightness=0.05,
        class_weights=(1.0, 3.3333333333333335),
    )  # fmt: skip
    first = tmp_path / "first"
    trainings.trained(trainings.job(first, recipe=recipe, data=few_phantoms))
    result = again(first, tmp_path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert Run.open(tmp_path / "again").settings["recipe"] == Run.open(first).settings["recipe"]
    assert trainings.history(tmp_path / "again") == trainings.history(first)
    for own, other in zip(trainings.weights(tmp_path / "again"), trainings.weights(first), strict=True):
        np.testing.assert_array_equal(own, other)


def changed(run, tmp_path, **settings):
    folder = shutil.copytree(run, tmp_path / "run")
    held = json.loads((folder / "config.json").read_text())
    held |= {name: {**held[name], **value} if name == "recipe" else value for name, value in settings.items()}
    (folder / "config.json").write_text(json.dumps(held))
    return folder


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"recipe": {"momentum": 0.8}}, "momentum was 0.8, is 0.9"),
        ({"recipe": {"lr_probe": 3}}, "lr_probe was 3, is 16"),
        ({"split": {"train": ["a.png"]}}, "3 parts of the split hold other images"),
        ({"images_sha256": "0"}, "images_sha256 was 0, is"),
        ({"changes": [{}]}, "was resumed with other settings"),
        ({"init": "nowhere.h5"}, "--init nowhere.h5 is neither"),
        (
            {"split_origin": {"seed": 0, "patients_sha256": "1", "note": ""}},
            "Give its sheet of patients with --patients.",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_trained_again_is_refused(few, tree_of_runs, tmp_path, settings, sentence):
    result = again(changed(tree_of_runs["carci"], tmp_path, **settings), tmp_path)
    assert (result.exit_code, "Traceback" in result.output) == (2, False)
    assert sentence in result.stderr
    assert not (tmp_path / "again").exists()


def test_what_the_user_gives_may_differ_from_the_run(few, tree_of_runs, tmp_path, monkeypatch):
    monkeypatch.setattr("bach_keras.training.train.create", lambda job, overwrite: job)
    jobs = []
    monkeypatch.setattr("bach_keras.training.train.train", lambda job, run: jobs.append(job))
    run = changed(tree_of_runs["norbe"], tmp_path, versions={"tensorflow": "1.0"}, recipe={"momentum": 0.9})
    result = again(run, tmp_path, "--init", "none", "--seed", "5", "--lr-steps", "25")
    assert result.exit_code == 0, result.output
    assert (jobs[0].start.init, jobs[0].recipe.seed, jobs[0].recipe.lr_steps) == ("none", 5, 25)
    assert jobs[0].recipe.range_test
    assert "Figures can differ" in result.stderr
    assert "tensorflow was 1.0" in result.stderr


def test_a_range_test_that_the_user_leaves_out_takes_its_length_along(few, tree_of_runs, tmp_path, monkeypatch):
    monkeypatch.setattr("bach_keras.training.train.create", lambda job, overwrite: job)
    jobs = []
    monkeypatch.setattr("bach_keras.training.train.train", lambda job, run: jobs.append(job))
    run = changed(tree_of_runs["norbe"], tmp_path, recipe={"lr_steps": 40})
    result = again(run, tmp_path, "--no-range-test")
    assert result.exit_code == 0, result.output
    assert (jobs[0].recipe.range_test, jobs[0].recipe.lr_steps) == (False, NO_SWEEP.lr_steps)
    result = again(run, tmp_path, "--no-range-test", "--lr-steps", "30")
    assert "--no-range-test leaves it out: give only one" in result.output


def test_the_head_of_a_file_is_left_out_where_the_user_names_another_start(tmp_path):
    @click.command()
    @options.start_options
    def train(start):
        print(start)

    group = Commands("cli")
    group.add_command(train)
    take_options_file(group)
    file = tmp_path / "options.toml"
    file.write_text('[train]\ninit = "runs/a"\nhead = "keep"')
    for words, said in (((), "'runs/a', head='keep'"), (("--init", "none"), "'none', head=None")):
        assert said in CliRunner().invoke(group, ["train", "--options", str(file), *words]).output


def test_images_that_a_file_names_are_those_that_calibrate(tmp_path, monkeypatch):
    monkeypatch.setattr(options.ImagesAsked, "open", lambda images: f"opened {images.config}")
    found = []
    take = "bach_keras.evidence.calibrate_tree.calibrate_members"
    monkeypatch.setattr(take, lambda runs, settings, others, out: found.append(others))
    file = tmp_path / "options.toml"
    file.write_text('[calibrate]\nconfig = "bisque"')
    for words in (["--options", str(file)], []):
        CliRunner().invoke(cli, ["calibrate", "--carci", str(tmp_path), *words])
    assert found == ["opened bisque", None]


def test_a_config_json_is_for_train_alone(tree_of_runs):
    file = tree_of_runs["carci"] / "config.json"
    result = CliRunner().invoke(cli, ["evaluate", "--options", str(file)])
    assert (result.exit_code, result.output) == (
        2,
        f"Error: --options {file}: a run's config.json is for train; evaluate takes a TOML file.\n",
    )
    result = CliRunner().invoke(cli, ["train", "--options", str(file.with_name("metrics.json"))])
    assert "the only JSON file it takes is a run's config.json" in result.output
