import os
import shutil
import sys

import pytest

from datasets.errors import MissingError, UserError
from datasets.slides.open import open_slide
from tests.datasets.images.tiff_files import COMPRESSION, DESCRIPTION, tiff
from tests.datasets.slides.slide_files import IMAGE, dicom, write_aperio

SOFTWARE, XMP = 305, 700


def refusal(path) -> str:
    with pytest.raises(UserError) as error:
        open_slide(path)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path} ")


def test_what_is_not_a_file_is_said_to_be_what_it_is(tmp_path):
    with pytest.raises(MissingError, match=r"a\.tif is not there\.$"):
        open_slide(tmp_path / "a.tif")
    assert refusal(tmp_path) == "is a folder, not a slide."
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert refusal(tmp_path / "link") == "is a link to what is not there."
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "is not a file: name a slide."


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty."),
        (b"\x89PNG\r\n\x1a\n", "is a PNG image, which can only be read completely"),
        (b"\xff\xd8\xff\xe0", "is a JPEG image, which can only be read completely"),
        (b"GIF89a", "is not a slide that is read here but a GIF."),
        (b"ZISRAWFILE", "is not a slide that is read here but a Zeiss slide or stack (CZI)."),
        (bytes(100), "is not a slide that is read here but nothing but zeros where it begins."),
        (b"\x01\x02\x80", "is not a slide that is read here."),
        (b"II*\0", "is damaged or cut short (it refers to bytes beyond its end)."),
    ],
)
def test_what_is_no_slide_is_said_to_be_what_it_is(tmp_path, data, expected):
    path = tmp_path / "a slide\u2028ä.tif"
    path.write_bytes(data)
    assert refusal(path).startswith(expected)


def test_a_slide_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff())

    def refuse(*given):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    assert refusal(path) == "cannot be read: Permission denied."


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.mrxs", b"\xff\xd8\xff\xe0", "a MIRAX slide"),
        ("a.vms", b"[Virtual Microscope Specimen]", "a Hamamatsu slide"),
        ("a.svslide", b"SQLite format 3", "a Sakura slide"),
        ("a", dicom(IMAGE), "a DICOM slide"),
        ("a.tif", tiff({65420: 1}), "a Hamamatsu slide (NDPI)"),
        ("large.ndpi", b"II*\0" + b"\xff" * 8, "a Hamamatsu slide (NDPI)"),
        ("a.scn", tiff({DESCRIPTION: b'<?xml version="1.0"?><scn xmlns="x">'}), "a Leica slide (SCN)"),
        ("a.bif", tiff({XMP: b"<iScan Magnification='40'/>"}), "a Ventana slide (BIF)"),
        ("a.tiff", tiff({SOFTWARE: b"Philips DP v1.0"}), "a Philips slide"),
        ("a.tif", tiff({SOFTWARE: b"MedScan 1"}), "a Trestle slide"),
        ("a.svs", tiff({COMPRESSION: 33003}), "a slide compressed by JPEG 2000"),
    ],
)
def test_what_openslide_reads_names_its_package_where_that_is_missing(tmp_path, monkeypatch, name, data, kind):
    monkeypatch.setitem(sys.modules, "openslide", None)
    (tmp_path / name).write_bytes(data)
    expected = f"is {kind}, which is read by openslide: pip install -r requirements-slides.txt."
    assert refusal(tmp_path / name) == expected


@pytest.mark.parametrize(("name", "kind"), [("a.vms", "a Hamamatsu slide"), ("a.dcm", "a DICOM slide")])
def test_what_only_bears_the_name_of_such_a_slide_is_refused_by_openslide(tmp_path, name, kind):
    (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0")
    assert refusal(tmp_path / name) == f"seems to be {kind}, but openslide does not recognise it."


def test_ordinary_slides_need_no_package(tmp_path, monkeypatch):
    path = write_aperio(tmp_path / "a.svs", compression="jpeg")
    for package in ("openslide", "tifffile", "imagecodecs", "zarr"):
        monkeypatch.setitem(sys.modules, package, None)
    with open_slide(path) as slide:
        assert slide.read(0, 0, 10, 20).shape == (20, 10, 3)


def test_a_slide_of_another_name_is_read_by_what_it_holds(tmp_path):
    path = write_aperio(tmp_path / "a.svs", compression="jpeg")
    shutil.move(path, tmp_path / "b.jpg")
    with open_slide(tmp_path / "b.jpg") as slide:
        assert len(slide.levels) == 2
