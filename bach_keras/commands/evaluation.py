"""The commands that score a tree, check what was scored, and compare two of them."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from bach_keras.commands.console import echo, say
from bach_keras.commands.options import (
    FOLDER,
    Failure,
    calibrated_option,
    images_options,
    load_members,
    member_options,
    several,
    views_option,
)

scored_options = several(
    click.option("--model", type=FOLDER, help="An export, in place of runs."),
    member_options,
    images_options,
    click.option(
        "--split", type=click.Choice(("validation", "test", "all")),
        help="Images to score; all takes every image that no member trained on. [default: test if there is one; all of "
        "your own images, if none of them trained a member]",
    ),
    views_option,
    calibrated_option,
)  # fmt: skip


@click.command()
@scored_options
@click.option("--out", type=FOLDER, required=True, help="Folder for metrics.json, predictions.csv and report.html.")
def evaluate(model, carci_runs, norbe_runs, invis_runs, images, split, views, calibrated, out):
    """Score a tree, or one node by itself, on images that it never trained on.

    \b
    Example:
      python cli.py evaluate --carci runs/c --norbe runs/n --invis runs/i --out runs/tree
      python cli.py evaluate --carci runs/bisque-carci --config bisque --out runs/bisque
    """
    from bach_keras.evidence.evaluate import evaluate as run_evaluation

    runs = carci_runs, norbe_runs, invis_runs
    run_evaluation(_system(model, runs, views, calibrated), _opened(images, split), split, out, sum(runs, ()))


@click.command()
@scored_options
@click.option(
    "--images",
    "count",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="How many of the images to ask about, spread over the patients; each is asked about 29 times.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Chooses the images.")
@click.option("--out", type=FOLDER, required=True, help="Folder for stability.json and stability.csv.")
def stability(model, carci_runs, norbe_runs, invis_runs, images, split, views, calibrated, count, seed, out):
    """Measure how often answers stay the same when images change a little.

    Each image is turned and mirrored, compressed, stained more and less, blurred and magnified. If evaluate is then run
    on the same model and images with the same --out, its report shows what was found.

    \b
    Example:
      python cli.py stability --model saved_models/tree/1 --config bach --out runs/tree
      python cli.py stability --carci runs/c --norbe runs/n --invis runs/i --images 40 --out runs/tree
    """
    from bach_keras.evidence.stability import Sample, measure_stability
    from bach_keras.evidence.stability_sections import as_table

    runs, data = (carci_runs, norbe_runs, invis_runs), _opened(images, split)
    system = _system(model, runs, views, calibrated)
    card = measure_stability(system, data, split, out, Sample(count, seed), sum(runs, ()))
    for line in as_table(card):
        say(line)
    say(f"wrote {out}/stability.json and stability.csv; `evaluate --out {out}` shows them in its report")


def _opened(images, split):
    """Open the images that judge; where all of the user's own may judge, they need not be enough for a split."""
    from datasets.config_names import parts_of
    from datasets.own.names import is_own
    from datasets.splits import CannotSplitError

    try:
        return images.open()
    except CannotSplitError as error:
        asked = images.protocol != "patient" or split not in (None, "all")
        if asked or not all(map(is_own, parts_of(images.config or "bach"))):
            raise
        say(f"{error} So all of the images judge.", err=True)
        return replace(images, protocol="all").open()


def _system(model, runs, views, calibrated):
    """Open an export, or join the runs of each node."""
    if model and any(runs):
        raise Failure("Give either --model or runs, not both.")
    if model and calibrated:
        raise Failure("--calibrated is about runs: an export has its calibration inside.")
    if model:
        from bach_keras.serving.exported import Export
        from bach_keras.serving.views import with_views

        return with_views(Export(model), views)
    from bach_keras.hierarchy import Hierarchy

    views = views or 1
    return Hierarchy(load_members(*runs, views), views=views, calibration=calibrated)


@click.command("verify-result")
@click.argument("path", type=FOLDER, metavar="FILE")
def verify_result(path: Path):
    """Compute every figure of an evaluation again from its predictions, without the model.

    FILE is the folder that evaluate wrote, or its predictions.csv or metrics.json. Exits with 1, and names the row or
    the figure, where one was changed.

    \b
    Example:
      python cli.py verify-result runs/tree
    """
    from bach_keras.evidence.verify_result import verify_result as verify

    found = verify(path)
    for line in found.checked:
        say(line)
    for line in found.differences:
        say(line, err=True)
    say(f"{path}: its figures are not those of its predictions" if found.differences else f"{path}: all of it agrees")
    sys.exit(1 if found.differences else 0)


@click.command()
@click.argument("first", type=FOLDER)
@click.argument("second", type=FOLDER)
@click.option("--format", "form", type=click.Choice(("table", "json")), default="table", show_default=True,
              help="How the comparison is printed.")  # fmt: skip
def compare(first: Path, second: Path, form: str):
    """Compare two systems, or two runs of a node, by their answers for the same images.

    FIRST and SECOND are each a predictions file, the folder of an evaluation, or a run folder. The interval of the
    difference is by patient, where patients are known.

    \b
    Example:
      python cli.py compare runs/tree runs/ensemble
      python cli.py compare runs/bach-norbe runs/bach-norbe-2 --format json
    """
    from bach_keras.evidence import compare as comparison

    for line in comparison.LINES[form](comparison.compare(first, second)):
        echo(line)
