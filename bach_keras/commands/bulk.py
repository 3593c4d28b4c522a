"""The command that answers for an archive of images."""

import importlib.util
import sys

import click

from bach_keras.commands.console import say, show_warnings
from bach_keras.commands.options import FOLDER, um_per_pixel_option, views_option
from datasets.errors import UserError


@click.command()
@click.option("--model", type=FOLDER, required=True, help="An export.")
@click.option("--input", "source", required=True, metavar="DIR_OR_LIST",
              help="A folder of images, a text file with a path or URL on each line (- is stdin), or the URL of a "
              "folder (s3://, gs://, file://).")  # fmt: skip
@click.option("--out", type=FOLDER, required=True, metavar="DIR",
              help="Where the answers go: part-*.parquet and manifest.json. What is there is resumed.")  # fmt: skip
@click.option("--address", metavar="HOST:PORT",
              help="A Ray cluster, as `ray start --head` prints it. [default: this machine alone]")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 100_000),
              help="Processes that answer. [default: one for each GPU, or core where there is none]")  # fmt: skip
@click.option("--time-limit", type=click.FloatRange(0, 86_400, min_open=True), default=60.0, show_default=True,
              help="Seconds in which an image must be read, or else it is an error.")  # fmt: skip
@click.option("--patience", type=click.FloatRange(1, 86_400), default=120.0, show_default=True,
              help="Seconds to wait for a cluster on which nothing can be answered.")  # fmt: skip
@click.option("--again", multiple=True, type=click.Choice(("changed", "errors")),
              help="Answer again files that changed since, or those that were errors; can be given twice.")  # fmt: skip
@click.option("--routing", type=click.Choice(("soft", "routed")), default="soft", show_default=True)
@views_option
@um_per_pixel_option
@click.option("--icc", type=click.Choice(("note", "apply")), default="note", show_default=True,
              help="What to do with a colour profile in a file, as for 'predict'.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1, 4096), default=8, show_default=True,
              help="Images that the model sees at once; a GPU wants more.")  # fmt: skip
@click.option("--shard-size", type=click.IntRange(1, 1_000_000),
              help="Rows of a Parquet file, a multiple of --batch-size. [default: 64 to 4096]")  # fmt: skip
def bulk(
    model, source, out, address, workers, time_limit, patience, again, routing, views, um_per_pixel, icc, batch_size,
    shard_size,
):  # fmt: skip
    """Answer for very many images, on this machine or on a cluster of them, into Parquet files.

    Give the command again to resume it where it was interrupted: what is answered is not computed again. It needs the
    packages of requirements-scale.txt.

    \b
    Example:
      python cli.py bulk --model saved_models/demo/1 --input archive/ --out answers/
      python cli.py bulk --model saved_models/demo/1 --input list.txt --out answers/ --address 10.0.0.1:6379
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError("bulk needs Ray: run 'pip install -r requirements-scale.txt'.")
    from bach_keras.serving.bulk.bulk import Job, run_bulk
    from bach_keras.serving.bulk.model import look_at_model
    from bach_keras.serving.bulk.plan import Machines

    seen = look_at_model(model, views, routing, batch_size)
    show_warnings(seen)
    looking = seen.looking(time_limit, um_per_pixel, icc)
    machines = Machines(address, workers, str(out / "ray.log"), patience)
    manifest = run_bulk(Job(source, out, seen.answering, looking, machines, shard_size, again), seen.form)
    failed = f", {manifest.errors:,} of them errors" if manifest.errors else ""
    say(f"{manifest.rows:,} images are answered{failed}: {out}/part-*.parquet, of which {out}/manifest.json tells.")
    sys.exit(1 if manifest.errors else 0)
