"""What will be done with each slide, and which slides are refused before anything starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bach_keras.evidence.ranges import ZOOMS
from bach_keras.preprocess import SYMMETRIES
from bach_keras.serving.slide.field import Field, field_of
from bach_keras.serving.slide.grid import grid, step_of
from bach_keras.serving.slide.identity import data_folder, digest_of
from bach_keras.serving.slide.journal import NAME as JOURNAL
from bach_keras.serving.slide.packages import check_packages
from bach_keras.serving.slide.regions import Regions, read_regions
from bach_keras.serving.slide.scales import NOTHING_GIVEN, Scales
from bach_keras.serving.slide.summary import NAME as SUMMARY
from bach_keras.serving.slide.summary import SCHEMA, read_summary
from bach_keras.serving.slide.tissue import LEAST_SHARE
from bach_keras.tree import NODES
from datasets.digest import sha256_of
from datasets.errors import UserError
from datasets.images.admission import NotTakenError
from datasets.images.scale import Scale
from datasets.slides.open import open_slide


@dataclass(frozen=True)
class Asked:
    """What the user asked for, of every slide alike."""

    scales: Scales = NOTHING_GIVEN
    field: float | None = None  # micrometres that a tile shows, where the model does not know it
    overlap: float = 0.0
    tissue: float = LEAST_SHARE  # the least share of a tile that is answered
    routing: str = "routed"
    is_quick: bool = False
    regions: Path | None = None  # a file of outlines: only tiles that touch one are answered
    overwrites: bool = False


@dataclass(frozen=True)
class Plan:
    """What will be done with one slide."""

    path: Path
    folder: Path  # for its files
    scale: Scale
    field: Field
    side: int  # of a tile, in full-resolution pixels
    step: int  # from a tile to the next
    asked: Asked
    regions: Regions | None
    settings: dict  # all that the answers depend on
    series: str | None = None  # as the slide's


def check(export, paths: Sequence[Path], asked: Asked) -> Field:
    """Refuse what no slide can be answered with, and return the field of view of the tiles."""
    check_packages(has_regions=asked.regions is not None)
    stems = {}
    for path in paths:
        if (other := stems.setdefault(path.stem, path)) is not path:
            raise UserError(
                f"{other} and {path} would both be written to the folder {path.stem}: give them to two commands, each "
                "with an --out of its own."
            )
    if export.nodes != tuple(NODES):
        raise UserError(
            f"The model is {', '.join(export.nodes)} by itself, and slides are mapped by all four classes: name the "
            "export of a tree."
        )
    if export.views > SYMMETRIES:
        raise UserError(
            f"The model averages {export.views} views of a wide image, and a tile is one square: export its runs with "
            f"--views 1 or --views {SYMMETRIES}."
        )
    if not 0 <= asked.tissue <= 1:  # NaN is in no range
        raise UserError(f"--tissue {asked.tissue:g}: give the least share of a tile that has to be tissue, 0 to 1.")
    if asked.regions and len(paths) > 1:
        raise UserError("--regions are outlines of one slide: give one slide with them.")
    step_of(1, asked.overlap)  # refuses an overlap that cannot be
    return field_of(export, asked.field)


def plan(export, path: Path, out: Path, field: Field, asked: Asked) -> Plan:
    """Look at a slide and at what there is of it already; a ``UserError`` names the slide that is refused."""
    if path.stem in (".", ".."):  # of "..svs" and "...svs": its folder would be another's
        raise UserError(f"{path} has only dots before its suffix, so no folder can be named after it: rename it.")
    try:
        with open_slide(path) as slide:
            scale = asked.scales.of(slide)
            side = round(field.um / scale.value)
            step = step_of(side, asked.overlap)
            _check_size(slide.levels[0], side, export.side, field, scale)
            grid(slide.levels[0].width, slide.levels[0].height, side, step)  # refuses too many tiles
            regions = asked.regions and read_regions(asked.regions, slide.levels[0].width, slide.levels[0].height)
            series = slide.series
            settings = {
                "schema": SCHEMA,
                "slide": digest_of(slide),
                "model": export.digest,
                "um_per_pixel": [scale.value, scale.source],
                "field": field.um,
                "overlap": asked.overlap,
                "tissue": asked.tissue,
                "routing": asked.routing,
                "quick": asked.is_quick,
                "regions": asked.regions and sha256_of(asked.regions),
            }
    except NotTakenError as error:
        raise UserError(f"{path} {error}.") from error
    folder = out / path.stem
    if (pixels := data_folder(path)) and folder.resolve() == pixels.resolve():
        raise UserError(f"{path} keeps its pixels in {folder}: choose another --out.")
    _check_folder(folder, settings, asked.overwrites)
    return Plan(path, folder, scale, field, side, step, asked, regions, settings, series)


def _check_size(level, side, seen, field, scale) -> None:
    if side * ZOOMS[1] < seen:
        raise NotTakenError(
            f"has {scale.value:g} micrometres a pixel ({scale.source}), but the model sees {field.um:g} micrometres on "
            f"{seen} pixels, {field.um / seen:.3g} each: the slide is too coarse, or its scale is wrong: give "
            "--um-per-pixel"
        )
    if min(level.width, level.height) < side:
        across, down = (length * scale.value for length in (level.width, level.height))
        raise NotTakenError(
            f"shows {across:.0f} x {down:.0f} micrometres at {scale.value:g} a pixel ({scale.source}), less than the "
            f"{field.um:g} that a tile shows: ask `predict` about it, or give the right scale with --um-per-pixel"
        )


def _check_folder(folder: Path, settings: dict, overwrites: bool) -> None:
    """Refuse a folder that holds something else, unless it may be written over."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder: choose another --out.")
    if overwrites or not folder.exists():
        return
    if summary := read_summary(folder):
        if others := different(summary["settings"], settings):
            raise UserError(
                f"{folder} holds the slide answered otherwise ({', '.join(others)}): choose another --out, or replace "
                "it with --overwrite."
            )
    elif not (folder / JOURNAL).exists() and any(not each.name.startswith(".") for each in folder.iterdir()):
        raise UserError(
            f"{folder} holds files, but not {SUMMARY} of a slide: choose another --out, or replace them with "
            "--overwrite."
        )


def different(before: dict, now: dict) -> list[str]:
    """Return the names of the settings that differ."""
    return [name.replace("_", " ") for name in now if before.get(name) != now[name]]
