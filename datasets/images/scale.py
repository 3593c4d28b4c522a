"""How large a pixel is, as an image's file says it.

A file may say it in several places, and programs fill them where nobody measured anything: 72 dots an inch, 1 a
centimetre. So the places are asked one after the other, those of microscopes first, for a number that a microscope can
have; and every answer names its place.
"""

import contextlib
import io
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple
from xml.parsers import expat

from datasets.images import formats
from datasets.images.admission import NotTakenError
from datasets.images.metadata import jpeg_segments, open_image, png_chunks
from datasets.images.tiff_directory import Directory

# Micrometres that a pixel of a microscope has: an oil immersion lens has 0.06, a macroscope or a scanner of slides 10.
# A screen's 72 dots an inch are 353, a printer's 1200 are 21.
SMALLEST, LARGEST = 0.05, 20.0

# Pixels this many times as long as wide are an error in one of the two numbers, and nobody knows which.
_MOST_UNEQUAL = 2.0

_DESCRIPTION, _ACROSS, _DOWN, _UNIT = 270, 282, 283, 296
_INCH, _CENTIMETRE, _METRE = 25_400.0, 10_000.0, 1e6
_PER = {2: ("inch", _INCH), 3: ("centimetre", _CENTIMETRE)}  # of TIFF and Exif
_PER_JFIF = {1: _PER[2], 2: _PER[3]}

_UNITS = {
    "nm": 1e-3, "um": 1.0, "mm": 1e3, "cm": _CENTIMETRE, "m": _METRE, "in": _INCH, "inch": _INCH, "\xe5": 1e-4,
    **dict.fromkeys(("micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"), 1.0),
    **dict.fromkeys(("nanometer", "nanometre"), 1e-3), **dict.fromkeys(("millimeter", "millimetre"), 1e3),
}  # fmt: skip

_MAX_XML = 2**20
_OME = re.compile(rb"<(?:[\w.-]{1,40}:)?OME\b")
_MPP = re.compile(rb"(?:^|[|;\r\n])\s*MPP\s*=\s*([^|;\r\n\0]{1,40})")
_NUMBER = re.compile(r"\+?(\d{1,20}\.?\d{0,20}|\.\d{1,20})([eE][+-]?\d{1,2})?")


@dataclass(frozen=True)
class Scale:
    """How many micrometres a pixel is wide and high, and where the number is from."""

    value: float
    source: str


class _Pixel(NamedTuple):
    across: float  # in micrometres, as is the next; NaN where it is not a number
    down: float
    source: str


def um_per_pixel(path: Path) -> Scale | None:
    """Read how large the pixels of an image file are; None where it does not say it, or nothing that can be.

    Of pixels that are not square it is the geometric mean, and the source says so. What is damaged is passed over.
    """
    return next((scale for pixel in _said(path) if (scale := plausible(*pixel))), None)


def absurd_um_per_pixel(path: Path) -> Scale | None:
    """Read the first number that ``um_per_pixel`` passes over since no microscope has such pixels; None without one."""
    return next((scale for pixel in _said(path) if (scale := absurd(*pixel))), None)


def absurd(across: float, down: float, source: str) -> Scale | None:
    """Return the scale of pixels of these micrometres, where no microscope has such pixels; None where it may."""
    if not (math.isfinite(across) and math.isfinite(down)) or plausible(across, down, source):
        return None
    return Scale(across, source if across == down else f"{source}, {across:.4g} across and {down:.4g} down")


def plausible(across: float, down: float, source: str) -> Scale | None:
    """Return the scale of pixels of these micrometres; None where no microscope has such pixels."""
    # The conditions are written so that NaN does not pass.
    if not (SMALLEST <= across <= LARGEST and SMALLEST <= down <= LARGEST):
        return None
    ratio = max(across, down) / min(across, down)
    if ratio > _MOST_UNEQUAL:
        return None
    if ratio > 1.01:
        source += f", mean of {across:.4g} across and {down:.4g} down"
    return Scale(math.sqrt(across * down) if across != down else across, source)


def _said(path: Path) -> Iterator[_Pixel]:
    """Yield what a file says in each of its places."""
    # The name may be none, and a refusal of a damaged file is a ValueError.
    with contextlib.suppress(OSError, ValueError), open_image(path) as (file, kind):
        yield from _PLACES[kind](file) if kind else ()


def _of_tiff(file: BinaryIO, name: str = "TIFF") -> Iterator[_Pixel]:
    directory = Directory(file)
    for place in (_ome, _mpp, _imagej):
        with contextlib.suppress(NotTakenError):  # one tag is damaged, others may be whole
            for text in directory.texts(_DESCRIPTION):
                yield from place(directory, text)
    with contextlib.suppress(NotTakenError):
        per, length = _PER.get(directory.number(_UNIT, 2), ("", math.nan))
        yield _resolution(directory, length, f"{name} XResolution per {per}")


def _of_png(file: BinaryIO) -> Iterator[_Pixel]:
    for kind, body in png_chunks(file, (b"pHYs", b"eXIf")):
        if kind == b"eXIf":
            yield from _of_exif(body)
        elif len(body) == 9 and body[8] == 1:
            across, down = (int.from_bytes(body[at : at + 4], "big") for at in (0, 4))
            yield _Pixel(_each(_METRE, across), _each(_METRE, down), "PNG pHYs per metre")


def _of_jpeg(file: BinaryIO) -> Iterator[_Pixel]:
    for _, payload in jpeg_segments(file, (0xE0, 0xE1)):
        if payload.startswith(b"Exif\0"):
            yield from _of_exif(payload[6:])
        elif payload.startswith(b"JFIF\0") and len(payload) >= 12:
            per, length = _PER_JFIF.get(payload[7], ("", math.nan))
            across, down = (int.from_bytes(payload[at : at + 2], "big") for at in (8, 10))
            yield _Pixel(_each(length, across), _each(length, down), f"JFIF density per {per}")


def _of_exif(data: bytes) -> Iterator[_Pixel]:
    """Exif is a TIFF of its own."""
    with contextlib.suppress(NotTakenError):
        if formats.sniff(data[:4]) == formats.TIFF:
            yield from _of_tiff(io.BytesIO(data), "Exif")


def _of_bmp(file: BinaryIO) -> Iterator[_Pixel]:
    file.seek(38)
    head = file.read(8)
    across, down = (int.from_bytes(head[at : at + 4], "little", signed=True) for at in (0, 4))
    yield _Pixel(_each(_METRE, across), _each(_METRE, down), "BMP pixels per metre")


_PLACES = {formats.TIFF: _of_tiff, formats.PNG: _of_png, formats.JPEG: _of_jpeg, formats.BMP: _of_bmp}


def _resolution(directory: Directory, length: float, source: str) -> _Pixel:
    """Read how many pixels there are in a length of so many micrometres."""
    across, down = (directory.fractions(tag, 1) for tag in (_ACROSS, _DOWN))
    if across is None:
        return _Pixel(math.nan, math.nan, source)
    return _Pixel(_each(length, across[0]), _each(length, (across if down is None else down)[0]), source)


def _each(length: float, pixels: float) -> float:
    return length / float(pixels) if pixels > 0 else math.nan


def _ome(directory: Directory, text: bytes) -> Iterator[_Pixel]:
    if not _OME.search(text):
        return
    said = _ome_pixels(text[:_MAX_XML])
    across, down = (
        _number(said.get(f"PhysicalSize{axis}", "")) * _unit(said.get(f"PhysicalSize{axis}Unit", "um")) for axis in "XY"
    )
    yield _Pixel(across, across if "PhysicalSizeY" not in said else down, "OME-XML PhysicalSizeX")


class _EnoughError(Exception):
    pass


def _ome_pixels(text: bytes) -> dict[str, str]:
    """Return the attributes of the first Pixels of OME-XML; none of XML that declares entities or is damaged before."""
    found = {}

    def begin(name, attributes):
        if name.rpartition(" ")[2] == "Pixels":
            found.update(attributes)
            raise _EnoughError

    def refuse(*declared):
        raise _EnoughError

    # Not by the encoding that it declares, which may be of any name, and of which the micro sign often is not.
    parser = expat.ParserCreate("utf-8" if _is_utf8(text) else "iso-8859-1", namespace_separator=" ")
    parser.StartElementHandler = begin
    parser.StartDoctypeDeclHandler = refuse
    with contextlib.suppress(_EnoughError, expat.ExpatError):
        parser.Parse(text.strip(b"\0 \t\r\n"), False)
    return found


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error.end == len(text) == _MAX_XML  # a character that the limit cut in two
    return True


def _mpp(directory: Directory, text: bytes) -> Iterator[_Pixel]:
    """Aperio writes fields between bars, of the whole slide also in a reduced copy, which an arrow tells."""
    found = _MPP.search(text)
    if found and b"->" not in text:
        value = _number(found[1].decode("latin-1"))
        whose = "Aperio MPP" if text.startswith(b"Aperio") else "MPP"
        yield _Pixel(value, value, f"{whose} in ImageDescription")


def _imagej(directory: Directory, text: bytes) -> Iterator[_Pixel]:
    """ImageJ names in its text the unit of the resolution, which TIFF's own tag can say only of inches and so on."""
    found = re.search(rb"(?:^|[\r\n\0])unit=([^\r\n\0]{1,40})", text) if b"ImageJ=" in text else None
    if found:
        unit = found[1].decode("utf-8" if _is_utf8(found[1]) else "latin-1")
        unit = re.sub(r"\\u00[bB]5|\\u03[bB][cC]", "u", unit)  # as Java writes what is not ASCII
        yield _resolution(directory, _unit(unit), "ImageJ's unit and XResolution")


def _number(text: str) -> float:
    text = text.strip().replace(",", ".")  # some countries' programs write a comma
    return float(text) if text.isascii() and _NUMBER.fullmatch(text) else math.nan


def _unit(text: str) -> float:
    """Return how many micrometres a unit is; NaN of one that is not known, such as a pixel."""
    name = unicodedata.normalize("NFKC", text.strip()).replace("\u03bc", "u").casefold()
    return _UNITS.get(name, math.nan)
