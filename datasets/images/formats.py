"""What kind of file it is, by its first bytes."""

import codecs

TIFF, PNG, JPEG, BMP = "TIFF", "PNG", "JPEG", "BMP"

# Bytes that are enough to recognise a format.
HEAD = 4096

_TAKEN = (
    (b"II*\0", TIFF), (b"MM\0*", TIFF), (b"II+\0", TIFF), (b"MM\0+", TIFF),
    (b"\x89PNG", PNG), (b"\xff\xd8\xff", JPEG), (b"BM", BMP),
)  # fmt: skip

# How files begin that are met among images, and what they are.
_OTHERS = {
    "a JPEG 2000 image": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "a JPEG XL image": (b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a"),
    "a JPEG XR image": b"II\xbc",
    "a JPEG-LS image": b"\xff\xd8\xff\xf7",
    "a GIF": (b"GIF87a", b"GIF89a"),
    "a Photoshop document": b"8BPS",
    "a GIMP document": b"gimp xcf",
    "an OpenEXR image": b"\x76\x2f\x31\x01",
    "a Radiance image": b"#?RADIANCE",
    "a QOI image": b"qoif",
    "a DDS image": b"DDS ",
    "an MNG animation": b"\x8aMNG",
    "a FITS image": b"SIMPLE  =",
    "a farbfeld image": b"farbfeld",
    "an icon": b"\0\0\1\0",
    "a cursor or a Targa image": b"\0\0\2\0",
    "a Windows metafile": b"\xd7\xcd\xc6\x9a",
    "a camera's raw image": (b"IIRO", b"IIRS", b"IIU\0", b"FUJIFILMCCD-RAW"),
    "a Zeiss slide or stack (CZI)": b"ZISRAWFILE",
    "a Nikon stack (ND2)": b"\xda\xce\xbe\x0a",
    "a Leica stack (LIF)": b"p\0\0\0",
    "a Hamamatsu slide (VMS)": b"[Virtual Microscope Specimen]",
    "a Hamamatsu slide (VMU)": b"[Uncompressed Virtual",
    "tiles of an Olympus slide (ETS)": b"SIS0",
    "an Office document or an Olympus stack (OIB)": b"\xd0\xcf\x11\xe0",
    "a NumPy array": b"\x93NUMPY",
    "an HDF5 file": b"\x89HDF\r\n\x1a\n",
    "a database": b"SQLite format 3",
    "an NRRD volume": b"NRRD0",
    "a PDF document": b"%PDF",
    "a PostScript document": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    "a text document (RTF)": b"{\\rtf",
    "a zip archive or an Office document": b"PK\x03\x04",
    "an empty zip archive": b"PK\x05\x06",
    "a gzip archive": b"\x1f\x8b",
    "a bzip2 archive": b"BZh",
    "an xz archive": b"\xfd7zXZ\0",
    "a 7z archive": b"7z\xbc\xaf\x27\x1c",
    "a Zstandard archive": b"\x28\xb5\x2f\xfd",
    "a RAR archive": b"Rar!",
    "a video (Matroska or WebM)": b"\x1aE\xdf\xa3",
    "what macOS keeps next to a file, not the file itself": b"\0\5\x16\7",
    "a pointer of Git LFS: fetch the file itself (git lfs pull)": b"version https://git-lfs",
}
_BRANDS = {
    b"avif": "an AVIF image", b"avis": "an AVIF animation", b"heic": "a HEIC image", b"heix": "a HEIC image",
    b"heim": "a HEIC image", b"heis": "a HEIC image", b"hevc": "a HEIC animation", b"mif1": "a HEIF image",
    b"msf1": "a HEIF animation", b"jp2 ": "a JPEG 2000 image", b"crx ": "a camera's raw image",
}  # fmt: skip
_TEXTS = (
    (b"<svg", "an SVG drawing"), (b"<!doctype html", "a web page"), (b"<html", "a web page"),
    (b"<?xml", "an XML document"),
)  # fmt: skip


def sniff(head: bytes) -> str | None:
    """Name the format that is taken (TIFF, PNG, JPEG or BMP) by a file's first bytes; None for every other."""
    if head.startswith(b"\xff\xd8\xff\xf7"):  # JPEG-LS begins almost as JPEG does
        return None
    return next((kind for start, kind in _TAKEN if head.startswith(start)), None)


def describe(head: bytes) -> str:
    """Say what a file of another format is by its first HEAD bytes: "a GIF"; "" where nothing tells."""
    for kind, starts in _OTHERS.items():
        if head.startswith(starts):
            return kind
    if head[:4] == b"RIFF":
        return "a WebP image" if head[8:12] == b"WEBP" else "a sound or a video (RIFF)"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "a video, or an image of a phone (MP4, HEIF)")
    if head[128:132] == b"DICM":
        return "a DICOM image"
    if head[:1] == b"P" and head[1:2] in b"1234567fF" and head[2:3] in (b" ", b"\n", b"\r", b"\t"):
        return "a PNM image"
    return _text(head)


def _text(head: bytes) -> str:
    """Say so of text, and of nothing but zeros, which is what an interrupted copy often leaves."""
    if head and not head.strip(b"\0"):
        return "nothing but zeros where it begins"
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for start, kind in _TEXTS:
        if begin.startswith(start):
            return "an SVG drawing" if b"<svg" in begin else kind
    try:
        # The last character may be cut in two.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return ""
    return "text" if all(letter.isprintable() or letter.isspace() for letter in text) else ""
