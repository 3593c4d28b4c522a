"""A model asked for a slide's tiles: batch by batch, while the next tiles are read."""

from contextlib import closing
from itertools import islice

from bach_keras.serving.predict import BATCH, answer_prepared
from bach_keras.serving.slide.journal import Journal
from bach_keras.serving.slide.reading import read_tile
from datasets.ahead import ahead
from datasets.errors import UserError
from datasets.images.ahead import THREADS
from datasets.progress import bar
from datasets.slides.slide import Slide


class Asker:
    """Asks a model about squares of a slide, and keeps each batch of answers in a journal.

    Batches are cut alike in every run, so that answers are the same to the bit whether work was interrupted or not.
    """

    def __init__(self, export, slide: Slide, journal: Journal, routing: str):
        self._export, self._slide, self._journal, self._routing = export, slide, journal, routing
        self.resumed = self.asked = 0

    def rows(self, phase: str, corners: list[tuple[int, int]], side: int) -> list[dict]:
        """Return a row for each square of so many pixels a side, as ``answer_batch`` does, or ``error``."""
        rows = self._journal.rows(phase)[: len(corners)]
        self.resumed += len(rows)

        def seen(corner):
            try:
                return self._export.prepared(read_tile(self._slide, corner, side, self._export.side))
            except UserError as error:
                return UserError(str(error))  # without the frames of its traceback, which hold pixels

        left = corners[len(rows) :]
        # The next batch is read while the network works on one.
        with (
            bar(what=f"{self._slide.path.name}: {phase}", total=len(corners), unit="tile") as progress,
            closing(ahead(seen, left, THREADS, 2 * BATCH)) as tiles,
        ):
            progress.update(len(rows))
            while batch := list(islice(tiles, BATCH)):
                answered = answer_prepared(self._export, batch, self._routing)
                self._journal.add(phase, answered)
                rows += answered
                self.asked += len(answered)
                progress.update(len(answered))
        return rows
