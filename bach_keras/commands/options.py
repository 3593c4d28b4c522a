"""Options that several commands share, and the error that ends a command before it starts."""

import functools
from pathlib import Path

import click

CONFIGS = ("bach", "bisque", "bach_bisque", "phantom")
NODE_NAMES = ("carci", "norbe", "invis")

FOLDER = click.Path(path_type=Path)


class Failure(click.ClickException):
    """Nothing was started: one sentence, exit code 2."""

    exit_code = 2


class Stopped(click.ClickException):
    """Ctrl-C or another signal ended a command: its sentence, and 128 and the signal's number as exit code."""

    def __init__(self, message: str, exit_code: int = 130):
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file=None):
        # On a line of its own: the cursor stands in a bar of progress, or behind ^C.
        click.echo(f"\n{self.message}", err=True)


def several(*options):
    """Join options that recur into one decorator."""
    return lambda command: functools.reduce(lambda inner, option: option(inner), reversed(options), command)


def _text(context, option, path):
    """Refuse a path that TensorFlow Datasets would end in a traceback on."""
    if path and not str(path).isascii() and any("\ud800" <= letter <= "\udfff" for letter in str(path)):
        raise click.BadParameter(f"{path} is not text in UTF-8: choose another place.")
    return path


def _is_there(context, option, folder):
    """Refuse a data folder that is not there: a mistyped one would be made, and filled with phantoms."""
    folder = _text(context, option, folder)
    if folder is not None and not folder.expanduser().is_dir():
        wrong = "is not a folder" if folder.expanduser().exists() else "does not exist"
        make = f"`data prepare --config CONFIG --data-dir {folder}`"
        raise Failure(f"--data-dir {folder} {wrong}: check the name, or make it with {make}.")
    return folder


_DATA_DIR = {"type": FOLDER, "help": "Where data sets live. [default: TFDS_DATA_DIR or ~/tensorflow_datasets]"}
data_dir_option = click.option("--data-dir", callback=_is_there, **_DATA_DIR)
new_data_dir_option = click.option("--data-dir", callback=_text, **_DATA_DIR)  # for the command that may make it
config_option = click.option(
    "--config", type=click.Choice(CONFIGS), help="Data set. [default: bach if it is prepared, else phantom]"
)
protocol_option = click.option(
    "--protocol", metavar="paper|patient|kfold:K/i|all", default="patient", show_default=True,
    help="paper: 75/25, image by image. patient: no patient on both sides, as far as patients are known. kfold:K/i: "
    "fold i of K validates (i from 1 to K), whole patients likewise. all: everything but fixed test images trains.",
)  # fmt: skip
patients_option = click.option(
    "--patients", type=FOLDER, metavar="CSV",
    help="Which patient a BACH image is from, as filename,patient; the challenge links such a sheet.",
)  # fmt: skip
split_options = several(
    protocol_option,
    click.option(
        "--split-seed", default=0, show_default=True, help="Random seed of the split; 0 gives the published split."
    ),
    patients_option,
)
member_options = several(
    *(
        click.option(
            f"--{node}", f"{node}_runs", multiple=True, metavar="RUN[:WEIGHT]",
            help=f"A run of {node}, or RUN/snapshots/NAME; repeat it for an ensemble.",
        )
        for node in NODE_NAMES
    )
)  # fmt: skip


def load_members(carci_runs, norbe_runs, invis_runs):
    from bach_keras.run_folder import load_members as load

    return load({"carci": carci_runs, "norbe": norbe_runs, "invis": invis_runs})
