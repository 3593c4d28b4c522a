"""How much tissue a model saw of each image in its training: what a tile of a slide has to show."""

import math
from dataclasses import dataclass

from bach_keras.evidence.ranges import ZOOMS
from datasets.catalogue import CONFIGS
from datasets.config_names import named_parts
from datasets.errors import UserError
from datasets.own.names import is_own

# Micrometres that a tile may be wide: some cells, or the whole of a small piece of tissue.
SMALLEST, LARGEST = 20.0, 20_000.0


@dataclass(frozen=True)
class Field:
    """The field of view of a tile, a square."""

    um: float  # its side in micrometres
    source: str


def field_of(export, given: float | None = None) -> Field:
    """Return the field of view that a model was trained on: the central square of its training images.

    A UserError is raised of a model whose card does not tell it, unless it is ``given`` in micrometres.
    """
    if given is not None:
        if not SMALLEST <= given <= LARGEST:  # NaN is in no range
            raise UserError(f"--field {given:g}: give the micrometres that a tile shows, {SMALLEST:g} to {LARGEST:g}.")
        return Field(given, "given by --field")
    if known := _known(export):
        return known
    raise UserError(
        f"The model was trained on {', '.join(export.configs)}, whose images do not say how large their pixels are, so "
        "how much tissue a tile has to show is unknown: give it in micrometres with --field."
    )


def far_from(export, field: Field) -> str:
    """Return a sentence where a field is another than the model was trained on, or ""."""
    known = _known(export)
    if known is None or ZOOMS[0] <= field.um / known.um <= ZOOMS[1]:
        return ""
    return (
        f"WARNING: tiles show {field.um:g} micrometres ({field.source}), but the model was trained on fields of "
        f"{known.um:g}: it was never measured on such tiles."
    )


def _known(export) -> Field | None:
    parts = {part for config in export.configs for part in named_parts(config)}
    # Images of a user's own are of any size and scale, and only the ranges measured them.
    if any(map(is_own, parts)):
        return _of_ranges(export.ranges) or _of_collections(parts)
    return _of_collections(parts) or _of_ranges(export.ranges)


def _of_collections(parts) -> Field | None:
    collections = [each for part in sorted(parts) for each in CONFIGS.get(part, ()) if each.um_per_pixel]
    if not collections:
        return None
    widest = max(collections, key=lambda each: each.um_per_pixel * min(each.size))
    side = min(widest.size)
    return Field(
        round(widest.um_per_pixel * side, 3),
        f"training images of {widest.name}: {side} pixels of {widest.um_per_pixel:g} micrometres",
    )


def _of_ranges(ranges) -> Field | None:
    """Return the middle of the training images' fields, which a card's range is wider than."""
    if ranges is None or not ranges.field:
        return None
    low, high = (end / zoom for end, zoom in zip(ranges.field, ZOOMS, strict=True))
    return Field(round(math.sqrt(low * high), 3), "the model card's range of its training images")
