"""The command that answers for images."""

import sys

import click

from bach_keras.commands.console import echo, show_warnings
from bach_keras.commands.open_model import check_one, open_model
from bach_keras.commands.options import FOLDER, um_per_pixel_option, views_option
from bach_keras.packed_kernels import keep_packed_kernels
from datasets.errors import UserError


@click.command()
@click.option("--model", type=FOLDER, help="An export. Give this or --server.")
@click.option(
    "--server", metavar="URL",
    help="http://HOST:8501 or grpc://HOST:8500 of TF Serving or of 'serve'. Add /v1/models/NAME if the model is not "
    "called bach.",
)  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0, 86_400, min_open=True), default=60.0, show_default=True,
              help="Seconds that a server may take for one request.")  # fmt: skip
@click.option("--send-whole", is_flag=True,
              help="Send a server whole images, and not the parts that its model sees of them.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(("table", "json", "csv")), default="table", show_default=True)
@click.option("--routing", type=click.Choice(("soft", "routed")), default="soft", show_default=True)
@views_option
@click.option("--symmetries", is_flag=True,
              help="Ask about the eight turns and reflections of each image, and warn where one has another label. "
              "Eight times the work.")  # fmt: skip
@click.option("--explain", "pictures", type=FOLDER, metavar="DIR",
              help="Write into DIR, for each image and each node on its path, a picture of where the node "
              "looked.")  # fmt: skip
@click.option("--neighbours", type=click.IntRange(min=1), metavar="K",
              help="Name, for each image, the K training images that it resembles most.")  # fmt: skip
@click.option("--thumbnails", type=FOLDER, metavar="DIR",
              help="Write the pictures of those into DIR, if the export has them.")  # fmt: skip
@um_per_pixel_option
@click.option("--icc", type=click.Choice(("note", "apply")), default="note", show_default=True,
              help="What to do with a colour profile in a file: say its name, or convert the image to sRGB by "
              "it.")  # fmt: skip
@click.argument("paths", nargs=-1, required=True, type=FOLDER)
def predict(
    model, server, timeout, send_whole, form, routing, views, symmetries, pictures, neighbours, thumbnails,
    um_per_pixel, icc, paths,
):  # fmt: skip
    """Answer for image files and folders.

    \b
    Example:
      python cli.py predict --model saved_models/demo/1 --format json slides/
      python cli.py predict --model saved_models/demo/1 --explain pictures/ slides/
      python cli.py predict --model saved_models/demo/1 --neighbours 3 slides/
    """
    keep_packed_kernels()
    from bach_keras.serving.extras import Asked, check_asked, make_extras
    from bach_keras.serving.formats import lines
    from bach_keras.serving.metadata import READERS
    from bach_keras.serving.predict import predict_files
    from bach_keras.serving.views import with_views

    check_one(model, server)
    if send_whole and server is None:
        raise UserError("--send-whole is about a server: name it with --server URL.")
    asked = Asked(routing, views, um_per_pixel, icc, pictures, neighbours, thumbnails, symmetries)
    check_asked(asked, is_remote=server is not None)
    export = open_model(model, server, timeout=timeout, send_whole=send_whole)
    extras = make_extras(export, asked, paths)
    export = with_views(export, views)
    show_warnings(export)
    failed = False
    rows = predict_files(export, paths, routing, extras, READERS[icc])
    for row, line in lines(form, rows, export.outputs.classes):
        failed = failed or "error" in row
        echo(line)
    sys.exit(1 if failed else 0)
