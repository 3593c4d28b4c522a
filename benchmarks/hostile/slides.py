"""Whole slides that are damaged or lie, and files that are not outlines of regions."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.hostile import mutations
from benchmarks.hostile.folders import places_of, with_value
from benchmarks.hostile.pictures import good
from benchmarks.hostile.texts import TEXTS, as_name
from tests.datasets.images.tiff_files import DESCRIPTION, tiff
from tests.datasets.slides import slide_files

_NUMBERS = (0, -1, 1e308, -1e308, 1e999, 10**400, float("nan"), True, None, [], {}, "0", 2**63)


def damaged(folder: Path, count: int, draw: random.Random) -> Iterator[str]:
    """Yield pyramids, an Aperio slide, a DICOM and a MIRAX one: damaged, and with texts inside and as names."""
    whole = folder / ".whole.tif"
    made = {}
    for name, write in (
        ("pyramid.tif", slide_files.write_pyramid), ("aperio.svs", slide_files.write_aperio),
        ("jpeg.tif", lambda path: slide_files.write_pyramid(path, compression="jpeg")),
    ):  # fmt: skip
        write(whole)
        made[name] = whole.read_bytes()
    whole.unlink()
    made["slide.dcm"] = slide_files.dicom(slide_files.IMAGE)
    for name, data in made.items():
        for how, changed in mutations.damaged(data, count, draw):
            (folder / f"{how} {name}").write_bytes(changed)
            yield f"{how} {name}"
    slide_files.write_mirax(folder / "mirax.mrxs", slide_files.IMAGE)
    yield "mirax.mrxs"
    for number, text in enumerate(TEXTS):
        data = text.encode("utf-8", "replace")[:5000]
        described = b"Aperio Image Library\r\n" + data + b"|MPP = " + data + b"|AppMag = 20\0"
        (folder / f"says {number}.svs").write_bytes(tiff({DESCRIPTION: described}, pixels=slide_files.IMAGE))
        yield f"says {number}.svs"
        if number % 3 == 0 and (name := as_name(text, ".png")):
            (folder / name).write_bytes(good()["rgb.png"])
            yield name


def regions(folder: Path, count: int, draw: random.Random) -> Iterator[str]:
    """Yield files of outlined regions with other values, damage, and nests without end."""
    ring = [[0, 0], [300, 0], [300, 200], [0, 200], [0, 0]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    classed = {"objectType": "annotation", "name": "a", "classification": {"name": "benign", "color": [1, 2, 3]}}
    one = {"type": "Feature", "geometry": shape, "properties": classed}
    whole = {"type": "FeatureCollection", "features": [one]}
    places = list(places_of(whole))
    made = {f"{number} value": json.dumps(with_value(whole, draw.choice(places), draw.choice((*TEXTS, *_NUMBERS))))
            for number in range(2 * count)}  # fmt: skip
    at = ("features", 0, "geometry", "coordinates")
    spiral = [[x, (x * 7919) % 100_003] for x in range(20_000)]
    made |= {
        "nested": "[" * 10**6, "many": json.dumps({**whole, "features": [one] * 20_000}),
        "a ring of many": json.dumps(with_value(whole, at, [[*spiral, spiral[0]]])),
        "a geometry of geometries": json.dumps({"type": "GeometryCollection", "geometries": [one["geometry"]] * 1000}),
    }  # fmt: skip
    data = {name: text.encode() for name, text in made.items()}
    data |= dict(mutations.damaged(json.dumps(whole).encode(), count, draw))
    for name, changed in data.items():
        (folder / f"regions {name}.geojson").write_bytes(changed)
        yield f"regions {name}.geojson"
