"""The command that compares an archive of answers with what their model knows."""

import json
import sys

import click

from bach_keras.commands.console import echo, say
from bach_keras.commands.options import FOLDER
from datasets.errors import UserError, working


@click.command()
@click.option("--model", type=FOLDER, required=True, help="The export that answered.")
@click.option("--baseline", type=FOLDER, metavar="DIR",
              help="Answers of before to compare with, as `bulk --out` wrote them. [default: the training "
              "images]")  # fmt: skip
@click.option("--group-by", type=click.Choice(("none", "folder")), default="none", show_default=True,
              help="folder: images of a folder are of one patient or slide, and count as alike.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(("table", "json")), default="table", show_default=True)
@click.option("--out", type=FOLDER, metavar="FILE", help="Write a page too, or the JSON where FILE ends in .json.")
@click.option("--fail-on-drift", is_flag=True, help="Exit with 1 where something differs, for a scheduler.")
@click.argument("folder", type=FOLDER, metavar="DIR")
def monitor(folder, model, baseline, group_by, form, out, fail_on_drift):
    """Compare the images that bulk answered with those that the model knows.

    Shares of warnings, blur, tissue, stain, distances to the training images, confidence and the class mix, each with
    its interval; from 30 images on with the p-value that they differ.

    \b
    Example:
      python cli.py monitor --model saved_models/demo/1 answers/
      python cli.py monitor --model saved_models/demo/1 --group-by folder --out page.html answers/
    """
    if out is not None and (out.suffix not in (".html", ".json") or not out.parent.is_dir()):
        raise UserError(f"--out {out} must be a file that ends in .html or .json, in a folder that is there.")
    from bach_keras.serving.monitor.monitor import monitor as compare_answers
    from bach_keras.serving.monitor.report import as_table, write_report
    from datasets.whole import write_json

    result = compare_answers(folder, model, group_by == "folder", baseline)
    for sentence in result["warnings"]:
        say(sentence, err=True)
    if form == "json":
        echo(json.dumps(result))
    else:
        for line in as_table(result):
            echo(line)
    if out is not None:
        with working():
            write_json(out, result) if out.suffix == ".json" else write_report(out, result)
    sys.exit(1 if result["damaged"] or (fail_on_drift and result["drift"]) else 0)
