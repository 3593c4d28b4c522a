"""Slides that only openslide reads: scanners' formats that are not TIFF, or that are TIFF in a way of their own.

What an ordinary reader takes for the slide is, in some of these, its label, a picture of the glass, or tiles that
overlap.
"""

from pathlib import Path

from datasets.images.tiff_directory import Directory

_COMPRESSION, _DESCRIPTION, _SOFTWARE, _XMP, _HAMAMATSU = 259, 270, 305, 700, 65420
DICOM = "a DICOM slide"
_JPEG_2000 = (33003, 33005)

_SUFFIXES = {
    ".mrxs": "a MIRAX slide", ".dcm": DICOM, ".vms": "a Hamamatsu slide", ".vmu": "a Hamamatsu slide",
    ".ndpi": "a Hamamatsu slide (NDPI)", ".svslide": "a Sakura slide",
}  # fmt: skip


def kind_of_tiff(directory: Directory) -> str | None:
    """Name the kind of TIFF that only openslide reads, by its first directory; None of every other."""
    if _HAMAMATSU in directory:
        return "a Hamamatsu slide (NDPI)"
    software = b"".join(directory.texts(_SOFTWARE))
    starts = ((b"MedScan", "a Trestle slide"), (b"Philips", "a Philips slide"))
    kind = next((kind for start, kind in starts if software.startswith(start)), None)
    marks = ((_DESCRIPTION, b"<scn", "a Leica slide (SCN)"), (_XMP, b"iScan", "a Ventana slide (BIF)"))
    kind = kind or next((kind for tag, mark, kind in marks if any(mark in text for text in directory.texts(tag))), None)
    if kind is None and directory.number(_COMPRESSION, 1) in _JPEG_2000:
        return "a slide compressed by JPEG 2000"
    return kind


def kind_of_file(path: Path, head: bytes) -> str | None:
    """Name the kind of a file that is not a TIFF and that openslide may read, by its name or how it begins."""
    if head[128:132] == b"DICM":
        return DICOM
    return _SUFFIXES.get(path.suffix.lower())
