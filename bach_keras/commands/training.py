"""The commands that train: one node, its range test alone, all of Table 1."""

import contextlib
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from bach_keras.commands.console import say, start_console
from bach_keras.commands.options import (
    FOLDER,
    NODE_NAMES,
    Stopped,
    config_option,
    data_dir_option,
    images_options,
    open_images,
)
from bach_keras.commands.recipe_options import (
    class_weights_option,
    recipe_of,
    recipe_options,
    seed_option,
    size_options,
    weights_as_given,
)
from datasets.errors import UserError

node_option = click.option(
    "--node", type=click.Choice(NODE_NAMES), required=True, help="Which classifier of the tree to train."
)


@contextlib.contextmanager
def _stopped_in_one_sentence():
    """Turn an interrupted training into one sentence and its signal's exit code."""
    from bach_keras.training.stops import Interrupted, exit_code, terminable

    try:
        with terminable():
            yield
    except KeyboardInterrupt as error:
        words = "Interrupted while nothing was being trained: what is finished is kept. Give the same command again."
        raise Stopped(str(error) if isinstance(error, Interrupted) else words, exit_code(error)) from error


@click.command()
@node_option
@images_options
@click.option(
    "--init",
    metavar="imagenet|none|best[:CARCI_RUN]|FILE|RUN",
    help="Weights to start from; best tries carci's run and imagenet (none on phantom). "
    "[default: imagenet; none on phantom]",
)
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
def train(node, images, init, stop_at, run_dir, resumed, allow_changes, overwrite, tensorboard, **given):
    """Train one node of the tree.

    \b
    Example:
      python cli.py train --node norbe
    """
    from bach_keras.run_folder import check_destination
    from bach_keras.training import devices, train
    from bach_keras.training.best_start import train_best

    tries_several = (init or "").partition(":")[0] == "best"
    with _stopped_in_one_sentence():
        if tries_several and devices.hosts() > 1:
            raise UserError("--init best is for one host: on several train from one start, then from the other.")
        devices.choose()  # before anything uses a device
        # With --init best each of the two runs is resumed by itself.
        if resumed and not tries_several:
            job = _job_to_resume(node, images, run_dir, given)
            train.train(job, train.reopen(job, allow_changes))
            return
        job, starts = _new_job(node, images, init, stop_at, run_dir, given)
        # The run folder is looked at before phantoms are drawn, which takes a minute.
        check_destination(job.folder, overwrite)
        open_images(job.data)
        if job.data.origin["note"]:
            say(job.data.origin["note"])
        job = replace(job, tensorboard=tensorboard)
        if tries_several:
            train_best(job, starts, overwrite)
        else:
            train.train(job, train.create(job, overwrite))


def _new_job(node, images, init, stop_at, run_dir, given):
    """Return a job and the starts to try, of the command's options; what is not given takes its default."""
    from bach_keras.recipe import default_recipe
    from bach_keras.run_folder import Run
    from bach_keras.training import devices
    from bach_keras.training.start import starts_from
    from bach_keras.training.train import Job
    from bach_keras.tree import NODES
    from bach_keras.wording import counted

    data = images.split()
    run_dir = run_dir or Path("runs") / f"{data.config}-{node}"
    # Folders next to this one, such as RUN_DIR.previous, are named after it.
    if run_dir.name in ("", ".."):
        raise UserError(f"--run-dir {run_dir} has no name of its own: choose a folder that does not exist yet.")
    recipe = recipe_of(default_recipe(data.config), node, **given)
    starts = starts_from(init, data.config, node, run_dir)
    if stop_at and images.protocol != "all":
        raise UserError(
            f"--until is for --protocol all, which keeps no validation images; {images.protocol} keeps some."
        )
    stop_at = Run.open(stop_at) if stop_at else None
    say(
        f"train {node}: config {data.config}, {images}, init {' or '.join(start.init for start in starts.values())}, "
        f"image size {recipe.image_size}, batch {recipe.batch_size}, "
        f"{'at most ' if stop_at else ''}{counted(recipe.epochs, 'epoch')}, crops {recipe.crops}, "
        f"stain jitter {recipe.stain_jitter:g}, brightness {recipe.brightness:g}, "
        f"stain normalisation {recipe.stain_normalisation}, class weights {weights_as_given(recipe, node)}, "
        f"rate {'auto' if recipe.lr is None else recipe.lr}, seed {recipe.seed}, run folder {run_dir}"
        f"{devices.in_words()}"
    )
    return Job(NODES[node], data, next(iter(starts.values())), recipe, run_dir, stop_at), starts


def _job_to_resume(node, images, run_dir, given):
    """Return the job of a run; it keeps its data, its split and its start, and its recipe except for what is given."""
    from bach_keras.run_folder import Run
    from bach_keras.training import devices
    from bach_keras.training.start import start_from
    from bach_keras.training.train import Job
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
    data = open_images(data_of_run(run.settings, images.data_dir))
    start = start_from(run.settings["init"], run.settings["config"])
    return Job(NODES[node], data, start, recipe_of(run.recipe, node, **given), run.folder)


def _asked_settings(images, run) -> dict:
    """Return what the user gave explicitly as the run's config.json would say it."""
    from datasets.split_data import split_data

    context = click.get_current_context()
    named = ("config", "protocol", "split_seed", "patients", "init", "stop_at")
    asked = {
        name: context.params[name]
        for name in named
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    settings = run.settings
    wanted = {name: str(asked[name]) for name in ("config", "init") if asked.get(name)}
    if asked.get("stop_at"):
        wanted["until"] = {**settings.get("until", {}), "run": str(asked["stop_at"])}
    if {"protocol", "split_seed", "patients"} & set(asked):
        config, protocol = (asked.get(name, settings[name]) for name in ("config", "protocol"))
        seed = asked.get("split_seed", settings.get("split_origin", {}).get("seed", 0))
        wanted |= {"protocol": protocol, "split": split_data(config, protocol, seed, patients=images.patients).files}
    return wanted


@click.command()
@node_option
@images_options
@click.option(
    "--init", metavar="imagenet|none|FILE|RUN", help="Weights to start from. [default: imagenet; none on phantom]"
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
    from bach_keras.training.lr_find import choose_phase, find_rate
    from bach_keras.training.start import start_from
    from bach_keras.training.train import Job
    from bach_keras.tree import NODES

    data = images.split()
    out = out or Path("runs") / f"{data.config}-{node}-lr-find"
    recipe = default_recipe(data.config)
    low, high = recipe.lr_bounds
    bounds = (low if min_lr is None else min_lr, high if max_lr is None else max_lr)
    # The rate is what is to be found, so none is given.
    recipe = replace(recipe_of(recipe, node, lr_bounds=bounds, **given), lr=None)
    start = start_from(init, data.config)
    chosen = choose_phase(recipe, start, phase)
    say(
        f"lr-find {node}: config {data.config}, {images}, init {start.init}, phase {chosen.name}, "
        f"image size {recipe.image_size}, batch {recipe.batch_size}, rates {bounds[0]:g} to {bounds[1]:g}, "
        f"class weights {weights_as_given(recipe, node)}, "
        f"seed {recipe.seed}, folder {out}"
    )
    result = find_rate(Job(NODES[node], open_images(data), start, recipe, out), chosen, metric)
    share = "a tenth" if metric == "loss" else "a third"
    say(f"the {metric} diverges at {result['divergence']:.2g}; {share} is {result['suggestion']:.2g}")
    if not result["clear"]:
        say("The curve is too noisy to read: treat this rate as a guess, or raise --steps.")
    if result["stopped"] == "end":
        say("The loss did not diverge by the last rate: a higher --max-lr may show where it does.")
    say(f"wrote {out / 'lr_range_test.json'} and lr_range_test.png")


@contextlib.contextmanager
def _joined(address):
    """Give the cluster at an address, which is looked for before anything is timed or drawn; None without one."""
    if address is None:
        yield None
        return
    from bach_keras.cluster import connected
    from bach_keras.training.spread import Cluster

    with connected(address, is_quiet=True) as ray:
        yield Cluster(ray, address)


@click.command()
@config_option
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    default=("paper", "patient"),
    show_default=True,
    help="Protocol of the splits; repeat it for several, side by side.",
)
@click.option(
    "--seed",
    "seeds",
    type=int,
    multiple=True,
    default=(0,),
    show_default=True,
    help="Random seed of the trainings; repeat it for several.",
)
@click.option(
    "--init",
    metavar="imagenet|none|FILE",
    help="Weights that all runs without a parent start from. [default: imagenet; none on phantom]",
)
@recipe_options
@click.option("--out", type=FOLDER, help="Folder for everything. [default: runs/reproduce-CONFIG]")
@click.option("--plan", "only_plan", is_flag=True, help="Print what would be run and how long it takes, and stop.")
@click.option("--address", metavar="HOST:PORT",
              help="Train on a Ray cluster, as `ray start --head` prints it; --out is on storage that all its machines "
              "share. [default: here]")  # fmt: skip
@data_dir_option
def reproduce(config, protocols, seeds, init, out, only_plan, address, data_dir, **given):
    """Train and score all of the paper's Table 1; given again, it continues where it was.

    \b
    Example:
      python cli.py reproduce --config phantom --image-size 96 --cycle-epochs 2
    """
    from bach_keras.network.half_precision import probe
    from bach_keras.recipe import default_recipe
    from bach_keras.training.alone import alone
    from bach_keras.training.start import start_from
    from bach_keras.training.table1 import open_plan, reproduce_table1
    from datasets.split_data import default_config

    with _stopped_in_one_sentence(), _joined(None if only_plan else address) as cluster:
        config = config or default_config(data_dir)
        out = out or Path("runs") / f"reproduce-{config}"
        if given["precision"] == "auto":
            # What it measures is kept. A GPU that this process had started to use would be lost to those that train.
            alone(probe, prepare=start_console)
        recipe = recipe_of(default_recipe(config), **given)
        start = start_from(init, config)
        name = start.init if start.init in ("none", "imagenet") else Path(start.init).stem
        plan = open_plan(config, protocols, seeds, out, name, data_dir)
        for data in plan.data.values():
            open_images(data)
            if data.origin["note"]:
                say(data.origin["note"])
        reproduce_table1(plan, recipe, start, only_plan, start_console, cluster)
