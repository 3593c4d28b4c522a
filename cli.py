"""The command line. Each command parses, calls one function and prints; TensorFlow is imported inside."""

import functools
import os
import sys
from pathlib import Path

import click

CONFIGS = ("bach", "bisque", "bach_bisque", "phantom")
NODE_NAMES = ("carci", "norbe", "invis")

FOLDER = click.Path(path_type=Path)


class Failure(click.ClickException):
    """Nothing was started: one sentence, exit code 2."""

    exit_code = 2


class Commands(click.Group):
    """A group whose commands turn the errors of bad input into one sentence."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (ValueError, OSError) as error:
            raise Failure(" ".join(str(error).split())) from error


def several(*options):
    """Join options that recur into one decorator."""
    return lambda command: functools.reduce(lambda inner, option: option(inner), reversed(options), command)


data_dir_option = click.option(
    "--data-dir", type=FOLDER, help="Where data sets live. [default: TFDS_DATA_DIR or ~/tensorflow_datasets]"
)
config_option = click.option(
    "--config", type=click.Choice(CONFIGS), help="Data set. [default: bach if it is prepared, else phantom]"
)
protocol_option = click.option(
    "--protocol", type=click.Choice(("paper", "patient")), default="patient", show_default=True,
    help="paper: 75/25, stratified. patient: no patient on both sides.",
)  # fmt: skip
member_options = several(
    *(
        click.option(
            f"--{node}", f"{node}_runs", multiple=True, metavar="RUN[:WEIGHT]",
            help=f"A {node} run, or RUN/snapshots/NAME; repeat it for an ensemble.",
        )
        for node in NODE_NAMES
    )
)  # fmt: skip


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option("0.1.0", prog_name="bach-keras")
def cli():
    """Sort H&E breast histology images into normal, benign, in situ and invasive carcinoma.

    Research software, not a medical device.

    \b
    Example:
      python cli.py train --node norbe
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@cli.group()
def data():
    """Prepare and describe the data sets."""


@data.command()
@click.option("--config", type=click.Choice(CONFIGS), required=True, help="Data set.")
@click.option("--source", type=FOLDER, help="Folder or zip with the original images.")
@data_dir_option
def prepare(config, source, data_dir):
    """Build a data set once.

    \b
    Example:
      python cli.py data prepare --config bisque --source ~/bisque
    """
    from datasets.bach_bisque.prepare import prepare as build

    summary = build(config, source, data_dir)
    click.echo(f"{config}: {'built' if summary.built else 'already prepared'} in {summary.path}")
    _print_summary(summary)


@data.command()
@config_option
@data_dir_option
def info(config, data_dir):
    """Tell what a prepared data set holds.

    \b
    Example:
      python cli.py data info --config bisque
    """
    from bach_keras.training.data import default_config
    from datasets.bach_bisque.prepare import describe

    _print_summary(describe(config or default_config(data_dir), data_dir))


def _print_summary(summary):
    labels = ", ".join(f"{count} {label}" for label, count in summary.labels.items())
    click.echo(f"{summary.config}: {summary.images} images: {labels}; {summary.groups} groups")


@data.command()
@click.option("--config", type=click.Choice(CONFIGS), required=True, help="Data set.")
@protocol_option
@click.option("--seed", default=0, show_default=True, help="Of the draw.")
@click.option("--out", type=FOLDER, help="CSV to write, filename,split.")
def splits(config, protocol, seed, out):
    """Tell, and write, which image is in which split. Needs no images.

    \b
    Example:
      python cli.py data splits --config bach --protocol patient --out bach-patient.csv
    """
    from collections import Counter

    from datasets.splits import get_split

    counts = Counter(get_split(config, protocol, seed, out).values())
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    click.echo(f"{config}, {protocol}, seed {seed}: {told}" + (f"; written to {out}" if out else ""))


@cli.group()
def weights():
    """Fetch and convert ImageNet weights."""


@weights.command()
@click.option("--to", type=FOLDER, help="The .h5 to write. [default: ~/.keras/models/resnext50_imagenet.h5]")
@click.option("--source", default="torchvision", show_default=True, help="torchvision, or a repository on the hub.")
@click.option("--revision", help="Commit of a hub repository, 40 digits.")
@click.option("--overwrite", is_flag=True, help="Replace the file that is there.")
def fetch(to, source, revision, overwrite):
    """Download ResNeXt-50's weights, verify and convert them.

    \b
    Example:
      python cli.py weights fetch
    """
    from bach_keras.network.fetch import fetch as download

    def progress(done, total):
        whole = f" of {total / 1e6:.0f}" if total else ""
        click.echo(f"\r{done / 1e6:.0f}{whole} MB", nl=False, err=True)

    path = download(to, source, revision=revision, overwrite=overwrite, progress=progress)
    click.echo(f"wrote {path}")


@weights.command()
@click.argument("source", type=FOLDER)
@click.argument("dest", type=FOLDER)
@click.option("--overwrite", is_flag=True, help="Replace the file that is there.")
def port(source, dest, overwrite):
    """Convert torchvision's or timm's SOURCE (.pth, .safetensors, .h5) to DEST (.h5).

    \b
    Example:
      python cli.py weights port resnext50_32x4d-7cdf4587.pth saved_models/resnext50_imagenet.h5
    """
    from bach_keras.network.weights import port as convert

    convert(source, dest, overwrite=overwrite)
    click.echo(f"wrote {dest}")


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


@cli.command()
@click.option("--node", type=click.Choice(NODE_NAMES), required=True, help="Which classifier of the tree.")
@config_option
@protocol_option
@click.option("--init", metavar="imagenet|none|FILE|RUN", help="Start. [default: imagenet; none on phantom]")
@click.option("--image-size", type=int, help="Side in pixels. [default: 288; 96 on phantom]")
@click.option("--batch-size", type=int, help="Images a step. [default: 10]")
@click.option("--head-epochs", type=int, help="Epochs of the head alone. [default: 3; 0 on phantom]")
@click.option("--cycles", type=int, help="SGDR cycles. [default: 4; 1 on phantom]")
@click.option("--cycle-epochs", type=int, help="Epochs of the first cycle. [default: 3; 4 on phantom]")
@click.option("--cycle-mult", type=int, help="Growth of the cycles. [default: 2]")
@click.option("--lr", type=Rate(), help="Peak rate; auto takes the range test's. [default: auto; 0.01 on phantom]")
@click.option("--seed", type=int, help="Of weights, order, augmentation, dropout. [default: 0]")
@click.option("--run-dir", type=FOLDER, help="[default: runs/CONFIG-NODE]")
@click.option("--resume", "resumed", is_flag=True, help="Go on with a run that was cut.")
@click.option("--overwrite", is_flag=True, help="Begin anew; the run that is there is kept as RUN_DIR.previous.")
@data_dir_option
def train(node, config, protocol, init, run_dir, resumed, overwrite, data_dir, **given):
    """Train one node of the tree.

    \b
    Example:
      python cli.py train --node norbe
    """
    from bach_keras.training.command import run_training

    run_training(node, config, protocol, init, given, run_dir, resumed, overwrite, data_dir, click.echo)


def _members(carci_runs, norbe_runs, invis_runs):
    from bach_keras.training.runs import load_members

    return load_members({"carci": carci_runs, "norbe": norbe_runs, "invis": invis_runs})


@cli.command()
@click.option("--model", type=FOLDER, help="An export, instead of runs.")
@member_options
@config_option
@protocol_option
@click.option("--split", type=click.Choice(("validation", "test")), help="[default: test if there is one]")
@click.option("--out", type=FOLDER, required=True, help="Folder for metrics.json, predictions.csv, report.html.")
@data_dir_option
def evaluate(model, carci_runs, norbe_runs, invis_runs, config, protocol, split, out, data_dir):
    """Score a tree on images that it never trained on.

    \b
    Example:
      python cli.py evaluate --carci runs/c --norbe runs/n --invis runs/i --out runs/tree
    """
    from bach_keras.training.command import run_evaluation

    if model and (carci_runs or norbe_runs or invis_runs):
        raise Failure("Give either --model or runs, not both.")
    if model:
        from bach_keras.serving.predict import Export

        system, runs = Export(model), []
    else:
        system, runs = _members(carci_runs, norbe_runs, invis_runs), [*carci_runs, *norbe_runs, *invis_runs]
    run_evaluation(system, runs, config, protocol, split, out, data_dir, click.echo)


@cli.command()
@member_options
@click.option("--out", type=FOLDER, required=True, help="Version folder, e.g. saved_models/NAME/1.")
@click.option("--overwrite", is_flag=True, help="Replace the version that is there.")
def export(carci_runs, norbe_runs, invis_runs, out, overwrite):
    """Join runs into one SavedModel for TF Serving.

    \b
    Example:
      python cli.py export --carci runs/c --norbe runs/n --invis runs/i --out saved_models/tree/1
    """
    from bach_keras.serving.export import check_destination
    from bach_keras.serving.export import export as write

    check_destination(out, overwrite)
    path = write(_members(carci_runs, norbe_runs, invis_runs), out, overwrite)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    click.echo(f"wrote {path} ({size / 1e6:.0f} MB): serve it with TF Serving, or try 'predict --model {path}'")


@cli.command()
@click.option("--model", type=FOLDER, required=True, help="An export.")
@click.option("--format", "form", type=click.Choice(("table", "json", "csv")), default="table", show_default=True)
@click.option("--routing", type=click.Choice(("soft", "routed")), default="soft", show_default=True)
@click.argument("paths", nargs=-1, required=True, type=FOLDER)
def predict(model, form, routing, paths):
    """Answer for image files and folders.

    \b
    Example:
      python cli.py predict --model saved_models/demo/1 --format json slides/
    """
    from bach_keras.serving.formats import LINES
    from bach_keras.serving.predict import Export
    from bach_keras.serving.predict import predict as answer

    export = Export(model)
    if export.is_phantom:
        click.echo(
            "WARNING: this model learned from synthetic phantom images. Its answers about tissue mean NOTHING.",
            err=True,
        )
    failed = False
    for row, line in LINES[form](answer(export, paths, routing)):
        failed = failed or "error" in row
        click.echo(line)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    cli()
