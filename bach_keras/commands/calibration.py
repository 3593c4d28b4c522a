"""The command that calibrates runs, and the tree that they make."""

import math
import sys

import click

from bach_keras.commands.options import FOLDER, VIEWS, Failure, as_number, images_options, member_options


@click.command()
@member_options
@images_options
@click.option(
    "--views", type=click.Choice(VIEWS), callback=as_number, default="1", show_default=True,
    help="How many views of each image are averaged where the tree will answer.",
)  # fmt: skip
@click.option("--unsure", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.2, show_default=True,
              help="Share of images that the tree is to call unsure.")  # fmt: skip
@click.option("--out", type=FOLDER, metavar="FILE",
              help="JSON file for the tree's thresholds. One node by itself has none.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace an existing FILE.")
def calibrate(carci_runs, norbe_runs, invis_runs, images, views, unsure, out, overwrite):
    """Fit each run's temperature, and the thresholds from which a tree is unsure.

    Each run is fitted on its own validation images. The thresholds are chosen on those of the first carci run, or of
    --config by --protocol.

    \b
    Example:
      python cli.py calibrate --carci runs/c --norbe runs/n --invis runs/i --out runs/tree-calibration.json
    """
    runs = {"carci": carci_runs, "norbe": norbe_runs, "invis": invis_runs}
    missing = [f"--{node}" for node, given in runs.items() if not given]
    if len(missing) == len(runs):
        raise Failure("Name the runs to calibrate with --carci, --norbe and --invis.")
    if not missing and not out:
        raise Failure("Name a file for the tree's thresholds with --out FILE.")
    if missing and out:
        raise Failure(f"Thresholds are of a whole tree: give {' and '.join(missing)} too, or leave out --out.")
    if math.isnan(unsure):  # which is in no range, and outside of none
        raise Failure("--unsure must be a number between 0 and 1, not nan.")
    if out and out.exists() and not overwrite:
        raise Failure(f"{out} exists already: choose another name, or replace it with --overwrite.")
    if out and not out.absolute().parent.is_dir():
        raise Failure(f"The folder {out.parent} is not there: make it first, or choose another --out.")

    from bach_keras.evidence.calibrate_tree import Settings, calibrate_members

    others = images.open() if _named() else None
    settings = Settings(views, unsure, images.data_dir)
    refused = calibrate_members({node: given for node, given in runs.items() if given}, settings, others, out)
    sys.exit(1 if refused else 0)


def _named() -> bool:
    """Say whether the user named images, which are otherwise those of the first carci run."""
    context = click.get_current_context()
    asked = ("config", "protocol", "split_seed", "patients")
    return any(context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT for name in asked)
