"""Opening a slide, by whichever reader reads its file."""

import contextlib
import os
import stat
from pathlib import Path

from datasets.errors import MissingError, UserError
from datasets.images import formats
from datasets.images.admission import NotTakenError
from datasets.images.tiff_directory import CONVERT, Directory
from datasets.open_file import open_file
from datasets.slides.limits import PYRAMID
from datasets.slides.openslide_slide import OpenSlideSlide
from datasets.slides.slide import Slide
from datasets.slides.tiff_slide import TiffSlide
from datasets.slides.vendors import DICOM, kind_of_file, kind_of_tiff


def open_slide(path: Path) -> Slide:
    """Open a slide to read windows of it; a ``UserError`` says why one cannot be.

    TIFF files of the usual kinds are read here: tiled pyramids (OME-TIFF, Aperio's SVS, what libvips writes) and single
    pictures, BigTIFF too, of 8 bits a channel, uncompressed or by PackBits, LZW, deflate or JPEG. Others are read by
    openslide, where its package is installed.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise MissingError(f"{path} {_why_not_a_file(path)}.")
        kind = _kind_for_openslide(path)
        if kind == DICOM:
            _check_beside(path)
        return OpenSlideSlide(path, kind) if kind else TiffSlide(path)
    except NotTakenError as error:
        # What is advised for an image would make a slide huge, and one of a single level.
        raise UserError(f"{path} {error}.".replace(CONVERT, f"convert it, for example by {PYRAMID}")) from None
    except OSError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None


def _kind_for_openslide(path: Path) -> str | None:
    """Name the kind of a slide that openslide is to read; None of a TIFF that is read here."""
    with open_file(path) as file:
        head = file.read(formats.HEAD)
        kind = formats.sniff(head)
        # One of more than 4 GB is no TIFF that others can follow, as its offsets have 64 bits in places of 32.
        if kind == formats.TIFF and path.suffix.lower() != ".ndpi":
            return kind_of_tiff(Directory(file))
    # A MIRAX slide's own file is a JPEG, of its label.
    other = kind_of_file(path, head)
    if other is None:
        raise NotTakenError(_other(head, kind))
    return other


def _check_beside(path: Path) -> None:
    """Refuse a DICOM slide beside a pipe: openslide opens every file of its folder, and would wait for that one."""
    with os.scandir(path.parent) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # a link that leads nowhere
                if stat.S_ISFIFO(entry.stat().st_mode):
                    raise NotTakenError(f"lies beside a pipe, {entry.name}, which openslide would wait for: move it")


def _why_not_a_file(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return "is a link to what is not there"
    if not path.exists():
        return "is not there"
    return "is a folder, not a slide" if stat.S_ISDIR(path.stat().st_mode) else "is not a file: name a slide"


def _other(head: bytes, kind: str | None) -> str:
    if not head:
        return "is empty"
    if kind:
        return (
            f"is a {kind} image, which can only be read completely: predict takes one, or make a slide of it: {PYRAMID}"
        )
    what = formats.describe(head)
    return "is not a slide that is read here" + (f" but {what}" if what else "")
