"""The files of a slide that is answered, written in its folder."""

from pathlib import Path

from bach_keras.serving.slide.summary import NAME as SUMMARY
from bach_keras.serving.slide.summary import digests
from bach_keras.serving.slide.table import NAME as TABLE
from bach_keras.serving.slide.table import write_table
from bach_keras.serving.slide.tiles import AnsweredSlide
from datasets.whole import write_json


def write_all(folder: Path, slide: AnsweredSlide, summary: dict, run: dict) -> dict:
    """Write all files of a slide, and return what its summary says, which is written last: it makes it finished.

    Args:
        run: what is of this run alone, such as how long it took; all else is the same of the same slide and settings.
    """
    write_table(folder / TABLE, slide.tiles)
    summary = summary | {"files": digests(folder, [TABLE]), "run": run}
    write_json(folder / SUMMARY, summary)
    return summary
