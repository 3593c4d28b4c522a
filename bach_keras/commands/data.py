"""The commands ``data ...``: prepare, describe, split and check the data sets."""

import sys

import click

from bach_keras.commands.console import say
from bach_keras.commands.options import (
    CONFIG,
    FOLDER,
    Failure,
    Stopped,
    config_option,
    data_dir_option,
    images_options,
    new_data_dir_option,
    patients_option,
    protocol_option,
)
from bach_keras.signals import exit_code
from datasets.config_names import KNOWN
from datasets.own.names import is_own, name_for, options_of

AMOUNT = click.FloatRange(0, 1, max_open=True)
SEED = click.IntRange(0, 2**31 - 1)

# Images that stain normalisation is tried on when a set was built; it takes a tenth of a second for each.
MOST_SURVEYED = 500


class _Preparable(click.Choice):
    """The configs that can be prepared, as ``prepare`` calls them."""

    def convert(self, value, param, ctx):
        if is_own(str(value)):
            self.fail(f"your own set {value} is prepared with {options_of(value)}.", param, ctx)
        return super().convert(value, param, ctx)


@click.group()
def data():
    """Prepare and describe the data sets."""


@data.command()
@click.option(
    "--config", type=_Preparable((*KNOWN, "own")), required=True, help="Data set; own: labelled images of yours."
)
@click.option(
    "--source",
    type=FOLDER,
    help="Folder or zip with the images. [default: DATA_DIR/downloads/manual] For own, a folder that holds a folder "
    "for each label, or a CSV file with the columns path, label and, if known, patient and um_per_pixel; a folder with "
    "a labels.csv is read by that.",
)
@click.option("--name", help="Name of a set of your own: it becomes the config own-NAME. [default: the name of SOURCE]")
@click.option(
    "--label", "labels", multiple=True, metavar="WORD=LABEL",
    help="What a word in your folders or CSV file means: normal, benign, insitu, invasive or malignant; nothing behind "
    "the sign leaves its images out. Repeat it for each word.",
)  # fmt: skip
@click.option("--download", is_flag=True, help="Fetch BACH (10.4 GB, CC BY-NC-ND 4.0) into that folder if it lacks it.")
@click.option("--overwrite", is_flag=True, help="Build again what is prepared already.")
@new_data_dir_option
def prepare(config, source, name, labels, download, overwrite, data_dir):
    """Build a data set once; bring one of an earlier version up to date from its own records.

    \b
    Examples:
      python cli.py data prepare --config bisque --source ~/bisque
      python cli.py data prepare --config own --name clinic-a --source ~/images
    """
    if config == "own":
        config, summary = _prepare_own(name, source, labels, download, overwrite, data_dir)
    else:
        from datasets.bach_bisque.prepare import prepare_dataset

        if name or labels:
            raise Failure(f"--name and --label are of --config own: leave them out for {config}.")
        summary = prepare_dataset(config, source, data_dir, download=download, overwrite=overwrite)
    updated = f"brought up to date from version {summary.updated_from}" if summary.updated_from else "already prepared"
    say(f"{config}: {'built' if summary.built else updated} in {summary.path}")
    _print_summary(summary)
    if summary.built and config != "phantom":
        from bach_keras.evidence.stains import in_words, survey
        from bach_keras.recipe import Recipe
        from datasets.bach_bisque.prepared import Prepared

        prepared = Prepared(config, data_dir)
        names = sorted(prepared.digests)
        tried = names[:: -(-len(names) // MOST_SURVEYED)]
        some = f" of {len(tried)} of them" if len(tried) < len(names) else ""
        for counted in survey(prepared.load(tried), Recipe.image_size):
            say(f"  stain normalisation{some}: {in_words(counted)}")


def _prepare_own(name, source, labels, download, overwrite, data_dir):
    from datasets.own.prepare import Interrupted, prepare_own

    if download:
        raise Failure("--download fetches BACH: leave it out for images of your own.")
    if not source:
        raise Failure("--config own needs --source, where its images are: a folder or a CSV file.")
    name = name_for(source) if name is None else name
    try:
        summary = prepare_own(name, source, data_dir, meanings=labels, overwrite=overwrite)
    except Interrupted as error:
        raise Stopped(str(error), exit_code(error)) from error
    return summary.config, summary


@data.command()
@click.option("--config", type=CONFIG, help="Data set, or several joined by +. [default: all of them]")
@data_dir_option
def info(config, data_dir):
    """Say which data sets are prepared, where, and what they hold.

    \b
    Example:
      python cli.py data info --config bisque
    """
    from datasets.bach_bisque.prepared import own_sets
    from datasets.config_names import parts_of
    from datasets.errors import MissingError, UserError
    from datasets.own.facts import NAME, copies_in_words
    from datasets.sets import open_set

    if config and len(parts_of(config)) > 1:
        _print_summary(open_set(config, data_dir).summary())
    for name in parts_of(config) if config else (*KNOWN, *own_sets(data_dir)):
        prepared = open_set(name, data_dir)
        try:
            summary = prepared.summary()
        except (OSError, UserError) as error:
            if config:
                raise
            say(f"{name}: {'not prepared' if isinstance(error, MissingError) else error}")
            continue
        _print_summary(summary)
        sources = ", ".join(f"{count} of {source}" for source, count in summary.sources.items())
        older = f"; `data prepare --config {name}` brings it up to date" if prepared.is_older else ""
        say(f"  {sources}; version {summary.version} in {summary.path}{older}")
        if is_own(name) and (copies := copies_in_words(summary.path)):
            say(f"  copies that were found when it was prepared: {copies}; see {summary.path / NAME}")


def _print_summary(summary):
    labels = ", ".join(f"{count} {label}" for label, count in summary.labels.items())
    test = f"; {summary.test_images} unlabelled test images" if summary.test_images else ""
    say(f"{summary.config}: {summary.images} images: {labels}; {summary.groups_in_words}{test}")


@data.command()
@config_option
@data_dir_option
def verify(config, data_dir):
    """Compare every record with what was prepared; exit 1 if any differs. `doctor` says when that was last done.

    \b
    Example:
      python cli.py data verify --config bisque
    """
    from datasets.bach_bisque.verified import record_verification
    from datasets.sets import open_parts
    from datasets.split_data import default_config

    differ = False
    opened = open_parts([config or default_config(data_dir)], data_dir)
    for prepared in opened:
        prepared.summary()  # refuses one that is not prepared, before the others are read for minutes
    for prepared in opened:
        differences, summary = prepared.differences(), prepared.summary()
        for line in differences:
            say(line)
        if differences:
            again = f"data prepare {options_of(prepared.config)} --overwrite"
            say(f"{prepared.config} is not as it was prepared: run '{again}'")
            differ = True
        else:
            record_verification(prepared)
            say(f"{prepared.config}: all {summary.images + summary.test_images} images are as they were prepared")
    sys.exit(1 if differ else 0)


@data.command()
@click.option("--config", type=CONFIG, required=True, help="Data set, or several joined by +.")
@protocol_option
@click.option(
    "--split-seed",
    "--seed",
    default=0,
    show_default=True,
    help="Random seed of the split; 0 gives the published split.",
)
@patients_option
@click.option("--out", type=FOLDER, help="CSV file to write, with the columns filename and split.")
@data_dir_option
def splits(config, protocol, split_seed, patients, out, data_dir):
    """Count the images of each split and optionally write it as CSV. Needs no images but for own-NAME.

    \b
    Example:
      python cli.py data splits --config bach --protocol patient --out bach-patient.csv
    """
    from datasets.split_data import split_data
    from datasets.splits import write_split

    data = split_data(config, protocol, split_seed, data_dir, patients)
    if out:
        write_split(out, {name: split for split, names in data.files.items() for name in names})
    counted = ", ".join(f"{len(names)} {split}" for split, names in data.files.items() if names)
    say(f"{config}, {protocol}, seed {split_seed}: {counted}" + (f"; written to {out}" if out else ""))
    if data.origin["note"]:
        say(data.origin["note"], err=True)


@data.command()
@config_option
@click.option("--out", type=FOLDER, required=True, help="PNG to write.")
@click.option(
    "--images",
    type=click.IntRange(1),
    default=6,
    show_default=True,
    help="Number of images, spread evenly over the labels.",
)
@click.option("--image-size", type=click.IntRange(32), default=288, show_default=True, help="Side of each, in pixels.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Random seed of the choice and of the changes.")
@click.option(
    "--stain-jitter", type=AMOUNT, default=0.2, show_default=True,
    help="Random change of each stain's strength, as a fraction; 0.2 is strong, and training's default is 0.",
)  # fmt: skip
@click.option(
    "--brightness", type=AMOUNT, default=0.2, show_default=True,
    help="Random change of brightness, as a fraction; 0.2 is strong, and training's default is 0.",
)  # fmt: skip
@data_dir_option
def show(config, out, images, image_size, seed, stain_jitter, brightness, data_dir):
    """Draw images before and after each operation of augmentation and stain normalisation.

    \b
    Example:
      python cli.py data show --config bisque --out bisque.png
    """
    from bach_keras.evidence.contact_sheet import Settings, write_contact_sheet
    from datasets.sets import open_set
    from datasets.split_data import default_config

    config = config or default_config(data_dir)
    settings = Settings(image_size, seed, stain_jitter, brightness)
    names = write_contact_sheet(out, open_set(config, data_dir), images, settings)
    say(f"{config}: wrote {out}, from left to right {', '.join(names)}")


@data.command()
@images_options
@click.option(
    "--out", type=FOLDER, required=True, help="Folder for pairs.csv and pictures of the pairs, at most 100 of them."
)
def audit(images, out):
    """Look for near-duplicates across a split; exit 1 if there are any.

    \b
    Example:
      python cli.py data audit --config bach --protocol paper --out runs/audit
    """
    from bach_keras.evidence.pairs import MOST_DRAWN
    from bach_keras.evidence.pairs import audit as run_audit

    data = images.split()
    data.prepared.summary()  # refuses one that is not prepared
    pairs = run_audit(data, out)
    for pair in pairs[:MOST_DRAWN]:
        say(
            f"{pair.first} ({pair.first_split}) and {pair.second} ({pair.second_split}), {pair.placed}: "
            f"correlation {pair.correlation:.3f}, {pair.overlap:.0%} in common"
        )
    if len(pairs) > MOST_DRAWN:
        say(f"and {len(pairs) - MOST_DRAWN} more, less alike and not drawn, in {out / 'pairs.csv'}")
    say(f"{data.config}, {data.protocol}: pairs across the split: {len(pairs)}; see {out}")
    sys.exit(1 if pairs else 0)
