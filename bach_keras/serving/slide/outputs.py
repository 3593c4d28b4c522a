"""The files of a slide that is answered, written in its folder."""

from pathlib import Path

from bach_keras.serving.slide.summary import digests
from bach_keras.serving.slide.table import NAME as TABLE
from bach_keras.serving.slide.table import write_table
from bach_keras.serving.slide.tiles import AnsweredSlide


def write_files(folder: Path, slide: AnsweredSlide, summary: dict) -> dict[str, str]:
    """Write all files of a slide but ``summary.json``, each completely or not at all, and return their SHA-256."""
    write_table(folder / TABLE, slide.tiles)
    return digests(folder, [TABLE])
