"""The command that scores a tree."""

import click

from bach_keras.commands.options import FOLDER, Failure, calibrated_option, images_options, load_members, member_options


@click.command()
@click.option("--model", type=FOLDER, help="An export, in place of runs.")
@member_options
@images_options
@click.option(
    "--split", type=click.Choice(("validation", "test")), help="Images to score. [default: test if there is one]"
)
@calibrated_option
@click.option("--out", type=FOLDER, required=True, help="Folder for metrics.json, predictions.csv and report.html.")
def evaluate(model, carci_runs, norbe_runs, invis_runs, images, split, calibrated, out):
    """Score a tree on images that it never trained on.

    \b
    Example:
      python cli.py evaluate --carci runs/c --norbe runs/n --invis runs/i --out runs/tree
    """
    from bach_keras.evidence.evaluate import evaluate as run_evaluation

    runs = [*carci_runs, *norbe_runs, *invis_runs]
    if model and runs:
        raise Failure("Give either --model or runs, not both.")
    if model and calibrated:
        raise Failure("--calibrated is about runs: an export has its calibration inside.")
    if model:
        from bach_keras.serving.exported import Export

        system = Export(model)
    else:
        from bach_keras.hierarchy import Hierarchy

        system = Hierarchy(load_members(carci_runs, norbe_runs, invis_runs), calibration=calibrated)
    run_evaluation(system, images.open(), split, out, runs)
