"""The tiles of a slide as GeoJSON that QuPath opens.

QuPath reads a FeatureCollection (its PathObjectTypeAdapter and PathClassTypeAdapter): the kind of object is
``properties.objectType``, a classification needs a name and a color, and measurements are numbers only. An id is used
if it is a UUID. Coordinates are full-resolution pixels from the top left corner.
"""

import contextlib
import gzip
import json
import math
import uuid
from collections.abc import Iterator
from pathlib import Path

from bach_keras.serving.slide.colours import COLOURS
from bach_keras.serving.slide.tiles import AnsweredSlide, AnsweredTile, Tile
from datasets.escape import for_xml
from datasets.whole import whole

# Digits after the point, of a probability or a share.
_DIGITS = 6


def write_geojson(path: Path, slide: AnsweredSlide) -> int:
    """Write the tiles that were answered, one line each, compressed if the name ends in .gz; return how many.

    The lines are written one by one, and the same tiles give the same bytes.
    """
    failed = sum(each.failed for each in slide.tiles)
    count = len(slide.tiles) - failed
    # Members beside GeoJSON's own are allowed, and QuPath passes over them.
    about = {
        "name": for_xml(slide.name),
        "width": slide.width,
        "height": slide.height,
        "um_per_pixel": slide.scale.value,
        "um_per_pixel_source": for_xml(slide.scale.source),
        "routing": "routed" if slide.is_routed else "soft",
        "tiles": count,
        "tiles_with_errors_left_out": failed,
    }
    with whole(path) as partial, _opened(partial) as file:
        file.write(f'{{"type": "FeatureCollection", "slide": {json.dumps(about)}, "features": ['.encode())
        between = b"\n"
        for feature in _features(slide):
            file.write(between + json.dumps(feature, allow_nan=False).encode())
            between = b",\n"
        file.write(b"\n]}\n")
    return count


@contextlib.contextmanager
def _opened(path: Path):
    with path.open("wb") as file:
        if path.suffix != ".gz":
            yield file
            return
        # Without a name and a time in its head, the same tiles give the same bytes.
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as packed:
            yield packed


def _features(slide: AnsweredSlide) -> Iterator[dict]:
    names = uuid.uuid5(uuid.NAMESPACE_URL, for_xml(slide.name))
    for each in slide.tiles:
        if each.failed:
            continue
        tile, label = each.tile, each.row["label"]
        yield {
            "type": "Feature",
            # QuPath notices by it that a file is imported twice.
            "id": str(uuid.uuid5(names, f"{tile.minx},{tile.miny},{tile.width},{tile.height}")),
            "geometry": {"type": "Polygon", "coordinates": [_ring(tile, slide)]},
            "properties": {
                "objectType": "tile",
                "classification": {"name": label, "color": list(COLOURS[label])},
                "measurements": _measurements(each),
            },
        }


def _ring(tile: Tile, slide: AnsweredSlide) -> list[list[int]]:
    """Return the corners of what of a tile lies in the slide, from the top left one and back to it."""
    left, top = max(0, tile.minx), max(0, tile.miny)
    right, bottom = min(slide.width, tile.minx + tile.width), min(slide.height, tile.miny + tile.height)
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def _measurements(each: AnsweredTile) -> dict[str, float]:
    """Return the numbers of a tile; what was not measured is left out, as QuPath takes numbers alone."""
    row = each.row
    found = {f"prob_{name}": share for name, share in row["probabilities"].items()}
    for node, pair in row["nodes"].items():
        found |= {f"{node}_{name}": share for name, share in (pair or {}).items()}
    found |= {"tissue": each.tile.tissue, "spread": row.get("spread"), "distance": row.get("distance")}
    found |= {name: int(row[name]) for name in ("unsure", "quick") if row.get(name) is not None}
    return {name: round(value, _DIGITS) for name, value in found.items() if value is not None and math.isfinite(value)}
