"""What the page knows of the images that a visitor dropped: the rows of ``predict``, and what is drawn of each."""

import base64
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bach_keras.evidence import overlay
from bach_keras.serving.explain import Maps
from bach_keras.serving.judgement import Judgement, Symmetries
from bach_keras.serving.metadata import ColourProfile, PixelSize
from bach_keras.serving.neighbours import Neighbours
from bach_keras.serving.predict import BATCH, Extra, predict_files
from datasets.errors import UserError, WorkError

# At most so many images are taken at once.
MOST = 300
# So many training images are shown beside an image.
NEIGHBOURS = 4
# Of the longer side of the small picture in the table, in pixels.
THUMBNAIL = 64


@dataclass(frozen=True)
class Shown:
    """What is drawn of an image, kept small, as a visitor's images are held in memory.

    ``maps`` are float32 [h, w] of each node on the image's path; there are none where the model does not give any.
    """

    picture: bytes
    thumbnail: bytes
    height: int
    width: int
    maps: dict[str, np.ndarray]

    def layer(self, node: str, image_size: int) -> tuple[bytes, tuple[float, ...]]:
        """Return a node's map as a PNG file, and where it lies over the picture: see ``overlay.layer``."""
        pixels = np.asarray(Image.open(io.BytesIO(self.picture)))
        picture = overlay.Picture(pixels, self.height, self.width)
        colours, place = overlay.layer(self.maps[node], picture, image_size, step=3)
        return _file(colours, format="PNG", compress_level=1), place


@dataclass(frozen=True)
class Answer:
    """An image by the name that the visitor gave it, its row, and what is drawn of it, which an error has not."""

    name: str
    row: dict
    shown: Shown | None = None


class Visit:
    """The images of one visitor: those that were dropped last, and which of them is shown."""

    def __init__(self):
        self.answers: list[Answer] = []
        self.total = self.chosen = self._number = 0

    def begin(self, total: int) -> int:
        """Forget the images before; return the number by which ``is_current`` knows this drop from a later one."""
        self.answers, self.total, self.chosen = [], total, 0
        self._number += 1
        return self._number

    def is_current(self, number: int) -> bool:
        return self._number == number


class Pictures(Maps):
    """Gives a row ``shown``: the image as it is drawn, and its maps."""

    def __init__(self, explains: bool):
        self.explains = explains

    def look(self, path, pixels):
        picture = super().look(path, pixels)
        # TIFF, which no browser shows, comes as JPEG too, without a loss that could be seen.
        whole = _file(picture.pixels, format="JPEG", quality=95, subsampling=0)
        small = Image.fromarray(picture.pixels)
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        return Shown(whole, _file(np.asarray(small), format="JPEG", quality=80), picture.height, picture.width, {})

    def ask(self, export, prepared):
        return super().ask(export, prepared) if self.explains else {}

    def fields(self, path, row, looked, asked):
        return super().fields(path, row, looked, asked) if asked else {"shown": looked}

    def kept(self, path, row, picture, maps):
        return {"shown": Shown(picture.picture, picture.thumbnail, picture.height, picture.width, maps)}


class Asking(Extra):
    """Asks a server for its answers, and once it is lost no more in a drop: each try takes all of its patience."""

    def __init__(self):
        self.lost = ""

    def ask(self, export, prepared):
        if self.lost:
            raise OSError(f"Not asked, as the server was lost before: {self.lost}")
        try:
            return {"answers": export.classify(prepared, "soft")}
        except OSError as error:
            self.lost = str(error)
            raise


class Resembled(Neighbours):
    """Gives a row ``neighbours``, each with its picture as an address that holds it."""

    def thumbnail(self, known):
        return data_url(known.thumbnail, "image/jpeg") if known.thumbnail else None


class Answers:
    """A model that answers the page: an ``Export``, or a ``Remote``, which says less.

    Visitors take turns by the batch, so that none waits for all the images of another. With ``symmetries`` a label that
    changes with the turns and reflections of an image is a warning too, for eight times the work.
    """

    def __init__(self, export, symmetries: bool = False):
        self.export = export
        self.explains = getattr(export, "explains", False)
        sizes = PixelSize()
        self._asking = Asking()
        self._extras = [Pictures(self.explains), sizes, ColourProfile()]
        if symmetries:
            self._extras.append(Symmetries(export))
        elif not self.explains:
            self._extras.append(self._asking)
        self._extras.append(Judgement(export.ranges, sizes.of))
        self.no_neighbours = ""  # why none are shown, where that is not usual
        if "index" in (export.card or {}) and hasattr(export, "features"):
            try:
                self._extras.append(Resembled(export, min(NEIGHBOURS, len(export.index.images))))
            except UserError as error:  # the file may be taken away, as it names patients
                self.no_neighbours = str(error)
        self._turn = threading.Lock()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.export.outputs.classes

    def warm_up(self) -> None:
        """Answer for a grey image, so that the first visitor does not wait for what a model does only once."""
        grey = self.export.prepared(np.full((64, 64, 3), 128, np.uint8))
        asked = [extra.ask(self.export, [grey]) for extra in self._extras]
        if not any("answers" in each for each in asked):
            self.export.classify([grey])

    def answer(self, files: list[tuple[Path, str]]) -> Iterator[list[Answer]]:
        """Yield answers for files, each with its name, batch by batch."""
        self._asking.lost = ""  # it may be back
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            paths = [path for path, _ in batch]
            with self._turn:
                try:
                    rows = list(predict_files(self.export, paths, extras=self._extras))
                except WorkError as error:  # the model fails, or memory is used up; the page lives on
                    rows = [{"path": str(path), "error": str(error)} for path in paths]
            yield [_answer(path, name, row) for (path, name), row in zip(batch, rows, strict=True)]


def _answer(path, name, row) -> Answer:
    shown = row.pop("shown", None)
    if "error" in row:  # it names the file by the place to which the visitor's own was copied
        row["error"] = row["error"].replace(str(path), name)
    return Answer(name, row | {"path": name}, shown)


def data_url(content: bytes, kind: str) -> str:
    """Return a file as an address that holds it, so that nobody else can ask for it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _file(pixels: np.ndarray, **how) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **how)
    return buffer.getvalue()
