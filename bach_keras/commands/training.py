"""The commands that train a node and score a tree."""

import contextlib

import click
from click.core import ParameterSource

from bach_keras.commands.console import say
from bach_keras.commands.options import (
    FOLDER,
    NODE_NAMES,
    Failure,
    Stopped,
    config_option,
    data_dir_option,
    load_members,
    member_options,
    several,
    split_options,
)


class Rate(click.ParamType):
    """A number, or ``auto``."""

    name = "auto|FLOAT"

    def convert(self, value, param, ctx):
        if value == "auto":
            return value
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither 'auto' nor a number.", param, ctx)


recipe_options = several(
    click.option("--image-size", type=int, help="Side in pixels. [default: 288; 96 on phantom]"),
    click.option("--batch-size", type=int, help="Images a step. [default: 10]"),
    click.option("--accumulate", type=int, help="Parts a batch is computed in, where memory is short. [default: 1]"),
    click.option(
        "--precision",
        type=click.Choice(("float32", "mixed_float16", "mixed_bfloat16")),
        help="Of the computation; mixed is for GPUs. [default: float32]",
    ),
    click.option("--head-epochs", type=int, help="Epochs of the head alone. [default: 3; 0 on phantom]"),
    click.option("--cycles", type=int, help="SGDR cycles. [default: 4; 1 on phantom]"),
    click.option("--cycle-epochs", type=int, help="Epochs of the first cycle. [default: 3; 5 on phantom]"),
    click.option("--cycle-mult", type=int, help="Growth of the cycles. [default: 2]"),
    click.option("--warm-start/--no-warm-start", default=None, help="Begin each cycle at a hundredth of the rate."),
    click.option("--max-epochs", type=int, help="Budget of all phases together. [default: 60]"),
    click.option("--lr", type=Rate(), help="Peak rate; auto takes the range test's. [default: auto; 0.01 on phantom]"),
    click.option(
        "--range-test/--no-range-test",
        default=None,
        help="Sweep the rate before each phase and keep the curve, also where --lr is given. [default: sweep]",
    ),
    click.option(
        "--lr-steps",
        type=click.IntRange(20),
        help="Steps of the range test. [default: the phase's, or with --lr a quarter; 20 to 100]",
    ),
    click.option(
        "--crops",
        type=click.Choice(("any", "three")),
        help="Where along the longer side training crops: any place, or left, centre or right. [default: any]",
    ),
    click.option("--stain-jitter", type=float, help="Share by which each stain varies; 0.05 is mild. [default: 0]"),
    click.option("--brightness", type=float, help="Share by which the brightness varies. [default: 0]"),
    click.option(
        "--stain-normalisation",
        type=click.Choice(("none", "macenko", "reinhard")),
        help="Give every image a reference's colours, here and in the export. [default: none]",
    ),
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
@click.option("--node", type=click.Choice(NODE_NAMES), required=True, help="Which classifier of the tree.")
@config_option
@split_options
@click.option(
    "--init",
    metavar="imagenet|none|best[:CARCI_RUN]|FILE|RUN",
    help="Start; best tries carci's run and imagenet (none on phantom). [default: imagenet; none on phantom]",
)
@click.option("--until", type=FOLDER, metavar="RUN", help="With --protocol all: stop at the loss of RUN's best epoch.")
@recipe_options
@click.option("--seed", type=int, help="Of weights, order, augmentation, dropout. [default: 0]")
@click.option("--run-dir", type=FOLDER, help="[default: runs/CONFIG-NODE]")
@click.option("--resume", "resumed", is_flag=True, help="Go on with a run that was cut.")
@click.option("--allow-changes", is_flag=True, help="Resume with another recipe or other versions of packages.")
@click.option("--overwrite", is_flag=True, help="Begin anew; the run that is there is kept as RUN_DIR.previous.")
@click.option("--tensorboard", is_flag=True, help="Write event files into RUN_DIR/tensorboard.")
@data_dir_option
def train(
    node, config, protocol, split_seed, patients, init, until, run_dir, resumed, allow_changes, overwrite, tensorboard,
    data_dir, **given
):  # fmt: skip
    """Train one node of the tree.

    \b
    Example:
      python cli.py train --node norbe
    """
    from bach_keras.training.command import resume_training, run_training

    with _stopped_in_one_sentence():
        # Of two starts each run goes on by itself.
        if resumed and not (init or "").startswith("best"):
            context = click.get_current_context()
            named = {"config", "protocol", "split_seed", "patients", "init", "until"}
            asked = {
                name: context.params[name]
                for name in named
                if context.get_parameter_source(name) is not ParameterSource.DEFAULT
            }
            resume_training(node, asked, given, run_dir, allow_changes, data_dir, say)
            return
        run_training(
            node, config, protocol, split_seed, patients, init, until, given, run_dir, overwrite, tensorboard, data_dir,
            say,
        )  # fmt: skip


@click.command()
@click.option("--node", type=click.Choice(NODE_NAMES), required=True, help="Which classifier of the tree.")
@config_option
@split_options
@click.option("--init", metavar="imagenet|none|FILE|RUN", help="Start. [default: imagenet; none on phantom]")
@click.option("--phase", type=click.Choice(("head", "middle+head", "all")), help="[default: the first of training]")
@click.option("--on", "metric", type=click.Choice(("loss", "accuracy")), default="loss", show_default=True)
@click.option("--image-size", type=int, help="Side in pixels. [default: 288; 96 on phantom]")
@click.option("--batch-size", type=int, help="Images a step. [default: 10]")
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
@click.option("--seed", type=int, help="Of weights, order, augmentation, dropout. [default: 0]")
@click.option("--out", type=FOLDER, help="Folder for the JSON and the picture. [default: runs/CONFIG-NODE-lr-find]")
@data_dir_option
def lr_find(node, config, protocol, split_seed, patients, init, phase, metric, out, data_dir, **given):
    """Find the learning rate of a node by a range test, and draw it; no run is changed.

    \b
    Example:
      python cli.py lr-find --node carci --config bach
    """
    from bach_keras.training.command import run_lr_find

    run_lr_find(node, config, protocol, split_seed, patients, init, phase, metric, out, data_dir, say, **given)


@click.command()
@click.option("--model", type=FOLDER, help="An export, instead of runs.")
@member_options
@config_option
@split_options
@click.option("--split", type=click.Choice(("validation", "test")), help="[default: test if there is one]")
@click.option("--out", type=FOLDER, required=True, help="Folder for metrics.json, predictions.csv, report.html.")
@data_dir_option
def evaluate(model, carci_runs, norbe_runs, invis_runs, config, protocol, split_seed, patients, split, out, data_dir):
    """Score a tree on images that it never trained on.

    \b
    Example:
      python cli.py evaluate --carci runs/c --norbe runs/n --invis runs/i --out runs/tree
    """
    from bach_keras.training.command import run_evaluation

    if model and (carci_runs or norbe_runs or invis_runs):
        raise Failure("Give either --model or runs, not both.")
    if model:
        from bach_keras.serving.exported import Export

        system, runs = Export(model), []
    else:
        system, runs = load_members(carci_runs, norbe_runs, invis_runs), [*carci_runs, *norbe_runs, *invis_runs]
    run_evaluation(system, runs, config, protocol, split_seed, patients, split, out, data_dir, say)


@click.command()
@config_option
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    default=("paper", "patient"),
    show_default=True,
    help="Repeat it for several, side by side.",
)
@click.option(
    "--seed", "seeds", type=int, multiple=True, default=(0,), show_default=True, help="Repeat it for several."
)
@click.option("--init", metavar="imagenet|none|FILE", help="The common start. [default: imagenet; none on phantom]")
@recipe_options
@click.option("--out", type=FOLDER, help="Folder for everything. [default: runs/reproduce-CONFIG]")
@click.option("--plan", "only_plan", is_flag=True, help="Tell what would be run and how long it takes, and stop.")
@data_dir_option
def reproduce(config, protocols, seeds, init, out, only_plan, data_dir, **given):
    """Train and score all of the paper's Table 1; given again, it goes on where it was.

    \b
    Example:
      python cli.py reproduce --config phantom --image-size 96 --cycle-epochs 2
    """
    from bach_keras.training.table1 import reproduce as run

    with _stopped_in_one_sentence():
        run(config, protocols, seeds, out, given, init, data_dir, only_plan, say)
