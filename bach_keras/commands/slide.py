"""The command that answers for whole slides."""

import sys

import click

from bach_keras.commands.console import say, show_warnings
from bach_keras.commands.options import FOLDER, Stopped
from bach_keras.packed_kernels import keep_packed_kernels
from bach_keras.signals import exit_code


@click.command()
@click.option("--model", type=FOLDER, required=True, help="An export of a tree.")
@click.option("--out", type=FOLDER, required=True, metavar="DIR",
              help="A folder; each slide gets one of its own in it, called as its file.")  # fmt: skip
@click.option("--um-per-pixel", metavar="X|CSV",
              help="Micrometres of a full-resolution pixel of every slide, or a file with the columns slide and "
              "um_per_pixel. [default: as each slide's file says]")  # fmt: skip
@click.option("--field", type=float, metavar="UM",
              help="Micrometres that a tile shows. [default: as the model's training images, 645 of BACH]")  # fmt: skip
@click.option("--overlap", type=float, default=0.0, show_default=True, metavar="F",
              help="Share of a tile that the next one shows too, up to 0.9.")  # fmt: skip
@click.option("--tissue", type=float, default=0.25, show_default=True, metavar="F",
              help="Least share of tissue of a tile that is answered.")  # fmt: skip
@click.option("--routing", type=click.Choice(("routed", "soft")), default="routed", show_default=True,
              help="routed: each tile runs only the specialist that carci chose, which is faster.")  # fmt: skip
@click.option("--quick", is_flag=True,
              help="Look at four tiles at once first, and at each by itself only where carci is unsure.")  # fmt: skip
@click.option("--regions", type=FOLDER, metavar="FILE",
              help="QuPath's GeoJSON of outlined regions of one slide: only tiles that touch one are answered, and "
              "where regions have classes, the agreement is reported.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace what other settings left in a slide's folder.")
@click.argument("slides", nargs=-1, required=True, type=FOLDER)
def slide(model, out, um_per_pixel, field, overlap, tissue, routing, quick, regions, overwrite, slides):
    """Answer for whole slides, tile by tile, at the magnification that the model was trained on.

    An interrupted command continues where it was if it is given again.

    \b
    Example:
      python cli.py slide --model saved_models/demo/1 --out maps/ slides/*.svs
      python cli.py slide --model saved_models/demo/1 --um-per-pixel 0.25 --quick --out maps/ slide.tiff
    """
    keep_packed_kernels()
    from bach_keras.serving.exported import Export
    from bach_keras.serving.slide.plan import Asked
    from bach_keras.serving.slide.scales import Scales
    from bach_keras.serving.slide.work import CONTINUES, answer_slides

    asked = Asked(
        scales=Scales.given(um_per_pixel), field=field, overlap=overlap, tissue=tissue, routing=routing,
        is_quick=quick, regions=regions, overwrites=overwrite,
    )  # fmt: skip
    export = Export(model)
    show_warnings(export)
    failed = False
    try:
        for outcome in answer_slides(export, slides, out, asked):
            failed = failed or bool(outcome.error)
            for line in _in_words(out, outcome) if outcome.summary else ():
                say(line)
            if outcome.error:
                say(f"Error: {outcome.error}", err=True)
    except KeyboardInterrupt as error:
        raise Stopped(f"Interrupted. {CONTINUES}", exit_code(error)) from error
    sys.exit(1 if failed else 0)


def _in_words(out, outcome) -> list[str]:
    from bach_keras.serving.slide.agreement import in_words
    from bach_keras.serving.slide.quick import in_words as quick_in_words

    summary = outcome.summary
    tiles, size = summary["tiles"], summary["um_per_pixel"]
    before = ", finished by an earlier run" if outcome.was_finished else ""
    labels = ", ".join(f"{name} {each['tiles']}" for name, each in summary["classes"].items())
    left_out = f"{tiles['background']} have less than {100 * summary['tissue']['least']:g}% tissue"
    if summary["agreement"]:
        left_out += f", {tiles['outside']} touch no region"
    lines = [
        f"{outcome.path}{before}: {tiles['answered']} of {tiles['all']} tiles answered ({left_out}): {labels}",
        f"{size['value']:.4g} micrometres a pixel ({size['source']}), {summary['field']['um']:g} a tile",
        *([quick_in_words(summary["quick"])] if summary["quick"] else []),
        *(in_words(summary["agreement"]) if summary["agreement"] else []),
        str(out / outcome.path.stem / "index.html"),
    ]
    return [lines[0], *(f"  {line}" for line in lines[1:])]
