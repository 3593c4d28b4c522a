"""Small slides in the layouts of the programs and scanners that write them."""

import io
import itertools
import struct

import numpy as np
import tifffile
from PIL import Image

from tests.datasets.images.tiff_files import (
    COUNTS,
    HEIGHT,
    OFFSETS,
    ROWS,
    TILE_COUNTS,
    TILE_HEIGHT,
    TILE_OFFSETS,
    TILE_WIDTH,
    WIDTH,
    tiff,
)

_RANDOM = np.random.default_rng(0)
# Of no whole number of tiles, with flat parts and rough ones.
IMAGE = np.repeat(np.repeat(_RANDOM.integers(0, 256, (61, 77, 3), np.uint8), 5, 0), 5, 1)
IMAGE[40:200, 70:250] = _RANDOM.integers(0, 256, (160, 180, 3))
HALF, QUARTER = IMAGE[::2, ::2], IMAGE[::4, ::4]
SIZES = [(385, 305, 1), (193, 153, 2), (97, 77, 4)]


def sizes(slide):
    return [(level.width, level.height, level.downsample) for level in slide.levels]


def whole(slide, number=0):
    """Read all of a level."""
    level = slide.levels[number]
    size = (round(side * level.downsample) for side in (level.width, level.height))
    return slide.read(0, 0, *size, level.downsample)


def write_pyramid(path, tile=(64, 64), is_sub=True, bigtiff=True, byteorder="<", **how):
    """Write a pyramid of three levels, the smaller ones as sub-directories, or as pages behind the first."""
    how = {"photometric": "rgb", "tile": tile, "metadata": None, **how}
    resolution = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder=byteorder) as writer:
        writer.write(IMAGE, subifds=2 if is_sub else None, **resolution, **how)
        for smaller in (HALF, QUARTER):
            writer.write(smaller, subfiletype=1, **how)
    return path


def write_aperio(path, **how):
    """Write a slide as Aperio's software does: a thumbnail behind the first page, label and macro at the end."""
    text = "Aperio Image Library v12.0.15\r\n385x305 [0,0 385x305] (64x64) {kind} Q=70|AppMag = 20|MPP = 0.4990"
    plain = {"photometric": "rgb", "metadata": None, "software": False}
    tiled = {"tile": (64, 64), "description": text.format(kind="JPEG/RGB"), **plain, **how}
    strips = {"rowsperstrip": 16, "compression": "lzw", **plain}
    with tifffile.TiffWriter(path) as writer:
        writer.write(IMAGE, **tiled)
        writer.write(HALF, description=text.format(kind="-> 193x153 - ") + "|x", **strips)
        writer.write(QUARTER, **tiled)
        writer.write(np.zeros((90, 80, 3), np.uint8), subfiletype=1, description="Aperio\r\nlabel 80x90", **strips)
        writer.write(np.zeros((200, 600, 3), np.uint8), subfiletype=9, description="Aperio\r\nmacro 600x200", **strips)
    return path


def tiled(size, stored, tags):
    """Return a TIFF of one tile of these pixels and these stored bytes."""
    places = {TILE_OFFSETS: 8, TILE_COUNTS: len(stored), OFFSETS: None, COUNTS: None, ROWS: None}
    width, height = size
    return tiff({WIDTH: width, HEIGHT: height, TILE_WIDTH: width, TILE_HEIGHT: height, **places, **tags}, [stored])


def damage_tile(path, number, data, level=0):
    """Replace the stored bytes of one tile of a slide, at most by as many as it has."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0] if level == 0 else file.pages[0].pages[level - 1]
        offset, count = page.dataoffsets[number], page.databytecounts[number]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data(count) if callable(data) else data)
    return path


def dicom(pixels, tile=64, spacing="0.0005", rows=None):
    """Write a slide as DICOM does: explicit little endian, uncompressed frames of ``tile`` pixels."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % tile), (0, -width % tile), (0, 0)))
    tiles = padded.reshape(len(padded) // tile, tile, -1, tile, 3).swapaxes(1, 2).reshape(-1, tile, tile, 3)
    whole_slide = "1.2.840.10008.5.1.4.1.1.77.1.6"
    meta = b"".join(
        (
            _element(0x00020001, "OB", b"\0\1"), _element(0x00020002, "UI", whole_slide),
            _element(0x00020003, "UI", "1.2.3.1"), _element(0x00020010, "UI", "1.2.840.10008.1.2.1"),
            _element(0x00020012, "UI", "1.2.3"),
        )
    )  # fmt: skip
    spacing = _element(0x00180050, "DS", "0.001") + _element(0x00280030, "DS", f"{spacing}\\{spacing}")
    body = (
        _element(0x00080008, "CS", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"), _element(0x00080016, "UI", whole_slide),
        _element(0x00080018, "UI", "1.2.3.1"), _element(0x00080060, "CS", "SM"), _element(0x0020000D, "UI", "1.2.4"),
        _element(0x0020000E, "UI", "1.2.5"), _element(0x00209311, "CS", "TILED_FULL"), _element(0x00280002, "US", 3),
        _element(0x00280004, "CS", "RGB"), _element(0x00280006, "US", 0), _element(0x00280008, "IS", str(len(tiles))),
        _element(0x00280010, "US", rows or tile), _element(0x00280011, "US", rows or tile),
        _element(0x00280100, "US", 8), _element(0x00280101, "US", 8), _element(0x00280102, "US", 7),
        _element(0x00280103, "US", 0), _element(0x00480006, "UL", width), _element(0x00480007, "UL", height),
        _element(0x00480303, "UL", 1), _sequence(0x52009229, _sequence(0x00289110, spacing)),
        _element(0x7FE00010, "OB", tiles.tobytes()),
    )  # fmt: skip
    return bytes(128) + b"DICM" + _element(0x00020000, "UL", len(meta)) + meta + b"".join(body)


def _element(tag: int, kind: str, value) -> bytes:
    if isinstance(value, int):
        value = struct.pack("<H" if kind == "US" else "<I", value)
    elif isinstance(value, str):
        value = value.encode() + (b"\0" if kind == "UI" else b" ") * (len(value) % 2)
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, kind.encode())
    return (
        head
        + struct.pack("<HI" if kind in ("OB", "SQ") else "<H", *((0,) if kind in ("OB", "SQ") else ()), len(value))
        + value
    )


def _sequence(tag: int, item: bytes) -> bytes:
    return _element(tag, "SQ", b"\xfe\xff\x00\xe0" + struct.pack("<I", len(item)) + item)


def write_mirax(path, pixels, corner=(1, 2), side=64):
    """Write a slide as 3DHISTECH's scanners do: a folder beside the file, and images only where there is tissue.

    ``corner`` are the whole images (across, down) that the scanner left out before it.
    """
    down, across = (-(-length // side) for length in pixels.shape[:2])
    columns, rows = across + corner[0] + 1, down + corner[1] + 1
    stored, entries = b"", b""
    for row, column in itertools.product(range(down), range(across)):
        buffer = io.BytesIO()
        part = pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]
        Image.fromarray(part).save(buffer, "PNG")
        number = (row + corner[1]) * columns + column + corner[0]
        entries += struct.pack("<4i", number, len(stored), len(buffer.getvalue()), 0)
        stored += buffer.getvalue()
    start = b"01.02" + b"a-slide"
    place = len(start) + 8
    index = start + struct.pack("<6i", place, 0, place + 4, 0, place + 12, across * down) + bytes(4) + entries
    folder = path.with_suffix("")
    folder.mkdir()
    path.write_bytes(b"\xff\xd8\xff\xe0")  # the label
    (folder / "Index.dat").write_bytes(index)
    (folder / "Data0000.dat").write_bytes(stored)
    (folder / "Slidedat.ini").write_text(
        f"[GENERAL]\nSLIDE_VERSION=01.02\nSLIDE_ID=a-slide\nIMAGENUMBER_X={columns}\nIMAGENUMBER_Y={rows}\n"
        "OBJECTIVE_MAGNIFICATION=20\n[HIERARCHICAL]\nHIER_COUNT=1\nNONHIER_COUNT=0\nHIER_0_NAME=Slide zoom level\n"
        "HIER_0_COUNT=1\nHIER_0_VAL_0_SECTION=LEVEL\nINDEXFILE=Index.dat\n[DATAFILE]\nFILE_COUNT=1\n"
        "FILE_0=Data0000.dat\n[LEVEL]\nOVERLAP_X=0\nOVERLAP_Y=0\nMICROMETER_PER_PIXEL_X=0.25\n"
        "MICROMETER_PER_PIXEL_Y=0.25\nIMAGE_FORMAT=PNG\nIMAGE_FILL_COLOR_BGR=16777215\nIMAGE_CONCAT_FACTOR=0\n"
        f"DIGITIZER_WIDTH={side}\nDIGITIZER_HEIGHT={side}\n"
    )
    return path
