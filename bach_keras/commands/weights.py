"""The commands ``weights ...``: fetch and convert ImageNet weights."""

import click

from bach_keras.commands.console import say
from bach_keras.commands.options import FOLDER

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")


@click.group()
def weights():
    """Fetch and convert ImageNet weights."""


@weights.command()
@click.option("--to", type=FOLDER, help="The .h5 to write. [default: ~/.keras/models/resnext50_imagenet.h5]")
@click.option("--source", default="torchvision", show_default=True, help="torchvision, or a repository on the hub.")
@click.option("--revision", help="Commit of a hub repository, 40 digits.")
@overwrite_option
def fetch(to, source, revision, overwrite):
    """Download ResNeXt-50's weights, verify and convert them.

    \b
    Example:
      python cli.py weights fetch
    """
    from bach_keras.network.fetch import fetch_weights

    say(f"wrote {fetch_weights(to, source, revision=revision, overwrite=overwrite)}")


@weights.command()
@click.argument("source", type=FOLDER)
@click.argument("dest", type=FOLDER)
@overwrite_option
def port(source, dest, overwrite):
    """Convert torchvision's or timm's SOURCE (.pth, .safetensors, .h5) to DEST (.h5).

    \b
    Example:
      python cli.py weights port resnext50_32x4d-7cdf4587.pth saved_models/resnext50_imagenet.h5
    """
    from bach_keras.network.weights import convert_weights

    say(f"wrote {convert_weights(source, dest, overwrite=overwrite)}")
