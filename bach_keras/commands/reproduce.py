"""The command that trains and scores all of the paper's Table 1, from one start or from several."""

import contextlib
from pathlib import Path

import click

from bach_keras.commands.console import say, start_console
from bach_keras.commands.options import FOLDER, config_option, data_dir_option, open_images
from bach_keras.commands.recipe_options import recipe_of, recipe_options
from bach_keras.commands.training import stopped_in_one_sentence


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
    "--init", "inits", multiple=True, metavar="imagenet|histology|none|FILE",
    help="Weights that all runs without a parent start from; repeat it to set several starts side by side in "
    "OUT/starts.html. [default: imagenet; none on phantom]",
)  # fmt: skip
@recipe_options
@click.option("--out", type=FOLDER, help="Folder for everything. [default: runs/reproduce-CONFIG]")
@click.option("--plan", "only_plan", is_flag=True, help="Print what would be run and how long it takes, and stop.")
@click.option("--address", metavar="HOST:PORT",
              help="Train on a Ray cluster, as `ray start --head` prints it; --out is on storage that all its machines "
              "share. [default: here]")  # fmt: skip
@data_dir_option
def reproduce(config, protocols, seeds, inits, out, only_plan, address, data_dir, **given):
    """Train and score all of the paper's Table 1; given again, it continues where it was.

    \b
    Example:
      python cli.py reproduce --config phantom --image-size 96 --cycle-epochs 2
    """
    from bach_keras.network.half_precision import probe
    from bach_keras.recipe import default_recipe
    from bach_keras.training.alone import alone
    from bach_keras.training.start import start_from
    from bach_keras.training.starts import check_names, reproduce_starts
    from bach_keras.training.table1 import reproduce_table1
    from bach_keras.training.table1_plan import open_plan
    from datasets.split_data import default_config

    with stopped_in_one_sentence(), _joined(None if only_plan else address) as cluster:
        config = config or default_config(data_dir)
        out = out or Path("runs") / f"reproduce-{config}"
        if given["precision"] == "auto":
            # What it measures is kept. A GPU that this process had started to use would be lost to those that train.
            alone(probe, prepare=start_console)
        recipe = recipe_of(default_recipe(config), **given)
        starts = [start_from(init, config) for init in inits or (None,)]
        check_names([start.name for start in starts])
        is_one = len(starts) == 1
        plans = {
            start.name: (
                open_plan(config, protocols, seeds, out if is_one else out / start.name, start.name, data_dir), start
            )
            for start in starts
        }  # fmt: skip
        # The images are the same, whatever a training starts from.
        for data in plans[starts[0].name][0].data.values():
            open_images(data)
            if data.origin["note"]:
                say(data.origin["note"])
        if is_one:
            (plan, start), *_ = plans.values()
            reproduce_table1(plan, recipe, start, only_plan, start_console, cluster)
        else:
            reproduce_starts(plans, recipe, only_plan, start_console, cluster)
