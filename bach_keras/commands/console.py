"""What a command prints: its own lines, and those of the log, on the terminal as they are."""

import logging
import sys

import click

from bach_keras.quiet import quiet_tensorflow
from datasets.escape import for_terminal

# The packages whose progress a command shows; each module logs under its own name.
PACKAGES = ("bach_keras", "callbacks", "datasets")
# Parts of warnings of other packages that a user can do nothing about.
IDLE = ("triggered tf.function retracing",)


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


def show_warnings(export) -> None:
    """Show on stderr what must be read before any answer of a model."""
    for sentence in export.warnings:
        say(sentence, err=True)


class Console(logging.Handler):
    """Prints progress on stdout and warnings on stderr; those of other packages with the package's name."""

    def emit(self, record):
        err = record.levelno >= logging.WARNING
        text = self.format(record)
        if record.name.partition(".")[0] in PACKAGES:
            say(text, err)
        elif err and not any(part in text for part in IDLE):
            for line in text.splitlines():
                say(f"{record.name}: {line}", err)


def show_log() -> None:
    """Show the log from now on; a second call changes nothing.

    The handler is the root's. Without one there, absl gives it one of its own at the first message, and every line
    would be shown twice.
    """
    root = logging.getLogger()
    if not any(isinstance(handler, Console) for handler in root.handlers):
        root.addHandler(Console())
    for name in PACKAGES:
        logging.getLogger(name).setLevel(logging.INFO)


def start_console() -> None:
    """Begin a command, or a process that one starts: TensorFlow comes quietly, and the log is shown."""
    quiet_tensorflow()
    show_log()
