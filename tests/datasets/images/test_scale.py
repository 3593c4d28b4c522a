import os
import struct

import numpy as np
import pytest
from PIL import Image

from datasets.images.read import read_rgb
from datasets.images.scale import LARGEST, SMALLEST, Scale, um_per_pixel
from tests.datasets.images import tiff_files as t
from tests.datasets.images.tiff_files import IMAGE, ORDERS, tiff, written
from tests.picture_files import saved
from tests.picture_files.png import chunk, png

ACROSS, DOWN, UNIT = 282, 283, 296
PLANES = 'SizeX="4" SizeY="4" SizeZ="1" SizeC="3" SizeT="1"'
OME = (
    '<?xml version="1.0"?>{}<OME xmlns="http://x"><Image ID="Image:0"><Pixels ID="p" ' + PLANES + " {}/></Image></OME>"
)
APERIO = (
    b"Aperio Image Library v11.2.1 \r\n46000x32914 [0,100 46000x32914] (256x256) JPEG/RGB Q=30|AppMag = 40|%s|L = 1"
)


@pytest.fixture
def of(tmp_path):
    """Return a function that reads the scale of a file of these bytes, which must be an image that is taken."""

    def read(data: bytes) -> Scale | None:
        path = tmp_path / "image"
        path.write_bytes(data)
        read_rgb(path)
        return um_per_pixel(path)

    return read


def resolution(across, down=None, unit=None) -> dict:
    """Tags of a resolution, in ten-thousandths."""
    pairs = {ACROSS: across, DOWN: across if down is None else down}
    tags = {tag: (t.RATIONAL, [(round(value * 10_000), 10_000)]) for tag, value in pairs.items()}
    return tags | ({} if unit is None else {UNIT: (t.SHORT, [unit])})


def ome(attributes: str, prolog: str = "") -> bytes:
    return tiff({t.DESCRIPTION: OME.format(prolog, attributes).encode()})


def imagej(says: bytes, **more) -> bytes:
    return tiff({t.DESCRIPTION: b"ImageJ=1.54f\n" + says + b"\nmin=0.0\n"} | resolution(**more))


@pytest.mark.parametrize(("order", "is_big"), ORDERS)
def test_a_resolution_per_centimetre_or_inch_is_read_in_every_kind_of_tiff(of, order, is_big):
    for unit, across, per in ((3, 40_000, "centimetre"), (2, 101_600, "inch"), (None, 101_600, "inch")):
        found = of(tiff(resolution(across, unit=unit), order=order, is_big=is_big))
        assert found == Scale(pytest.approx(0.25), f"TIFF XResolution per {per}")


@pytest.mark.parametrize(
    "tags",
    [
        resolution(72, unit=2), resolution(96, unit=2), resolution(300, unit=2), resolution(1200, unit=2),
        resolution(1, unit=3), resolution(1, unit=1), resolution(0, unit=3), resolution(40_000, unit=1),
        resolution(40_000, unit=4), resolution(40_000, down=72, unit=3), {UNIT: (t.SHORT, [3])}, {},
        {ACROSS: (t.RATIONAL, [(1, 0)]), UNIT: (t.SHORT, [3])},
        {ACROSS: (t.RATIONAL, [(40_000, 1)] * 2), UNIT: (t.SHORT, [3])},
        {ACROSS: (t.SHORT, [40_000]), UNIT: (t.SHORT, [3])}, {t.DESCRIPTION: b"anything = 0.25"},
    ],
)  # fmt: skip
def test_what_no_microscope_has_is_no_scale(of, tags):
    assert of(tiff(tags)) is None


def test_a_resolution_of_one_direction_is_that_of_both(of):
    tags = resolution(20_000, unit=3)
    del tags[DOWN]
    assert of(tiff(tags)) == Scale(0.5, "TIFF XResolution per centimetre")


def test_pixels_that_are_not_square_have_their_geometric_mean_and_say_so(of):
    found = of(tiff(resolution(40_000, 10_000 / 0.36, unit=3)))
    assert found.value == pytest.approx(0.3, abs=1e-4)
    assert found.source.endswith("XResolution per centimetre, mean of 0.25 across and 0.36 down")
    assert of(tiff(resolution(40_000, 10_000, unit=3))) is None


@pytest.mark.parametrize(
    ("attributes", "value"),
    [
        ('PhysicalSizeX="0.25"', 0.25), ('PhysicalSizeX="2.5E-1" PhysicalSizeXUnit="µm"', 0.25),
        ("PhysicalSizeX='250' PhysicalSizeXUnit='nm' PhysicalSizeY='250' PhysicalSizeYUnit='nm'", 0.25),
        ('PhysicalSizeX="0.00025" PhysicalSizeXUnit="mm"', 0.25),
        ('PhysicalSizeX="0.25" PhysicalSizeXUnit="\u03bcm"', 0.25),
        ('PhysicalSizeX="0.25" PhysicalSizeXUnit="&#181;m"', 0.25),
        ('PhysicalSizeX="2500" PhysicalSizeXUnit="\u212b"', 0.25),
        ('PhysicalSizeX="0.25" PhysicalSizeY="250" PhysicalSizeYUnit="nm"', 0.25),
        ('PhysicalSizeX="0.25" PhysicalSizeXUnit="pixel"', None), ('PhysicalSizeX="-0.25"', None),
        ('PhysicalSizeX="NaN"', None), ('PhysicalSizeX="1e999"', None), ('PhysicalSizeX="1"', 1.0),
        ('PhysicalSizeX="352.8"', None), ('PhysicalSizeX=""', None), ("", None), ('PhysicalSizeY="0.25"', None),
        ('PhysicalSizeX="0.25" PhysicalSizeXUnit="&micro;m"', None),
    ],
)  # fmt: skip
def test_ome_xml_says_a_size_in_its_unit(of, attributes, value):
    expected = None if value is None else Scale(pytest.approx(value), "OME-XML PhysicalSizeX")
    assert of(ome(attributes)) == expected


def test_ome_xml_is_read_as_it_is_written(of):
    for data in (
        written(IMAGE, photometric="rgb", ome=True, metadata={"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm"}),
        tiff({t.DESCRIPTION: OME.format("", 'PhysicalSizeX="0.25" PhysicalSizeXUnit="µm"').encode("latin-1")}),
        tiff({t.DESCRIPTION: OME.format("<!-- PhysicalSizeX='9' -->", 'PhysicalSizeX="0.25"').encode()}),
        tiff({t.DESCRIPTION: OME.format("", 'PhysicalSizeX="0.25"').replace("?>", ' encoding="x"?>').encode()}),
        tiff({t.DESCRIPTION: b"<a:OME xmlns:a='b'><a:Pixels PhysicalSizeX='.25' %s/>" % PLANES.encode()}),
    ):
        assert of(data) == Scale(0.25, "OME-XML PhysicalSizeX")


def test_entities_are_not_expanded_and_nothing_outside_is_opened(of, tmp_path):
    (tmp_path / "size").write_text("0.25")
    many = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    for declared in (f'<!ENTITY e0 "0">{many}', f'<!ENTITY e9 SYSTEM "file://{tmp_path}/size">'):
        assert of(ome('PhysicalSizeX="0.25" Name="&e9;"', f"<!DOCTYPE OME [{declared}]>")) is None


def test_a_text_costs_no_more_than_its_length(of):
    assert of(tiff({t.DESCRIPTION: b"|" * 2**20 + b"MPP = 0.25"})) == Scale(0.25, "MPP in ImageDescription")
    hidden = OME.format("<!--" + "-x" * 2**20 + "-->", 'PhysicalSizeX="0.25"')
    assert of(tiff({t.DESCRIPTION: hidden.encode()} | resolution(20_000, unit=3))).value == 0.5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"MPP = 0.2462", 0.2462), (b"MPP=0.2462", 0.2462), (b"MPP = 0,2462", 0.2462), (b"MPP = 0", None),
        (b"MPP = 0.2462um", None), (b"MPP = ", None), (b"MPP = 264", None), (b"xMPP = 0.25", None),
        (b"MPP = 0.25|MPP = 0.5", 0.25),
    ],
)  # fmt: skip
def test_aperios_text_says_micrometres_per_pixel(of, field, value):
    expected = None if value is None else Scale(value, "Aperio MPP in ImageDescription")
    assert of(tiff({t.DESCRIPTION: APERIO % field})) == expected


def test_aperios_number_is_not_that_of_a_reduced_copy(of):
    text = (APERIO % b"MPP = 0.25").replace(b" JPEG", b" -> 11500x8228 JPEG")
    assert of(tiff({t.DESCRIPTION: text})) is None


@pytest.mark.parametrize(
    "unit",
    [
        b"unit=micron",
        b"unit=um",
        b"unit=\\u00B5m",
        "unit=µm".encode(),
        b"unit=\xb5m",
        b"unit=microns",
        b"unit=\xce\xbcm",
    ],
)
def test_imagej_names_the_unit_of_the_resolution(of, unit):
    assert of(imagej(unit, across=4, unit=1)) == Scale(0.25, "ImageJ's unit and XResolution")


def test_imagej_has_other_units_and_none(of):
    assert of(imagej(b"unit=nm", across=0.004, unit=1)).value == 0.25
    assert of(imagej(b"unit=mm", across=4000, unit=1)).value == 0.25
    assert of(imagej(b"unit=cm", across=40_000, unit=3)).value == 0.25
    for unit in (b"unit=pixel", b"unit=", b"yunit=micron", b"spacing=micron"):
        assert of(imagej(unit, across=4, unit=1)) is None
    assert of(written(IMAGE, photometric="rgb", imagej=True)) is None
    made = written(IMAGE, photometric="rgb", imagej=True, resolution=(4, 4), metadata={"unit": "um"})
    assert of(made) == Scale(0.25, "ImageJ's unit and XResolution")


def test_the_more_special_place_is_asked_first_and_the_next_where_it_says_nothing(of):
    tags = resolution(20_000, unit=3)
    assert of(tiff({t.DESCRIPTION: APERIO % b"MPP = 0.25"} | tags)).value == 0.25
    for text in (APERIO % b"MPP = 264.6", b"<OME><Pixels " + PLANES.encode() + b" PhysicalSizeX='999'/></OME>"):
        assert of(tiff({t.DESCRIPTION: text} | tags)) == Scale(0.5, "TIFF XResolution per centimetre")


def test_png_jpeg_and_bmp_say_it_in_their_own_ways(of):
    assert of(saved(IMAGE, "PNG", dpi=(101_600, 101_600))) == Scale(pytest.approx(0.25, rel=1e-4), "PNG pHYs per metre")
    assert of(saved(IMAGE, "JPEG", dpi=(50_800, 50_800))) == Scale(0.5, "JFIF density per inch")
    assert of(saved(IMAGE, "BMP", dpi=(101_600, 101_600))) == Scale(
        pytest.approx(0.25, rel=1e-4), "BMP pixels per metre"
    )
    for kind in ("PNG", "JPEG", "BMP"):
        assert of(saved(IMAGE, kind)) is of(saved(IMAGE, kind, dpi=(96, 96))) is None


def exif() -> bytes:
    made = Image.Exif()
    made[ACROSS] = made[DOWN] = 40_000.0
    made[UNIT] = 3
    return made.tobytes()


def test_exif_is_read_in_jpeg_and_png(of):
    for kind in ("JPEG", "PNG"):
        for more in ({}, {"dpi": (72, 72)}):
            assert of(saved(IMAGE, kind, exif=exif(), **more)) == Scale(0.25, "Exif XResolution per centimetre")


def test_what_stands_before_a_jpegs_segments_is_passed_over(of):
    data = saved(IMAGE, "JPEG", exif=exif())
    start = data.index(b"\xff\xe1")
    for between in (b"\xff" * 5000, b"\0" * 5000, b"\xff\xfe\0\x02" * 500):
        assert of(data[:start] + between + data[start:]).value == 0.25


@pytest.mark.parametrize(
    "before",
    [
        chunk(b"pHYs", struct.pack(">IIB", 4_000_000, 4_000_000, 0)), chunk(b"pHYs", bytes(9)), chunk(b"pHYs"),
        chunk(b"pHYs", struct.pack(">IIB", 4_000_000, 4_000_000, 1), crc=1), chunk(b"eXIf"), chunk(b"eXIf", b"II*\0"),
        chunk(b"eXIf", b"II*\0" + bytes(40)), chunk(b"eXIf", b"text"),
    ],
)  # fmt: skip
def test_damaged_blocks_of_a_png_are_passed_over(of, before):
    assert of(png(8, 2, before=before)) is None


def test_every_damage_gives_a_scale_or_none(tmp_path):
    random, path = np.random.default_rng(0), tmp_path / "image"
    text = APERIO % b"MPP = 0.25"
    for good in (
        tiff({t.DESCRIPTION: text} | resolution(40_000, unit=3)), ome('PhysicalSizeX="0.25"'),
        saved(IMAGE, "JPEG", exif=exif(), dpi=(50_800, 50_800)), saved(IMAGE, "PNG", exif=exif()), saved(IMAGE, "BMP"),
    ):  # fmt: skip
        for _ in range(50):
            damaged = np.frombuffer(good, np.uint8).copy()
            damaged[random.integers(0, len(damaged), 4)] = random.choice((0, 1, 255), 4)
            path.write_bytes(damaged[: random.integers(0, 2 * len(damaged))].tobytes())
            found = um_per_pixel(path)
            assert found is None or SMALLEST <= found.value <= LARGEST


def test_what_is_no_file_or_no_image_has_no_scale(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("MPP = 0.25")
    for name in ("pipe", "text", ".", "missing", "n" * 300, "a\0b"):
        assert um_per_pixel(tmp_path / name) is None
