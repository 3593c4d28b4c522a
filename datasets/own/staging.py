"""Images that were encoded already, kept on the disk until their set is complete, so that a killed preparation resumes.

Two files that only grow: ``images``, the PNGs one after the other, and ``journal``, a line for each with where it is
and what it was made from. A line is written after its image, so what a line names is complete.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from datasets.ahead import ahead, image_threads
from datasets.bach_bisque.sources import pixel_digest
from datasets.catalogue import VERSION
from datasets.digest import sha256_of
from datasets.errors import UserError
from datasets.images import png
from datasets.images.read import read_rgb
from datasets.images.scale import um_per_pixel
from datasets.own.checks import has_few_colours
from datasets.own.listed import Listed


@dataclass(frozen=True)
class Staged:
    """An image that was encoded."""

    name: str
    status: tuple[int, ...]  # of its file: bytes, times of the last change of content and of status, number
    file_sha256: str
    sha256: str  # of its size and pixels
    has_few_colours: bool
    um_per_pixel: float | None  # as its file says it
    start: int  # where its PNG begins in ``images``
    bytes: int
    png_sha256: str


class Staging:
    """What a folder keeps of a preparation."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._known = {staged.name: staged for staged in self._read_journal()}
        self._images = (folder / "images").open("a+b")
        self._journal = (folder / "journal").open("a", encoding="utf-8")
        if not self._journal.tell():
            self._write_line({"version": VERSION})

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for file in (self._images, self._journal):
            with contextlib.suppress(OSError):  # of a full disk, which writing has met already
                file.close()

    def __len__(self):
        return len(self._known)

    @property
    def size(self) -> int:
        """How many bytes the images that are kept take on the disk."""
        return self._images.seek(0, os.SEEK_END)

    def discard(self) -> None:
        """Remove all that is kept, once it is no longer needed."""
        self.__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, staged: Staged, encoded: bytes) -> Staged:
        """Keep an image; only one thread may add any."""
        start = self._images.seek(0, os.SEEK_END)
        self._images.write(encoded)
        self._images.flush()
        staged = dataclasses.replace(staged, start=start)
        self._write_line(dataclasses.asdict(staged))
        self._known[staged.name] = staged
        return staged

    def find(self, image: Listed) -> tuple[Staged, bytes] | None:
        """Return an image that is kept, if its file is still the one that it was made from; any thread may ask."""
        staged = self._known.get(image.name)
        if staged is None:
            return None
        status = status_of(image.path)
        # A copy of the same bytes, or a touched file, has another status.
        if status != staged.status and (status[0] != staged.status[0] or sha256_of(image.path) != staged.file_sha256):
            return None
        with (self.folder / "images").open("rb") as file:  # of its own, as several threads ask
            file.seek(staged.start)
            encoded = file.read(staged.bytes)
        if hashlib.sha256(encoded).hexdigest() != staged.png_sha256:  # the machine itself went down
            return None
        return dataclasses.replace(staged, status=status), encoded

    def _read_journal(self) -> Iterator[Staged]:
        """Yield what the journal names; a line that is not complete, and all of another version, are forgotten."""
        journal, images = self.folder / "journal", self.folder / "images"
        lines = journal.read_bytes().splitlines(keepends=True) if journal.is_file() else []
        complete = [line for line in lines if line.endswith(b"\n")]
        try:
            head, *rows = map(json.loads, complete)
            found = [Staged(**row | {"status": tuple(row["status"])}) for row in rows]
            is_ours = head == {"version": VERSION} and images.is_file()
        except (ValueError, TypeError, KeyError):
            is_ours = False
        if not is_ours:
            journal.unlink(missing_ok=True)
            images.unlink(missing_ok=True)
            return
        if len(complete) < len(lines):
            os.truncate(journal, sum(map(len, complete)))
        yield from found

    def _write_line(self, value: dict) -> None:
        self._journal.write(json.dumps(value) + "\n")
        self._journal.flush()


def encoded_images(images: list[Listed], staging: Staging) -> Iterator[tuple[Listed, Staged | UserError, bytes]]:
    """Yield every image with its PNG, or with the error that refuses it; what is kept is not made again."""

    def make(image: Listed):
        try:
            return image, *(staging.find(image) or _encode(image))
        except UserError as error:
            return image, UserError(str(error)), b""  # the one that was raised keeps the file's bytes

    for image, staged, encoded in ahead(make, images, image_threads()):
        is_new = isinstance(staged, Staged) and staged.start < 0
        yield image, staging.add(staged, encoded) if is_new else staged, encoded


def status_of(path: Path) -> tuple[int, ...]:
    """Return what changes where a file does, without reading it."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _encode(image: Listed) -> tuple[Staged, bytes]:
    before = status_of(image.path)
    pixels, digest, scale = read_rgb(image.path), sha256_of(image.path), um_per_pixel(image.path)
    if status_of(image.path) != before:
        raise UserError(f"{image.path} changed while it was read: prepare the set again when nothing writes to it.")
    encoded = png.encode(pixels)
    picture = Image.fromarray(pixels)
    return Staged(
        name=image.name,
        status=before,
        file_sha256=digest,
        sha256=pixel_digest(picture),
        has_few_colours=has_few_colours(picture),
        um_per_pixel=scale.value if scale else None,
        start=-1,
        bytes=len(encoded),
        png_sha256=hashlib.sha256(encoded).hexdigest(),
    ), encoded
