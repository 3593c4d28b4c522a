import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from datasets.images.admission import NotTakenError
from datasets.images.read import decode_rgb

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def saved(kind: str, **how) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, kind, **how)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.png", saved("PNG"))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "JPEG"])
def test_the_four_formats_are_recognised_by_their_first_bytes(kind):
    assert decode_rgb(saved(kind)).shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (saved("GIF"), "a GIF"), (saved("WEBP"), "a WebP image"), (saved("JPEG2000"), "a JPEG 2000 image"),
        (saved("JPEG2000", no_jp2=True), "a JPEG 2000 image"), (saved("AVIF"), "an AVIF image"),
        (saved("ICO", sizes=[(4, 4)]), "an icon"), (saved("PPM"), "a PNM image"), (saved("DDS"), "a DDS image"),
        (saved("PDF"), "a PDF document"), (saved("EPS"), "a PostScript document"), (zipped(), "a zip archive"),
        (b"\xff\x0a" + bytes(90), "a JPEG XL image"), (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(9), "a JPEG XL image"),
        (b"\xff\xd8\xff\xf7\0\x0b", "a JPEG-LS image"), (b"II\xbc\1\x20\0\0\0", "a JPEG XR image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC image"), (b"\0\0\0\x18ftypisom\0\0\0\0", "a video"),
        (bytes(128) + b"DICM" + bytes(9), "a DICOM image"), (b"ZISRAWFILE", "a Zeiss slide"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"\x1f\x8b\x08", "a gzip archive"), (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY\1\0", "a NumPy array"),
        (b"<!DOCTYPE html><html>", "a web page"), (b"\xef\xbb\xbf\n<HTML lang='en'>", "a web page"),
        (b"<?xml version='1.0'?>", "an XML document"),
        (b"<?xml version='1.0'?><svg/>", "an SVG drawing"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        ("Färbung: H&E\n".encode(), "text"), (("ä" * 5000).encode(), "text"),
        (bytes(5000), "nothing but zeros where it begins"),
    ],
)  # fmt: skip
def test_files_of_other_formats_are_called_what_they_are_and_not_damaged(data, what):
    with pytest.raises(NotTakenError, match=f"^is not a PNG, JPEG, BMP or TIFF image but {what}.*: save the picture"):
        decode_rgb(data)


def test_a_file_that_is_nothing_known_is_not_called_damaged():
    with pytest.raises(NotTakenError, match=r"^is not a PNG, JPEG, BMP or TIFF image"):
        decode_rgb(bytes(range(1, 256)) * 9)
