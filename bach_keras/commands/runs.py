"""The command that lists runs."""

import sys
from pathlib import Path

import click

from bach_keras.commands.console import echo, say
from bach_keras.commands.options import FOLDER


@click.command()
@click.option("--format", "form", type=click.Choice(("table", "json", "csv")), default="table", show_default=True)
@click.argument("folder", type=FOLDER, default=Path("runs"), metavar="[DIR]")
def runs(form, folder):
    """List the runs below a folder, by default runs, with their settings and scores; exit 1 if any is damaged.

    The validation images also chose the best epoch, so their accuracies flatter: 'evaluate' judges.

    \b
    Example:
      python cli.py runs runs --format csv
    """
    from bach_keras.evidence.run_list import LINES, list_runs

    found = list_runs(folder)
    if not found:
        say(f"{folder} holds no run.", err=True)
    for line in LINES[form](found) if found else ():
        echo(line)
    sys.exit(1 if any(row["error"] for row in found) else 0)
