"""Whether a TIFF says that it holds more than one picture, in any of the ways in which microscopes and tools say so."""

import math
import re

from datasets.images.admission import NotTakenError
from datasets.images.tiff_directory import Directory

_SAVE = "save the one that is meant as its own file"

# What instruments and other programs mark their own kinds of TIFF with.
_KINDS = {
    34361: "a FluoView stack",
    34412: "a Zeiss LSM stack",
    43314: "a NIH Image stack",
    50706: "a DNG, which is a camera's raw data",
    65420: "a Hamamatsu slide (NDPI)",
}
_SUBFILE, _OLD_SUBFILE, _DESCRIPTION, _SUBDIRECTORIES, _PREVIEW, _DEPTH = 254, 255, 270, 330, 513, 32997
_OLD_JPEG = 6
_OME = re.compile(rb"<(?:[\w.-]{1,40}:)?OME\b")
_STACK = (33629, 33630, 33631)  # MetaMorph's: one value a plane


def check_single(directory: Directory, samples: int, values: int) -> None:
    """Refuse a file that mentions more pictures than the one, of these many values, in its first directory."""
    check_kind(directory)
    pages = directory.pages()
    if pages > 1:
        many = f"more than {pages - 1}" if pages > 100 else pages
        raise NotTakenError(f"has {many} pages (pictures, levels of a pyramid or thumbnails): {_SAVE}")
    if _SUBDIRECTORIES in directory:
        raise NotTakenError(
            f"has further pictures (a pyramid or thumbnails) in {directory.count(330)} sub-directories: {_SAVE}"
        )
    check_whole(directory)
    check_planes(directory, samples, values)
    for text in directory.texts(_DESCRIPTION):
        images = len(_ome_images(text))
        if images > 1:
            raise NotTakenError(f"holds {images} images by its OME-XML: {_SAVE}")


def check_kind(directory: Directory) -> None:
    """Refuse what instruments and other programs mark as a kind of TIFF of their own."""
    for tag, kind in _KINDS.items():
        if tag in directory:
            raise NotTakenError(f"is {kind}: save the picture that is meant as 8-bit RGB")


def check_whole(directory: Directory) -> None:
    """Refuse a picture that says that it is a part or a reduced copy of another."""
    kind = directory.number(_SUBFILE, 0)
    if kind & 1 or directory.number(_OLD_SUBFILE, 1) == 2:
        raise NotTakenError("says that it is a reduced copy of another picture: use that one")
    if kind & ~2:  # a page of several is a picture of its own
        raise NotTakenError("says that it is a mask, or another part, of a picture: use that one")
    if _PREVIEW in directory and directory.number(259, 1) != _OLD_JPEG:
        raise NotTakenError("has a preview next to its picture: save the picture that is meant as 8-bit RGB")


def check_planes(directory: Directory, samples: int, values: int) -> None:
    """Refuse a directory that stands for several planes: slices, channels or times."""
    if directory.number(_DEPTH, 1) != 1:
        raise NotTakenError(f"is a volume of {directory.number(_DEPTH)} planes: {_SAVE}")
    planes = max(map(directory.count, _STACK))
    if planes > 1:
        raise NotTakenError(f"is a MetaMorph stack of {planes:,} planes: {_SAVE}")
    for text in directory.texts(_DESCRIPTION):
        _check_imagej(text)
        _check_ome(text, samples)
        _check_shape(text, values)


def _check_imagej(text: bytes) -> None:
    """ImageJ writes one directory for a stack, whose other planes come after the first."""
    if b"ImageJ=" not in text:
        return
    fields = re.findall(rb"^(images|channels|slices|frames)=(.*)$", re.sub(rb"[\r\0]", b"\n", text), re.M)
    said = {name: _whole(value) for name, value in fields}
    if None in said.values():
        raise NotTakenError(f"does not say how many pictures it holds in ImageJ's description: {_SAVE}")
    parts = math.prod(said.get(name, 1) for name in (b"channels", b"slices", b"frames"))
    planes = max(said.get(b"images", 1), parts)
    if planes > 1:
        raise NotTakenError(f"holds {planes:,} pictures (channels, slices or frames) of ImageJ: {_SAVE}, as RGB")


def _check_ome(text: bytes, samples: int) -> None:
    """OME-XML says how many planes a set of files has, one of which may stand here."""
    if not _OME.search(text):
        return
    images = _ome_images(text)
    sizes = [_attribute(name, images[0]) for name in (b"SizeZ", b"SizeC", b"SizeT")] if images else [None]
    if None in sizes:
        raise NotTakenError(f"has OME-XML that does not say what it holds, or that is in another file: {_SAVE}")
    if math.prod(sizes) > samples:
        slices, channels, times = sizes
        of = f"{slices} slices, {channels} channels and {times} times"
        raise NotTakenError(f"is one of {of} by its OME-XML: {_SAVE}, as RGB")


def _ome_images(text: bytes) -> list[bytes]:
    """Return the attributes of each image of OME-XML."""
    return re.findall(rb"<(?:[\w.-]{1,40}:)?Pixels\b([^<>]*)>", text) if _OME.search(text) else []


def _check_shape(text: bytes, values: int) -> None:
    """tifffile notes the shape of the complete array, whose first plane alone may have a directory."""
    found = re.match(rb'\s*(?:\{\s*"shape"\s*:\s*\[([\d\s,]{0,1000})\]|shape=\(([\d\s,]{0,1000})\))', text)
    if not found:
        return
    shape = [int(part) for part in re.findall(rb"\d{1,18}", found[1] or found[2] or b"")]
    if math.prod(shape[:100]) > values:
        said = "x".join(map(str, shape[:8]))
        raise NotTakenError(f"holds an array of {said} values, of which its directory shows one picture: {_SAVE}")


def _attribute(name: bytes, attributes: bytes) -> int | None:
    found = re.search(rb"\b" + name + rb"""\s*=\s*["']([^"']*)["']""", attributes)
    return _whole(found[1]) if found else None


def _whole(text: bytes) -> int | None:
    text = text.strip()
    return int(text) if text.isdigit() and len(text) < 10 else None
