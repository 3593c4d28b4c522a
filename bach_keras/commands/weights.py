"""The commands ``weights ...``: fetch, convert and inspect trained weights."""

import json

import click

from bach_keras.commands.console import echo, say
from bach_keras.commands.options import FOLDER
from bach_keras.normalisation import NORMALISATIONS

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
prefix_option = click.option(
    "--prefix", metavar="P", help="Which network to take where the file holds several, by what is before its names."
)


@click.group()
def weights():
    """Fetch, convert and inspect trained weights."""


@weights.command()
@click.option("--to", type=FOLDER, help="The .h5 to write. [default: ~/.keras/models/resnext50_imagenet.h5, or "
              "resnext50_histology.h5 for kather100k and pcam]")  # fmt: skip
@click.option(
    "--which", "--source", "which", default="torchvision", show_default=True, metavar="NAME|URL|OWNER/REPOSITORY",
    help="Published weights by name: torchvision, torchvision-v2, timm-a1, timm-a1h, timm-a2, timm-a3, timm-ra "
    "(ImageNet), semi-supervised, semi-weakly-supervised (CC BY-NC 4.0), kather100k, pcam (H&E tissue). Or a URL, or a "
    "repository on the Hugging Face hub: of 1aurent/resnext50_32x4d.tiatoolbox-kather100k the commit is known, so it "
    "needs no --sha256.",
)  # fmt: skip
@click.option("--revision", help="Commit of a hub repository, 40 digits.")
@click.option("--sha256", help="SHA-256 of the file, where none is known: kather100k, and URLs that do not name it.")
@overwrite_option
def fetch(to, which, revision, sha256, overwrite):
    """Download ResNeXt-50's weights, verify and convert them.

    \b
    Example:
      python cli.py weights fetch
      python cli.py weights fetch --which pcam
    """
    from bach_keras.network.fetch import Source, fetch_weights

    say(f"wrote {fetch_weights(to, Source(which, revision, sha256), overwrite=overwrite)}")


@weights.command()
@click.argument("source", type=FOLDER)
@click.argument("dest", type=FOLDER)
@prefix_option
@click.option(
    "--normalisation", type=click.Choice(NORMALISATIONS),
    help="What images the weights were trained on, where the file does not tell: normalised by ImageNet's statistics, "
    "or pixels / 255 alone (unit).",
)  # fmt: skip
@overwrite_option
def port(source, dest, prefix, normalisation, overwrite):
    """Convert a ResNeXt-50 of torchvision, timm, Facebook or tiatoolbox (.pth, .safetensors, .h5) to DEST (.h5).

    \b
    Example:
      python cli.py weights port resnext50_32x4d-7cdf4587.pth saved_models/resnext50_imagenet.h5
    """
    from bach_keras.network.weights import Asked, convert_weights

    asked = Asked(prefix, normalisation)
    say(f"wrote {convert_weights(source, dest, asked=asked, overwrite=overwrite)}")


@weights.command()
@click.argument("file", type=FOLDER)
@prefix_option
def inspect(file, prefix):
    """Print as one JSON object what a file of weights is, and whether `weights port` would take it.

    \b
    Example:
      python cli.py weights inspect resnext50_32x4d-kather100k.pth
    """
    from bach_keras.network.inspection import inspect_weights

    echo(json.dumps(inspect_weights(file, prefix), indent=1))
