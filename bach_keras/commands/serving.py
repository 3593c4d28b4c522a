"""The commands that export a tree, serve it and compare its forms."""

import functools
import sys

import click

from bach_keras.commands.console import say, show_warnings
from bach_keras.commands.options import (
    FOLDER,
    best_precision,
    calibrated_option,
    data_dir_option,
    load_members,
    member_options,
    views_option,
)
from bach_keras.packed_kernels import keep_packed_kernels
from bach_keras.serving.arenas import share_arenas
from datasets.errors import UserError, WorkError, working


@click.command()
@member_options
@click.option("--out", type=FOLDER, help="Version folder, e.g. saved_models/NAME/1. Optional with --tflite.")
@click.option("--overwrite", is_flag=True, help="Replace an existing version and an existing TFLite file.")
@click.option(
    "--tflite", "lite", type=FOLDER, metavar="FILE", help="Write the tree as a TFLite file, with or without --out."
)
@click.option("--quantize", type=click.Choice(("none", "float16", "dynamic", "int8")), default="none",
              show_default=True, help="How that file keeps its weights, and with int8 its activations.")  # fmt: skip
@click.option("--precision", type=click.Choice(("float32", "bfloat16", "float16", "auto")), default="float32",
              show_default=True,
              help="Number format of the SavedModel's feature maps; auto takes bfloat16 where it is faster "
              "here.")  # fmt: skip
@click.option("--calibration", type=FOLDER, metavar="DIR",
              help="At least 9 images to check half precision on, and to calibrate and check a TFLite file on. "
              "[default: training images]")  # fmt: skip
@calibrated_option
@views_option
@data_dir_option
def export(
    carci_runs,
    norbe_runs,
    invis_runs,
    out,
    overwrite,
    lite,
    quantize,
    precision,
    calibration,
    calibrated,
    views,
    data_dir,
):
    """Join runs into one SavedModel for TF Serving, or one TFLite file for small devices, or both.

    Runs of all three nodes make the tree; those of one make a SavedModel of that node. Where the training images are
    on this disk, the SavedModel knows them: see docs/neighbours.md.

    \b
    Example:
      python cli.py export --carci runs/c --norbe runs/n --invis runs/i --out saved_models/tree/1 --precision auto
      python cli.py export --carci runs/c --norbe runs/n --invis runs/i --tflite tree.tflite --quantize int8
      python cli.py export --carci runs/c --out saved_models/carci/1 --views 8
    """
    from bach_keras.calibration import check_calibrated
    from bach_keras.hierarchy import check_members
    from bach_keras.members import run_folder
    from bach_keras.run_folder import Run
    from bach_keras.serving.tflite import convert as tflite
    from datasets.images.folder import find_images

    # Building the networks takes time, so every check that needs none comes first.
    views = views or 1
    _check_places(out, lite, overwrite)
    _check_forms(out, lite, quantize, precision, views)
    if calibration and not lite and precision == "float32":
        raise UserError("--calibration is for a TFLite file (--tflite) or half precision (--precision): give one too.")
    if calibration and not calibration.is_dir():
        raise UserError(f"--calibration {calibration} is not a folder: name one with images.")
    found = find_images([calibration]) if calibration else []
    if precision == "auto":
        precision = best_precision()
    runs = [Run.open(run_folder(spec)) for spec in (*carci_runs, *norbe_runs, *invis_runs)]
    count = sum(map(bool, (carci_runs, norbe_runs, invis_runs)))
    if lite and count == 1:
        raise UserError("A TFLite file holds a whole tree: give runs of all three nodes, or leave out --tflite.")
    if precision != "float32" and count in (1, 3):
        _check_images(found, runs[0], data_dir)
    refused = _unless_it_fails(lite, _check_images, found, runs[0], data_dir) if lite and count == 3 else []
    if refused and not out:
        raise UserError(refused[0])
    for sentence in refused:
        say(sentence, err=True)
    members = load_members(carci_runs, norbe_runs, invis_runs, views)
    check_members(members)
    check_calibrated(members, views, calibrated)
    if not out:
        tflite.check_members(members)
    images = functools.partial(_images, members, calibration, data_dir)
    # One form is written even where the other fails.
    failures = []
    if out:
        failures += _unless_it_fails(
            out, _write_saved_model, members, out, overwrite, images, data_dir,
            {"precision": precision, "views": views, "calibration": calibrated},
        )  # fmt: skip
    if lite and not refused:
        failures += _unless_it_fails(lite, _write_tflite, members, lite, quantize, images, overwrite, calibrated)
    if failures:
        raise click.ClickException(" ".join(failures))
    sys.exit(1 if refused else 0)


def _check_places(out, lite, overwrite):
    """Refuse places where nothing can be written, before anything is read."""
    from bach_keras.serving.export import check_destination
    from bach_keras.serving.tflite import convert as tflite

    if not (out or lite):
        raise UserError("Name a place to write to: --out saved_models/NAME/1, or --tflite FILE, or both.")
    if lite:
        tflite.check_destination(lite, overwrite)
    if out:
        check_destination(out, overwrite)
    if out and lite and lite.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(f"--tflite {lite} is where --out {out} needs a folder: give the file another place.")


def _check_forms(out, lite, quantize, precision, views):
    """Refuse what a form that is asked for cannot have."""
    if lite and views > 1:
        raise UserError("--views is about a SavedModel: a TFLite file answers for one square. Leave out --tflite.")
    if quantize != "none" and not lite:
        raise UserError("--quantize is about a TFLite file: name it with --tflite FILE.")
    if precision != "float32" and not out:
        raise UserError("--precision is about a SavedModel: name its place with --out saved_models/NAME/1.")


def _check_images(found, carci_run, data_dir):
    """Refuse too few images to check a form on: those of --calibration, or else the training images."""
    from bach_keras.serving.check_images import check_count, training_names

    settings = carci_run.settings
    check_count(len(found or training_names(settings["config"], settings["trained_on"], data_dir)))


def _unless_it_fails(place, write, *given) -> list[str]:
    """Write one form, or check that it can be written; return why not, as a list of at most one sentence."""
    try:
        with working():
            write(*given)
    except (UserError, WorkError) as error:
        sentence = " ".join(str(error).split())
        return [sentence if str(place) in sentence else f"{place} was not written: {sentence}"]
    return []


def _write_saved_model(members, out, overwrite, images, data_dir, of_tree):
    from bach_keras.evidence.survey import TrainingImages
    from bach_keras.provenance import Provenance
    from bach_keras.serving.export import export_tree

    precision = of_tree["precision"]
    provenance = Provenance.of_members(members)
    training = TrainingImages({member.config for member in members}, provenance, data_dir)
    path = export_tree(members, out, overwrite, () if precision == "float32" else images(), training, **of_tree)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    say(f"wrote {path} ({size / 1e6:.0f} MB, {precision}): serve it with TF Serving, or try 'predict --model {path}'")


def _write_tflite(members, file, quantize, images, overwrite, calibrated):
    from bach_keras.serving.tflite import convert as tflite

    agreement = tflite.convert(members, file, quantize, images(), overwrite, calibrated)
    say(f"wrote {file} ({file.stat().st_size / 1e6:.0f} MB, {quantize}); compared with the tree: {agreement}")


def _images(members, calibration, data_dir):
    from bach_keras.serving.check_images import folder_images, training_images

    return folder_images(calibration) if calibration else training_images(members, data_dir=data_dir)


@click.command()
@click.option("--model", type=FOLDER, required=True, help="An export.")
@click.option("--name", default="bach", show_default=True, help="The model's name in requests.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; there is no password.")
@click.option("--port", type=click.IntRange(0, 65535), default=8501, show_default=True,
              help="For REST; 0 takes a free port.")  # fmt: skip
@click.option("--grpc-port", type=click.IntRange(0, 65535), default=8500, show_default=True, help="For gRPC.")
def serve(model, name, host, port, grpc_port):
    """Answer requests as TF Serving does, over REST and gRPC: a small server for development.

    \b
    Example:
      python cli.py serve --model saved_models/demo/1
    """
    keep_packed_kernels()
    share_arenas()
    from bach_keras.serving.exported import Export
    from bach_keras.serving.remote.server import Server

    export = Export(model)
    show_warnings(export)
    Server(export, name, host, port, grpc_port).serve()


@click.command()
@member_options
@click.option("--model", type=FOLDER, required=True, help="The export of these runs.")
@click.option("--tflite", "files", type=FOLDER, metavar="FILE", multiple=True,
              help="A TFLite file of these runs; repeat it for several.")  # fmt: skip
@click.argument("paths", nargs=-1, required=True, type=FOLDER)
def parity(carci_runs, norbe_runs, invis_runs, model, files, paths):
    """Compare every exported form of a tree with the runs it came from: agreement, size, speed.

    \b
    Example:
      python cli.py parity --carci runs/c --norbe runs/n --invis runs/i --model saved_models/tree/1 slides/
    """
    from bach_keras.members import run_folder
    from bach_keras.run_folder import Run
    from bach_keras.serving.exported import Export
    from bach_keras.serving.parity import as_lines, measure, open_forms
    from datasets.images.folder import find_images

    found = find_images(paths)
    for spec in (*carci_runs, *norbe_runs, *invis_runs):
        Run.open(run_folder(spec))  # a damaged run is found before the export is read, which takes time
    export = Export(model)
    members = load_members(carci_runs, norbe_runs, invis_runs, export.views)
    show_warnings(export)
    forms = open_forms(members, export, files)
    rows, errors = measure(forms, found)
    for line in as_lines(rows):
        say(line)
    for error in errors:
        say(error, err=True)
    sys.exit(0 if all(row.holds for row in rows) and not errors else 1)
