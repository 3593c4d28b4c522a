"""The command that opens the page to drop images into."""

import importlib.util

import click

from bach_keras.commands.console import show_warnings
from bach_keras.commands.open_model import check_one, open_model
from bach_keras.commands.options import FOLDER
from bach_keras.packed_kernels import keep_packed_kernels
from bach_keras.serving.arenas import share_arenas
from datasets.errors import UserError


@click.command()
@click.option("--model", type=FOLDER, help="An export. Give this or --server.")
@click.option("--server", metavar="URL", help="A server to ask, as for 'predict'; it gives no overlays.")
@click.option("--symmetries", is_flag=True, help="Warn, as 'predict' does, where a turned image has another label.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; there is no password.")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0 takes a free port.")
def app(model, server, symmetries, host, port):
    """Open a page to drop images into: the answer, the path to it, where it looked, and how sure it is.

    It needs the packages of requirements-app.txt.

    \b
    Example:
      python cli.py app --model saved_models/demo/1
    """
    check_one(model, server)
    if importlib.util.find_spec("gradio") is None:
        raise UserError("The page needs Gradio: run 'pip install -r requirements-app.txt'.")
    keep_packed_kernels()
    share_arenas()
    from bach_keras.serving.app.answers import Answers
    from bach_keras.serving.app.site import Site

    export = open_model(model, server)
    show_warnings(export)
    answers = Answers(export, symmetries)
    if server is None:
        answers.warm_up()
    Site(answers, host, port).serve()
