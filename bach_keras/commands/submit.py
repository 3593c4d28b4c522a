"""The command that writes the challenge's answer file."""

import click

from bach_keras.commands.console import say
from bach_keras.commands.options import FOLDER
from bach_keras.packed_kernels import keep_packed_kernels
from bach_keras.wording import counted
from datasets.errors import working


@click.command()
@click.option("--model", type=FOLDER, required=True, help="An export.")
@click.option("--out", type=FOLDER, required=True, metavar="FILE", help="CSV file to write, such as pred.csv.")
@click.argument("folder", type=FOLDER, metavar="DIR")
def submit(model, out, folder):
    """Answer for the BACH challenge's test images, named like test0.tif, in its form: case,class.

    0 is normal, 1 benign, 2 in situ, 3 invasive. Nothing is written unless every image has an answer.

    \b
    Example:
      python cli.py submit --model saved_models/bach/1 --out pred.csv ICIAR2018_BACH_Challenge_TestDataset/Photos
    """
    keep_packed_kernels()
    from bach_keras.serving.exported import Export
    from bach_keras.serving.submit import (
        check_destination,
        check_model,
        find_cases,
        missing_cases,
        other_cases,
        write_answers,
    )

    cases = find_cases(folder)
    check_destination(out, cases)
    export = Export(model)
    check_model(export)
    for sentence in export.warnings:
        say(sentence, err=True)
    with working():
        write_answers(export, cases, out)
    say(f"wrote {out}: {counted(len(cases), 'case')}")
    if missing := missing_cases(cases):
        say(
            f"The challenge's test set has {counted(len(missing), 'case')} that {folder} lacks: {_first(missing)}.",
            err=True,
        )
    if others := other_cases(cases):
        say(
            f"{folder} has {counted(len(others), 'case')} that the challenge's test set lacks: {_first(others)}.",
            err=True,
        )


def _first(cases: list[int]) -> str:
    return ", ".join(map(str, cases[:5])) + (", ..." if len(cases) > 5 else "")
