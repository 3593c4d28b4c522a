"""Image files that want to do harm: damaged ones of every kind, bombs, huge sizes, lies about themselves."""

import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from benchmarks.hostile import mutations
from benchmarks.hostile.streams import zeros
from datasets import phantom
from tests.datasets.images import tiff_files
from tests.picture_files import saved
from tests.picture_files.bmp import bmp, bmps
from tests.picture_files.jpeg import changed, empty_scans, jpegs, segment
from tests.picture_files.png import SIGNATURE, chunk, pngs

MEGABYTE = 2**20


def good() -> dict[str, bytes]:
    """Return a small picture of tissue in each form that is read: name with its ending -> the file."""
    tissue = np.ascontiguousarray(phantom.draw("benign", 900, 0)[::4, ::4])
    image = Image.fromarray(tissue)
    alpha = image.convert("RGBA")
    plain = {"photometric": "rgb", "metadata": None}
    tiffs = {
        "raw": {}, "tiles": {"tile": (16, 16)}, "lzw": {"compression": "lzw", "predictor": 2},
        "deflate": {"compression": "deflate"}, "packbits": {"compression": "packbits"}, "big": {"bigtiff": True},
        "jpeg": {"compression": "jpeg"}, "strips": {"rowsperstrip": 5, "byteorder": ">"},
    }  # fmt: skip
    return {
        "rgb.png": saved(image, "PNG"),
        "palette.png": saved(image.quantize(40), "PNG"),
        "alpha.png": saved(alpha, "PNG"),
        "profile.png": saved(image, "PNG", icc_profile=b"profile" * 40, dpi=(72, 72)),
        "plain.jpg": saved(image, "JPEG"),
        "progressive.jpg": saved(image, "JPEG", progressive=True, quality=90),
        "grey.jpg": saved(image.convert("L"), "JPEG"),
        "profile.jpg": saved(image, "JPEG", icc_profile=b"profile" * 40),
        "rgb.bmp": saved(image, "BMP"),
        "palette.bmp": saved(image.quantize(40), "BMP"),
        **{f"{name}.tif": tiff_files.written(tissue, **plain, **how) for name, how in tiffs.items()},
    }


def bombs() -> Iterator[tuple[str, bytes]]:
    """Yield small files that claim or become large ones."""
    yield from _png_bombs()
    yield from _jpeg_bombs()
    yield from _tiff_bombs()
    for name, fields in {
        "of a billion rows": {"width": 50, "height": 2**30}, "of a billion": {"width": 2**15, "height": 2**15},
        "below 0": {"width": -(2**31), "height": -(2**31)}, "at the limit": {"width": 8192, "height": 6144},
    }.items():  # fmt: skip
        yield f"bmp {name}.bmp", bmp(24, **fields)
    yield "run lengths.bmp", _run_lengths()


def _png(width, height, stream, before=b"", colours=2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0))
    return SIGNATURE + header + before + chunk(b"IDAT", stream) + chunk(b"IEND")


def _png_bombs():
    gigabyte = zeros(2**30)
    yield "a gigabyte in a dot.png", _png(9, 9, gigabyte)
    yield "a gigabyte of 20000 a side.png", _png(20_000, 17_895, gigabyte)
    yield "at the limit.png", _png(8192, 6144, zeros(6144 * (3 * 8192 + 1)))
    yield "above the limit.png", _png(8192, 6145, zeros(6145 * (3 * 8192 + 1)))
    yield "a line.png", _png(2**31 - 1, 1, zeros(MEGABYTE))
    for name, key in ((b"zTXt", b"k\0\0"), (b"iCCP", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0")):
        small = zlib.compress(bytes(3 * 81 + 9))
        yield f"{name.decode()} of a gigabyte.png", _png(9, 9, small, chunk(name, key + gigabyte))
        yield f"{name.decode()} a hundred times.png", _png(9, 9, small, 100 * chunk(name, key + zeros(8 * MEGABYTE)))
    yield "a million chunks.png", _png(9, 9, zlib.compress(bytes(252)), 1_000_000 * chunk(b"prVt"))
    yield "a nest of streams.png", _png(9, 9, zlib.compress(gigabyte))


def _jpeg_bombs():
    plain = saved(Image.new("RGB", (64, 48), (200, 120, 160)), "JPEG")
    staged = saved(Image.new("RGB", (64, 48), (200, 120, 160)), "JPEG", progressive=True)
    yield "of 65535 a side.jpg", changed(plain, frame=lambda part: part[:5] + b"\xff\xff\xff\xff" + part[9:])
    yield "of 8192 by 6144.jpg", changed(plain, frame=lambda part: part[:5] + b"\x18\0\x20\0" + part[9:])
    large = changed(staged, frame=lambda part: part[:5] + b"\x18\0\x20\0" + part[9:])
    for count in (100, 10_000, 300_000):
        yield f"{count} empty scans.jpg", empty_scans(staged, count)
        yield f"{count} empty scans of a large one.jpg", empty_scans(large, count)
    yield "a hundred megabytes of comments.jpg", changed(plain, add=segment(0xFE, bytes(65_000)) * 1600)
    yield (
        "a profile in 255 parts.jpg",
        changed(
            plain,
            add=b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes((n, 255)) + bytes(60_000)) for n in range(1, 256)),
        ),
    )
    yield "a million restarts.jpg", plain[:-2] + b"\xff\xd0\xff\xd1" * 500_000 + b"\xff\xd9"


def _tiff_bombs():
    tags = tiff_files
    deflated = zeros(2**30)
    sizes = {tags.WIDTH: 8192, tags.HEIGHT: 6144, tags.ROWS: 6144}
    yield "deflate of a gigabyte.tif", tags.tiff({tags.COMPRESSION: 8, **sizes}, [deflated])
    yield "deflate of a gigabyte in a dot.tif", tags.tiff({tags.COMPRESSION: 8}, [deflated])
    yield (
        "one strip for all.tif",
        tags.tiff({**sizes, tags.OFFSETS: [8] * 6144, tags.COUNTS: [48] * 6144, tags.ROWS: 1}),
    )
    tile = {tags.TILE_WIDTH: 2**16, tags.TILE_HEIGHT: 2**16, tags.TILE_OFFSETS: 8, tags.TILE_COUNTS: len(deflated)}
    tile |= {tags.OFFSETS: None, tags.COUNTS: None, tags.ROWS: None, tags.COMPRESSION: 8}
    yield "a tile of four billion.tif", tags.tiff(tile, [deflated])
    for name, change in {
        "of four billion a side": {tags.WIDTH: 2**32 - 1, tags.HEIGHT: 2**32 - 1},
        "of 65535 samples": {tags.SAMPLES: 65_535, tags.BITS: [8] * 65_535},
        "of a million strips": {tags.OFFSETS: [8] * 10**6, tags.COUNTS: [1] * 10**6, tags.ROWS: 1, tags.HEIGHT: 10**6},
        "with a palette of millions": {tags.PALETTE: [0] * 10**6, tags.PHOTOMETRIC: 3},
        "of 64 bits": {tags.BITS: [64] * 3}, "of no bits": {tags.BITS: [0] * 3}, "no strips": {tags.OFFSETS: None},
        "strips behind the file": {tags.OFFSETS: 2**32 - 1}, "rows of 0": {tags.ROWS: 0},
        "rows without end": {tags.ROWS: 2**32 - 1}, "counts of 0": {tags.COUNTS: 0},
        "counts of four billion": {tags.COUNTS: 2**32 - 1},
        "a description of megabytes": {tags.DESCRIPTION: b"x" * 10**7},
    }.items():  # fmt: skip
        for order, is_big in tiff_files.ORDERS:
            yield f"{name} {'big ' * is_big}{order == '<'}.tif", tags.tiff(change, order=order, is_big=is_big)
    whole = tags.tiff()
    yield "pages in a circle.tif", tags.tiff(following=struct.unpack("<I", whole[4:8])[0])
    yield "pages at itself.tif", whole[:4] + struct.pack("<I", 4) + whole[8:]
    yield "entries without end.tif", b"II*\0\x08\0\0\0\xff\xff" + (struct.pack("<HHII", 270, 2, 2**32 - 1, 8) * 65_535)
    yield "ten thousand pages.tif", _pages(10_000)


def _pages(count: int) -> bytes:
    """Return a TIFF of many empty directories, each behind the last."""
    one = struct.pack("<HHHII", 1, 256, 3, 1, 9)
    return b"II*\0\x08\0\0\0" + b"".join(one + struct.pack("<I", 8 + 18 * (n + 1)) for n in range(count))


def _run_lengths() -> bytes:
    """Return a BMP whose run lengths would fill a billion pixels."""
    info = struct.pack("<IiiHHIIiiII", 40, 2**15, 2**15, 1, 8, 1, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + info + bytes(1024) + b"\xff\x01" * 100_000 + b"\0\1"


def others() -> Iterator[tuple[str, bytes]]:
    """Yield files of other kinds under an image's name, some of which would have a reader fetch or run something."""
    secret = "../../canary/secret.png"
    yield "entity.svg", f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{secret}">]><svg>&e;</svg>'.encode()
    yield (
        "laughs.svg",
        b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
        + b"".join(
            f'<!ENTITY {new} "{f"&{old};" * 10}">'.encode() for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        )
        + b"]><svg>&i;</svg>",
    )
    yield "script.png", b"#!/bin/sh\ntouch ran\n"
    yield (
        "delegate.mvg.png",
        f"push graphic-context\nimage over 0,0 0,0 'https://hostile.invalid/|touch ran'\n{secret}".encode(),
    )
    yield "postscript.png", b"%!PS\n(ran) (w) file closefile showpage"
    yield "postscript.bmp", b"\xc5\xd0\xd3\xc6" + bytes(26) + b"%!PS\n(ran) (w) file closefile"
    yield "playlist.png", f"#EXTM3U\n#EXTINF:1,\nfile://{secret}\n".encode()
    yield "pickle.png", b"cposix\nsystem\n(S'touch ran'\ntR."
    yield "page.png", b"<html><script>1</script></html>"
    yield "empty.png", b""
    yield "one byte.png", b"\x89"
    yield "a letter.tif", b"I"


def with_text(texts) -> Iterator[tuple[str, bytes]]:
    """Yield good pictures that say such texts of themselves: comments, descriptions, names of profiles."""
    tissue = np.ascontiguousarray(phantom.draw("normal", 901, 0)[::4, ::4])
    image = Image.fromarray(tissue)
    plain = saved(image, "JPEG")
    whole = saved(image, "PNG")
    for number, text in enumerate(texts):
        data = text.encode("utf-8", "replace")[:20_000]
        yield f"{number} comment.jpg", changed(plain, add=segment(0xFE, data) + segment(0xE1, b"Exif\0\0" + data))
        name = data.replace(b"\0", b"")[:79] or b"x"
        more = chunk(b"tEXt", b"Comment\0" + data) + chunk(b"iCCP", name + b"\0\0" + zlib.compress(_profile(data)))
        yield f"{number} text.png", whole[:33] + more + whole[33:]
        tags = {tiff_files.DESCRIPTION: data + b"\0", 305: data + b"\0", 34675: (7, _profile(data))}
        yield f"{number} tags.tif", tiff_files.tiff(tags, pixels=tissue)


def _profile(text: bytes) -> bytes:
    """Return a colour profile of this name and no curves."""
    body = b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + bytes(90)
    tags = struct.pack(">I4sII", 1, b"desc", 144, len(body))
    head = struct.pack(">I4s4s4s4s4s", 144 + len(body), bytes(4), b"\2\x10\0\0", b"mntr", b"RGB ", b"XYZ ")
    return (head + bytes(12) + b"acsp").ljust(128, b"\0") + tags + body


def made(count: int, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield about so many files: known faults of each format, then damage to good files until there are enough."""
    number = 0
    listed = [*((f"{name}.png", data) for name, (data, _) in pngs().items()),
              *((f"{name}.jpg", data) for name, (data, _) in jpegs().items()),
              *((f"{name}.bmp", data) for name, (data, _) in bmps().items())]  # fmt: skip
    for name, data in [*listed, *others()]:
        yield f"fault {name}".replace("/", "-"), data
        number += 1
    whole = good()
    each = max(4, (count - number) // len(whole) - 47)
    for name, data in whole.items():
        for how, damaged in mutations.damaged(data, each, draw):
            yield f"{how} {name}", damaged
