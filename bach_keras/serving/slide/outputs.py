"""The files of a slide that is answered, written in its folder."""

from pathlib import Path

from bach_keras.serving.slide.geojson import write_geojson
from bach_keras.serving.slide.maps import write_maps
from bach_keras.serving.slide.page import write_page
from bach_keras.serving.slide.regions import Regions
from bach_keras.serving.slide.summary import digests
from bach_keras.serving.slide.table import NAME as TABLE
from bach_keras.serving.slide.table import write_table
from bach_keras.serving.slide.tiles import AnsweredSlide

GEOJSON, PAGE = "tiles.geojson.gz", "index.html"
FILES = (
    TABLE, GEOJSON, "classes.png", "classes.ome.tiff", "probabilities.png", "probabilities.ome.tiff", PAGE,
)  # fmt: skip


def write_files(folder: Path, slide: AnsweredSlide, summary: dict, regions: Regions | None = None) -> dict[str, str]:
    """Write all files of a slide but ``summary.json``, each completely or not at all, and return their SHA-256."""
    write_table(folder / TABLE, slide)
    write_geojson(folder / GEOJSON, slide)
    write_maps(folder, slide)
    write_page(folder / PAGE, slide, summary, regions)
    return digests(folder, FILES)
