"""Where the log's lines go: to the terminal, as they are."""

import logging
import sys

import click

from datasets.escape import for_terminal

# The packages whose log a command shows; each module logs under its own name.
PACKAGES = ("bach_keras", "callbacks", "datasets")


def say(line, err: bool = False) -> None:
    """Print one line; what it names from outside cannot move the cursor or forge another line."""
    echo(for_terminal(line), err)


def echo(text: str, err: bool = False) -> None:
    """Print text as it is, above a bar that is drawn."""
    # A file's name may hold bytes that are not text.
    encoded = text.encode(errors="surrogateescape")
    bars = sys.modules.get("tqdm")
    if bars is None:
        click.echo(encoded, err=err)
        return
    with bars.tqdm.external_write_mode(file=sys.stderr):  # takes a bar that is drawn off its line, and puts it back
        click.echo(encoded, err=err)


class Console(logging.Handler):
    """Prints progress on stdout, and warnings on stderr."""

    def emit(self, record):
        say(self.format(record), err=record.levelno >= logging.WARNING)


def show_log() -> None:
    """Show the log of this project's packages from now on; a second call changes nothing."""
    for name in PACKAGES:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, Console) for handler in logger.handlers):
            logger.addHandler(Console())
            logger.setLevel(logging.INFO)
