"""Outlined regions as QuPath and others write them in GeoJSON.

What QuPath reads is read: a FeatureCollection, a list, one feature or one geometry, compressed or not, with the
children of an object inside it, and the forms of older versions.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datasets.errors import MissingError, UserError

# A vertex is about 20 bytes: twelve million of them.
MOST_BYTES = 256 * 2**20
# No slide has as many pixels on a side; beyond, numbers lose the precision of a pixel.
_FARTHEST = 1e8

_EXPORT = "In QuPath: File > Export objects as GeoJSON."
# How other files begin -> what they are.
_OTHERS = {b"PK\x03\x04": "a ZIP archive: unpack it first", b"\xac\xed": "a QuPath data file, not GeoJSON. " + _EXPORT}

# What is outlined: without a kind, an object is an annotation, as QuPath has it. Version 0.2 wrote the kind as an id.
_ANNOTATIONS = {"annotation", "PathAnnotationObject", "tmaCore", "tma_core", "TMACoreObject"}
_MEASURED = {
    "tile", "cell", "detection", "root", "PathTileObject", "PathCellObject", "PathDetectionObject", "PathRootObject",
}  # fmt: skip
# QuPath's classes whose name ends so are not to be looked at.
_IGNORED = "ignore*"


@dataclass
class Outline:
    """One outlined region of a file."""

    name: str
    said: str | None  # its class, as the file has it
    geometry: object  # of shapely: a valid Polygon or MultiPolygon, in full-resolution pixels


@dataclass
class Outlines:
    """All that are in a file, and how much else there is, by what it is."""

    outlines: list[Outline] = field(default_factory=list)
    passed_over: Counter = field(default_factory=Counter)
    mended: int = 0  # outlines that cross themselves


def read_outlines(path: Path) -> Outlines:
    """Read a file of regions; a UserError says what is wrong with it, and where."""
    found = Outlines()
    for number, feature in enumerate(_features(_parsed(path), path), 1):
        _add(found, feature, number, path)
    if not found.outlines:
        others = ", ".join(f"{count} {what}" for what, count in found.passed_over.items())
        raise UserError(f"{path} has no outlined region{f', only {others}' if others else ''}. {_EXPORT}")
    return found


def _parsed(path: Path):
    try:
        text = _content(path).decode("utf-8-sig")
        return json.loads(text, object_hook=_geometry_or_object)
    except (RecursionError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not GeoJSON: {_reason(error)}. {_EXPORT}") from None


def _reason(error) -> str:
    if isinstance(error, RecursionError):
        return "its lists are nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    return str(error).rstrip(".")


def _content(path: Path) -> bytes:
    """Return the bytes of a file, unpacked; of a file of any size, no more than are allowed are read."""
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UserError(f"{path} is not a file: --regions takes a GeoJSON file of outlined regions.")
    try:
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(0)
            for start, what in _OTHERS.items():
                if head.startswith(start):
                    raise UserError(f"{path} is {what}".rstrip(".") + ".")
            if head.startswith(b"\x1f\x8b"):
                with gzip.open(file) as packed:
                    content = packed.read(MOST_BYTES + 1)
            else:
                content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise MissingError(f"{path} does not exist: --regions takes a GeoJSON file of outlined regions.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise UserError(f"{path} is a damaged or incomplete gzip file: export it again.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(content) > MOST_BYTES:
        most = f"{MOST_BYTES // 2**20} MiB"
        raise UserError(f"{path} holds more than {most}: export the annotations alone, or simplify their outlines.")
    return content


@dataclass
class _Other:
    """A geometry without an area, such as a point."""

    kind: str


@dataclass
class _Faulty:
    """A geometry that cannot be one."""

    reason: str


def _geometry_or_object(found: dict):
    """Return a geometry in place of its JSON, so that millions of vertices are not kept as lists of Python."""
    import shapely

    kind = found.get("type")
    try:
        if kind in ("Polygon", "MultiPolygon"):
            coordinates = found["coordinates"]
            return _polygons([coordinates] if kind == "Polygon" else coordinates)
        if kind == "GeometryCollection":
            return _collected(found["geometries"])
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return _Faulty(f"has a {kind} whose coordinates are not lists of [x, y]")
    except shapely.errors.GEOSException as error:
        return _Faulty(f"has a {kind} that cannot be read: {error}")
    is_other = kind in ("Point", "MultiPoint", "LineString", "MultiLineString") and "coordinates" in found
    return _Other(kind) if is_other else found


def _polygons(each):
    import shapely

    made = [made for made in map(_polygon, each or []) if made is not None]
    if faults := [one for one in made if isinstance(one, _Faulty)]:
        return faults[0]
    return made[0] if len(made) == 1 else shapely.MultiPolygon(made)


def _polygon(rings):
    """Return a polygon, or None of one without an area; what is not closed is closed."""
    import shapely

    arrays = [np.array([point[:2] for point in ring], float) for ring in rings]
    for array in arrays:
        if not np.isfinite(array).all():
            return _Faulty("has a coordinate that is NaN or infinite")
        if array.size and np.abs(array).max() > _FARTHEST:
            return _Faulty(f"has a coordinate beyond {_FARTHEST:.0e}, where no slide has a pixel")
    if not arrays or len(arrays[0]) < 3:
        return None
    return shapely.Polygon(arrays[0], [hole for hole in arrays[1:] if len(hole) >= 3])


def _collected(geometries):
    import shapely

    if faults := [one for one in geometries if isinstance(one, _Faulty)]:
        return faults[0]
    return shapely.GeometryCollection([one for one in geometries if isinstance(one, shapely.Geometry)])


def _features(root, path) -> Iterator:
    """Yield the features and geometries of a file, each before the children that are inside it."""
    if isinstance(root, dict) and isinstance(root.get("features"), list):
        root = root["features"]
    elif isinstance(root, dict) and root.get("type") != "Feature":
        raise UserError(f"{path} is JSON, but not GeoJSON: it has no features. {_EXPORT}")
    waiting = list(reversed(root if isinstance(root, list) else [root]))
    while waiting:
        feature = waiting.pop()
        yield feature
        properties = feature.get("properties") if isinstance(feature, dict) else None
        if isinstance(properties, dict):
            children = properties.get("childObjects", properties.get("children"))
            waiting.extend(reversed(children if isinstance(children, list) else []))


def _add(found: Outlines, feature, number: int, path) -> None:
    import shapely

    is_geometry = isinstance(feature, shapely.Geometry | _Other | _Faulty)
    if not is_geometry and (not isinstance(feature, dict) or "geometry" not in feature):
        raise UserError(f"{path}: object {number} is not a GeoJSON feature. {_EXPORT}")
    geometry = feature if is_geometry else feature["geometry"]
    properties = {} if is_geometry else feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    kind = None if is_geometry else _kind(feature, properties)
    if isinstance(kind, str) and kind in _MEASURED:
        found.passed_over[kind] += 1
        return
    name = properties.get("name")
    name = name if isinstance(name, str) and name.strip() else f"region {number}"
    if isinstance(geometry, _Faulty):
        raise UserError(f'{path}: "{name}" {geometry.reason}.')
    said = _class(properties.get("classification"))
    if said and said.casefold() == _IGNORED:
        found.passed_over["of class Ignore*"] += 1
        return
    if isinstance(geometry, _Other):
        found.passed_over[geometry.kind] += 1
        return
    if geometry is not None and not isinstance(geometry, shapely.Geometry):
        raise UserError(f'{path}: "{name}" has a geometry that GeoJSON does not know.')
    is_right = geometry is None or shapely.is_valid(geometry)
    area = with_area(geometry if is_right else shapely.make_valid(geometry)) if geometry is not None else None
    if area is None:
        found.passed_over["without an area"] += 1
        return
    found.mended += not is_right
    found.outlines.append(Outline(name, said, area))


def _kind(feature: dict, properties: dict):
    """Return what kind of object QuPath takes a feature for."""
    if feature.get("id") in _ANNOTATIONS | _MEASURED if isinstance(feature.get("id"), str) else False:
        return feature["id"]
    # tiatoolbox writes objectType outside of properties.
    names = ("objectType", "object_type", "type")
    return next((properties[name] for name in names if name in properties), feature.get("objectType"))


def with_area(geometry):
    """Return what of a valid geometry of shapely has an area, or None."""
    import shapely

    parts = [part for part in _parts(geometry) if part.geom_type == "Polygon" and part.area > 0]
    if not parts:
        return None
    if len(parts) == 1:
        return parts[0]
    # The parts of a MultiPolygon do not overlap; those of a collection may.
    return shapely.MultiPolygon(parts) if geometry.geom_type == "MultiPolygon" else shapely.union_all(parts)


def _parts(geometry) -> Iterator:
    for part in getattr(geometry, "geoms", [geometry]):
        if hasattr(part, "geoms"):
            yield from _parts(part)
        else:
            yield part


def _class(said) -> str | None:
    """Return the name of a classification, which is an object in most versions, with a list of names if derived."""
    if isinstance(said, dict):
        names = said.get("names")
        said = ": ".join(map(str, names)) if isinstance(names, list) else said.get("name")
    return said.strip() or None if isinstance(said, str) else None
