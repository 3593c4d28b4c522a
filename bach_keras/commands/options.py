"""Options that several commands share, and the errors that end a command."""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import click
from click.core import ParameterSource

from bach_keras import tree
from bach_keras.commands.completion import complete_config, complete_init, complete_protocol, complete_run
from bach_keras.commands.console import say
from datasets.config_names import canonical
from datasets.errors import UserError

NODE_NAMES = tuple(tree.NODES)
VIEWS = tuple(map(str, tree.VIEWS))

FOLDER = click.Path(path_type=Path)


class Config(click.ParamType):
    """The name of a configuration: one of the catalogue, own-NAME, or several joined by ``+``, in any order."""

    name = "config"
    shell_complete = staticmethod(complete_config)

    def get_metavar(self, param, ctx):
        return "bach|bisque|bach_bisque|phantom|own-NAME|A+B"

    def convert(self, value, param, ctx):
        try:
            return canonical(value)
        except UserError as error:
            self.fail(str(error), param, ctx)


CONFIG = Config()


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


def best_precision() -> str:
    """Say what half precision costs on this machine, and return the type to take: bfloat16 or float32."""
    from bach_keras.network.half_precision import probe

    found = probe()
    say(str(found))
    return found.best


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
    if folder is not None and not os.path.isdir(os.path.expanduser(folder)):
        wrong = "is not a folder" if os.path.exists(os.path.expanduser(folder)) else "does not exist"
        make = f"`data prepare --config CONFIG --data-dir {folder}`"
        raise Failure(f"--data-dir {folder} {wrong}: check the name, or make it with {make}.")
    return folder


_DATA_DIR = {"type": FOLDER, "help": "Where data sets live. [default: TFDS_DATA_DIR or ~/tensorflow_datasets]"}
data_dir_option = click.option("--data-dir", callback=_is_there, **_DATA_DIR)
new_data_dir_option = click.option("--data-dir", callback=_text, **_DATA_DIR)  # for the command that may make it
config_option = click.option(
    "--config", type=CONFIG, help="Data set, or several joined by +. [default: bach if it is prepared, else phantom]"
)
protocol_option = click.option(
    "--protocol", metavar="paper|patient|kfold:K/i|all", default="patient", show_default=True,
    shell_complete=complete_protocol,
    help="paper: 75/25, image by image. patient: no patient on both sides, as far as patients are known. kfold:K/i: "
    "fold i of K validates (i from 1 to K), whole patients likewise. all: everything but fixed test images trains.",
)  # fmt: skip
patients_option = click.option(
    "--patients", type=FOLDER, metavar="CSV",
    help="Which patient a BACH image is from, as filename,patient, in place of the list that comes with the project.",
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
            f"--{node}", f"{node}_runs", multiple=True, metavar="RUN[:WEIGHT]", shell_complete=complete_run,
            help=f"A run of {node}, or RUN/snapshots/NAME; repeat it for an ensemble.",
        )
        for node in NODE_NAMES
    )
)  # fmt: skip


def _read_calibration(context, option, file):
    """Read a calibration before any network is built."""
    if file is None:
        return None
    from bach_keras.calibration import Calibration

    return Calibration.read(file)


calibrated_option = click.option(
    "--calibrated", type=FOLDER, metavar="FILE", callback=_read_calibration,
    help="What `calibrate` wrote of these runs: answers then say where they are unsure.",
)  # fmt: skip


def as_number(context, option, text):
    return text and int(text)


views_option = click.option(
    "--views", type=click.Choice(VIEWS), callback=as_number,
    help="Views of each image to average: 1, the central square; 8, its turns and reflections; 24, those of the left, "
    "central and right squares.",
)  # fmt: skip


def _pixel_size(context, option, given):
    """Refuse what no microscope has; NaN is in no range, and outside of none."""
    if given is not None:
        from datasets.images.scale import LARGEST, SMALLEST

        if not SMALLEST <= given <= LARGEST:
            raise Failure(
                f"--um-per-pixel {given:g} is not a microscope's: give micrometres of a pixel, from {SMALLEST:g} to "
                f"{LARGEST:g} (BACH's images have 0.42)."
            )
    return given


um_per_pixel_option = click.option(
    "--um-per-pixel", type=float, metavar="X", callback=_pixel_size,
    help="Micrometres of a pixel of every image. [default: as each file says]",
)  # fmt: skip


@dataclass(frozen=True)
class ImagesAsked:
    """Which images the user asked for, as ``images_options`` takes them."""

    config: str | None
    protocol: str
    split_seed: int
    patients: Path | None
    data_dir: Path | None

    def split(self):
        """Return them as ``SplitData``, of the default configuration where none is named; needs no images yet."""
        from datasets.split_data import default_config, split_data

        config = self.config or default_config(self.data_dir)
        return split_data(config, self.protocol, self.split_seed, self.data_dir, self.patients)

    def open(self):
        """Return them as ``SplitData``; refuses a configuration that is not prepared, and a join that leaks."""
        data = self.split()
        data.prepared.summary()
        data.check_copies()
        return data

    def __str__(self):
        seed = f", split seed {self.split_seed}" if self.split_seed else ""
        return f"protocol {self.protocol}{seed}" + (f", patients by {self.patients}" if self.patients else "")


def given_here(context, name: str) -> bool:
    """Return whether an option stands on the command line itself, and not in a file of options."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def images_options(command):
    """Add the options that name images; the command takes them as one ``images``."""

    @functools.wraps(command)
    def gathered(config, protocol, split_seed, patients, data_dir, **others):
        return command(images=ImagesAsked(config, protocol, split_seed, patients, data_dir), **others)

    return several(config_option, split_options, data_dir_option)(gathered)


@dataclass(frozen=True)
class StartAsked:
    """What the user asked a training to start from, as ``start_options`` takes it."""

    init: str | None
    head: str | None

    @property
    def tries_several(self) -> bool:
        return (self.init or "").partition(":")[0] == "best"

    def open(self, config: str, node: str, run_dir: Path):
        """Return the starts to try, by name."""
        from bach_keras.training.start import starts_from

        return starts_from(self.init, config, node, run_dir, self.head)


def _of_that_start(context, option, head):
    """Leave out a head that a file of options asks for where the command line names another start than the file."""
    of_file = context.get_parameter_source("head") is ParameterSource.DEFAULT_MAP
    return None if of_file and given_here(context, "init") else head


def start_options(command):
    """Add the options that name a start; the command takes them as one ``start``."""

    @functools.wraps(command)
    def gathered(init, head, **others):
        return command(start=StartAsked(init, head), **others)

    return several(
        click.option(
            "--init", metavar="imagenet|histology|none|best[:CARCI]|FILE|RUN|EXPORT[:NODE[.K]]",
            shell_complete=complete_init,
            help="Weights to start from: a file, a run, or a member of an export; best tries carci's run and imagenet "
            "(none on phantom). [default: imagenet; none on phantom]",
        ),
        click.option(
            "--head", type=click.Choice(("keep", "new")), callback=_of_that_start,
            help="Whether a start of the same node keeps its head. [default: keep from an export, or where your own "
            "images train; else new]",
        ),
    )(gathered)  # fmt: skip


def open_images(data):
    """Return the data once its images are prepared; phantoms are drawn when they are first needed."""
    if data.config == "phantom" and not data.prepared.is_there:
        from datasets.bach_bisque.prepare import prepare_dataset

        say("drawing the phantom images, once")
        prepare_dataset(data.config, data_dir=data.data_dir)
    data.prepared.summary()  # refuses one that is not prepared
    data.check_copies()
    return data


def load_members(carci_runs, norbe_runs, invis_runs, views: int = 1):
    from bach_keras import members

    return members.load_members({"carci": carci_runs, "norbe": norbe_runs, "invis": invis_runs}, views)
