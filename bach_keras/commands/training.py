"""The commands that train one node, or sweep its learning rate alone."""

import contextlib
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from bach_keras.commands.console import say
from bach_keras.commands.options import (
    FOLDER,
    NODE_NAMES,
    Stopped,
    images_options,
    open_images,
    start_options,
)
from bach_keras.commands.recipe_options import (
    class_weights_option,
    recipe_of,
    recipe_options,
    seed_option,
    size_options,
    weights_as_given,
)
from bach_keras.commands.run_options import check_same_training
from bach_keras.signals import exit_code
from datasets.errors import UserError

node_option = click.option(
    "--node", type=click.Choice(NODE_NAMES), required=True, help="Which classifier of the tree to train."
)


@contextlib.contextmanager
def stopped_in_one_sentence():
    """Turn an interrupted training into one sentence and its signal's exit code."""
    from bach_keras.training.stops import Interrupted

    try:
        yield
    except KeyboardInterrupt as error:
        words = "Interrupted while nothing was being trained: what is finished is kept. Give the same command again."
        raise Stopped(str(error) if isinstance(error, Interrupted) else words, exit_code(error)) from error


@click.command()
@node_option
@images_options
@start_options
@click.option(
    "--until", "stop_at", type=FOLDER, metavar="RUN",
    help="With --protocol all: stop at the training loss of RUN's best epoch.",
)  # fmt: skip
@recipe_options
@seed_option
@click.option("--run-dir", type=FOLDER, help="Run folder. [default: runs/CONFIG-NODE]")
@click.option("--resume", "resumed", is_flag=True, help="Resume an interrupted run.")
@click.option("--allow-changes", is_flag=True, help="Resume with another recipe or other versions of packages.")
@click.option("--overwrite", is_flag=True, help="Start over; the existing run is kept as RUN_DIR.previous.")
@click.option("--tensorboard", is_flag=True, help="Write event files into RUN_DIR/tensorboard.")
def train(node, images, start, stop_at, run_dir, resumed, allow_changes, overwrite, tensorboard, **given):
    """Train one node of the tree.

    \b
    Example:
      python cli.py train --node norbe
    """
    from bach_keras.run_place import check_destination
    from bach_keras.training import devices, train
    from bach_keras.training.best_start import train_best

    tries_several = start.tries_several
    with stopped_in_one_sentence():
        if tries_several and devices.hosts() > 1:
            raise UserError("--init best is for one host: on several train from one start, then from the other.")
        devices.choose()  # before anything uses a device
        # With --init best each of the two runs is resumed by itself.
        if resumed and not tries_several:
            job = _job_to_resume(node, images, run_dir, allow_changes, given)
            train.train(job, train.reopen(job, allow_changes))
            return
        job, starts = _new_job(node, images, start, stop_at, run_dir, given)
        # The run folder is looked at before phantoms are drawn, which takes a minute.
        check_destination(job.folder, overwrite)
        open_images(job.data)
        check_same_training(job)
        if job.data.origin["note"]:
            say(job.data.origin["note"])
        job = replace(job, tensorboard=tensorboard)
        if tries_several:
            train_best(job, starts, overwrite)
        else:
            train.train(job, train.create(job, overwrite))


def _new_job(node, images, start, stop_at, run_dir, given):
    """Return a job and the starts to try, of the command's options; what is not given takes its default."""
    from bach_keras.recipe import default_recipe
    from bach_keras.run_folder import Run
    from bach_keras.training import devices
    from bach_keras.training.job import Job
    from bach_keras.tree import NODES
    from bach_keras.wording import counted

    data = images.split()
    run_dir = run_dir or Path("runs") / f"{data.config}-{node}"
    # Folders next to this one, such as RUN_DIR.previous, are named after it.
    if run_dir.name in ("", ".."):
        raise UserError(f"--run-dir {run_dir} has no name of its own: choose a folder that does not exist yet.")
    recipe = recipe_of(default_recipe(data.config), node, **given)
    starts = start.open(data.config, node, run_dir)
    if stop_at and images.protocol != "all":
        raise UserError(
            f"--until is for --protocol all, which keeps no validation images; {images.protocol} keeps some."
        )
    stop_at = Run.open(stop_at) if stop_at else None
    say(
        f"train {node}: config {data.config}, {images}, init {' or '.join(map(str, starts.values()))}, "
        f"image size {recipe.image_size}, batch {recipe.batch_size}, "
        f"{'at most ' if stop_at else ''}{counted(recipe.epochs, 'epoch')}, crops {recipe.crops}, "
        f"stain jitter {recipe.stain_jitter:g}, brightness {recipe.brightness:g}, "
        f"stain normalisation {recipe.stain_normalisation}, class weights {weights_as_given(recipe, node)}, "
        f"rate {'auto' if recipe.lr is None else recipe.lr}, seed {recipe.seed}, run folder {run_dir}"
        f"{devices.in_words()}"
    )
    start = next(iter(starts.values()))
    return Job(NODES[node], data, start, start.adapted(recipe), run_dir, stop_at), starts


def _job_to_resume(node, images, run_dir, allow_changes, given):
    """Return the job of a run; it keeps its data, its split and its start, and its recipe except for what is given."""
    from bach_keras.run_folder import Run
    from bach_keras.training import devices
    from bach_keras.training.job import Job
    from bach_keras.training.start import start_of_run
    from bach_keras.training.train import check_resumable
    from bach_keras.tree import NODES
    from datasets.split_data import data_of_run, default_config

    run = Run.open(run_dir or Path("runs") / f"{images.config or default_config(images.data_dir)}-{node}")
    differs = run.differences({"node": node, **_asked_settings(images, run)})
    if differs:
        raise UserError(
            f"{run.folder} was started with different options: {'; '.join(differs)}. A run that is resumed keeps its "
            "data and its start: leave these options out, or start from scratch in another --run-dir."
        )
    say(f"train {node}: resuming {run.folder}{devices.in_words()}")
    recipe = recipe_of(run.recipe, node, **given)
    check_resumable(run, recipe, allow_changes)
    data = open_images(data_of_run(run.settings, images.data_dir))
    return Job(NODES[node], data, start_of_run(run.settings), recipe, run.folder)


def _asked_settings(images, run) -> dict:
    """Return what the user gave explicitly as the run's config.json would say it."""
    from bach_keras.training.start import recorded_init
    from datasets.split_data import split_data

    context = click.get_current_context()
    named = ("config", "protocol", "split_seed", "patients", "init", "head", "stop_at")
    asked = {
        name: context.params[name]
        for name in named
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    settings = run.settings
    wanted = {name: str(asked[name]) for name in ("config", "init") if asked.get(name)}
    if "init" in wanted:
        wanted["init"] = recorded_init(wanted["init"], run.node)
    if asked.get("head"):
        wanted["head"] = {"keep": "kept", "new": "new"}[asked["head"]]
    if asked.get("stop_at"):
        wanted["until"] = {**settings.get("until", {}), "run": str(asked["stop_at"])}
    if {"protocol", "split_seed", "patients"} & set(asked):
        config, protocol = (asked.get(name, settings[name]) for name in ("config", "protocol"))
        seed = asked.get("split_seed", settings.get("split_origin", {}).get("seed", 0))
        data = split_data(config, protocol, seed, images.data_dir, images.patients)
        wanted |= {"protocol": protocol, "split": data.files}
    return wanted


@click.command()
@node_option
@images_options
@click.option(
    "--init",
    metavar="imagenet|histology|none|FILE|RUN|EXPORT[:NODE[.K]]",
    help="Weights to start from. [default: imagenet; none on phantom]",
)
@click.option(
    "--phase",
    type=click.Choice(("head", "middle+head", "all")),
    help="Phase whose layers train. [default: the first of training]",
)
@click.option(
    "--on", "metric", type=click.Choice(("loss", "accuracy")), default="loss", show_default=True,
    help="Which curve to read.",
)  # fmt: skip
@size_options
@click.option(
    "--steps",
    "lr_steps",
    type=click.IntRange(20),
    help="Length of the sweep, at least 20. [default: that of the phase, up to 100]",
)
@click.option(
    "--probe", "lr_probe", type=click.IntRange(0), help="Images whose loss is measured between steps. [default: 30]"
)
@click.option("--min-lr", type=float, help="Rate of the first step. [default: 1e-5]")
@click.option("--max-lr", type=float, help="Rate of the last step. [default: 10]")
@class_weights_option
@seed_option
@click.option("--out", type=FOLDER, help="Folder for the JSON and the picture. [default: runs/CONFIG-NODE-lr-find]")
def lr_find(node, images, init, phase, metric, min_lr, max_lr, out, **given):
    """Find the learning rate of a node by a range test, and draw it; no run is changed.

    \b
    Example:
      python cli.py lr-find --node carci --config bach
    """
    from bach_keras.recipe import default_recipe
    from bach_keras.training.job import Job
    from bach_keras.training.lr_find import choose_phase, find_rate
    from bach_keras.training.start import start_from
    from bach_keras.tree import NODES

    data = images.split()
    out = out or Path("runs") / f"{data.config}-{node}-lr-find"
    recipe = default_recipe(data.config)
    low, high = recipe.lr_bounds
    bounds = (low if min_lr is None else min_lr, high if max_lr is None else max_lr)
    # The rate is what is to be found, so none is given.
    recipe = replace(recipe_of(recipe, node, lr_bounds=bounds, **given), lr=None)
    start = start_from(init, data.config, node)
    chosen = choose_phase(recipe, start, phase)
    say(
        f"lr-find {node}: config {data.config}, {images}, init {start.init}, phase {chosen.name}, "
        f"image size {recipe.image_size}, batch {recipe.batch_size}, rates {bounds[0]:g} to {bounds[1]:g}, "
        f"class weights {weights_as_given(recipe, node)}, "
        f"seed {recipe.seed}, folder {out}"
    )
    job = Job(NODES[node], open_images(data), start, start.adapted(recipe), out)
    result = find_rate(job, chosen, metric)
    share = "a tenth" if metric == "loss" else "a third"
    say(f"the {metric} diverges at {result['divergence']:.2g}; {share} is {result['suggestion']:.2g}")
    if not result["clear"]:
        say("The curve is too noisy to read: treat this rate as a guess, or raise --steps.")
    if result["stopped"] == "end":
        say("The loss did not diverge by the last rate: a higher --max-lr may show where it does.")
    say(f"wrote {out / 'lr_range_test.json'} and lr_range_test.png")
