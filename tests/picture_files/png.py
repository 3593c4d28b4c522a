"""PNG files: name -> the file, and whether it is taken."""

import struct
import zlib

import numpy as np
from PIL import Image

from tests.picture_files import HEIGHT, WIDTH, saved, tissue

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes = b"", crc: int = 0) -> bytes:
    """Return a chunk; ``crc`` damages its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ crc)


def png(depth: int, colours: int, interlace: int = 0, *, before=b"", after=b"", palette=None, pixels=None) -> bytes:
    """Return a PNG with random samples and filters; ``before`` and ``after`` are chunks beside the pixels."""
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colours, 0, 0, interlace)
    if palette is None:
        palette = chunk(b"PLTE", bytes(range(3 * min(1 << depth, 85)))) if colours == 3 else b""
    pixels = chunk(b"IDAT", zlib.compress(rows(depth, colours, interlace))) if pixels is None else pixels
    return SIGNATURE + chunk(b"IHDR", header) + palette + before + pixels + after + chunk(b"IEND")


def rows(depth: int = 8, colours: int = 2, interlace: int = 0) -> bytes:
    """Return filtered rows of random samples."""
    random = np.random.default_rng(1)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    passes = [(0, 0, 1, 1)]
    if interlace:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    lines = []
    for left, top, across, down in passes:
        width, height = -(-(WIDTH - left) // across), -(-(HEIGHT - top) // down)
        size = (width * bits + 7) // 8
        # A palette's indices must be in it, so they are not filtered.
        most = 85 if colours == 3 and depth == 8 else 256
        lines += [
            bytes([0 if colours == 3 else line % 5]) + random.integers(0, most, size, np.uint8).tobytes()
            for line in range(height)
        ]
    return b"".join(lines)


def parted(data: bytes, size: int) -> bytes:
    """Return IDAT chunks of so many bytes each."""
    return b"".join(chunk(b"IDAT", data[at : at + size]) for at in range(0, len(data), size))


def pngs() -> dict[str, tuple[bytes, bool]]:
    """List PNG files."""
    whole, flat = zlib.compress(rows()), png(8, 2)
    listed = ((0, (1, 2, 4, 8, 16)), (2, (8, 16)), (3, (1, 2, 4, 8)), (4, (8, 16)), (6, (8, 16)))
    known = [(depth, colours) for colours, depths in listed for depth in depths]
    announced = b"\0" + b"\0\0\0\x08acTL" * 19 + b"1234567" + rows()[160:]
    exif = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    empty = 9 * chunk(b"IDAT")
    made = {
        f"depth {depth} colours {colours} interlace {interlace}": (png(depth, colours, interlace), depth < 16)
        for depth, colours in known
        for interlace in (0, 1)
    }
    for depth, colours, key in ((1, 0, b"\0\1"), (2, 0, b"\0\2"), (4, 0, b"\0\7"), (8, 0, b"\0\x80"), (8, 0, b"\1\x80"),
                                (8, 2, bytes(6)), (2, 3, b"\0\x80"), (8, 3, bytes(range(85)))):  # fmt: skip
        for interlace in (0, 1):
            data = png(depth, colours, interlace, before=chunk(b"tRNS", key))
            made[f"key {key[:3].hex()} depth {depth} colours {colours} interlace {interlace}"] = data, True
    drawn = tissue().copy()
    drawn[5:9, 3:20] = 10, 20, 30
    keyed = saved(drawn, "PNG", transparency=(10, 20, 30))
    moving = saved(drawn, "PNG", save_all=True, append_images=[Image.fromarray(255 - drawn)])
    return made | {
        "a key that is there": (keyed, True),
        "RGBA": (saved(tissue(4), "PNG"), True),
        "LA": (saved(Image.fromarray(tissue(4)).convert("LA"), "PNG"), True),
        "one bit": (saved(Image.fromarray(drawn).convert("1"), "PNG"), True),
        "palette with alpha": (saved(Image.fromarray(tissue(4)).quantize(20), "PNG"), True),
        "an index beyond the palette": (png(4, 3, palette=chunk(b"PLTE", bytes(range(9)))), True),
        "palette of too many colours": (png(1, 3, palette=chunk(b"PLTE", bytes(9))), False),
        "palette of no thirds": (png(8, 3, palette=chunk(b"PLTE", bytes(100))), False),
        "no palette": (png(8, 3, palette=b""), False),
        "palette with a wrong checksum": (png(8, 3, palette=chunk(b"PLTE", bytes(range(255)), 1)), False),
        "two palettes": (png(8, 3, palette=2 * chunk(b"PLTE", bytes(range(255)))), False),
        "palette beside true colours": (png(8, 2, palette=chunk(b"PLTE", bytes(30))), True),
        "palette beside grey": (png(8, 0, palette=chunk(b"PLTE", bytes(30))), True),
        "key of another length": (png(8, 2, before=chunk(b"tRNS", bytes(2))), False),
        "more alpha than colours": (png(2, 3, before=chunk(b"tRNS", bytes(5))), False),
        "key with a wrong checksum": (png(2, 3, before=chunk(b"tRNS", b"\0\x80", 1)), False),
        "key beside alpha": (png(8, 6, before=chunk(b"tRNS", bytes(6))), True),
        "key of no bytes": (png(8, 2, before=chunk(b"tRNS")), True),
        "two keys": (png(8, 0, before=chunk(b"tRNS", b"\0\1") + chunk(b"tRNS", b"\0\2")), True),
        "key behind the pixels": (png(8, 0, after=chunk(b"tRNS", b"\0\1")), True),
        "key before the palette": (
            png(2, 3, palette=chunk(b"tRNS", b"\0") + chunk(b"PLTE", bytes(range(12)))), True
        ),
        "gamma and colour spaces": (
            png(8, 2, before=chunk(b"gAMA", struct.pack(">I", 100_000)) + chunk(b"sRGB", b"\0")
                + chunk(b"cICP", bytes((9, 16, 0, 1))) + chunk(b"cHRM", bytes(32))), True
        ),
        "background": (png(8, 6, before=chunk(b"bKGD", bytes(6))), True),
        "significant bits": (png(8, 6, before=chunk(b"sBIT", b"\5\5\5\5")), True),
        "orientation": (png(8, 2, before=chunk(b"eXIf", exif)), True),
        "profile of 3 MB": (png(8, 2, before=chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(3 << 20), 0))), True),
        "profile that is none": (png(8, 2, before=chunk(b"iCCP", b"x\0\0" + b"none")), True),
        "profile that inflates": (png(8, 2, before=chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(9 << 20)))), True),
        "text of 3 MB": (png(8, 2, before=chunk(b"tEXt", b"k\0" + b"t" * (3 << 20))), True),
        "text that inflates": (png(8, 2, before=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(9 << 20)))), True),
        "texts of 64 MB inflated": (
            png(8, 2, before=70 * chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20)))), True
        ),
        "text behind the pixels": (png(8, 2, after=chunk(b"tEXt", b"k\0" + b"t" * (2 << 20))), True),
        "text with a wrong checksum": (png(8, 2, before=chunk(b"tEXt", b"k\0t", 1)), True),
        "text with a wrong checksum behind the pixels": (png(8, 2, after=chunk(b"tEXt", b"k\0t", 1)), True),
        "a private chunk": (png(8, 2, before=chunk(b"prVt", b"abc")), True),
        "an unknown chunk that must be known": (png(8, 2, before=chunk(b"CgBI", bytes(4))), False),
        "a chunk with a name of digits": (png(8, 2, before=chunk(b"te1t", b"")), False),
        "an animation": (moving, False),
        "an animation of one picture": (png(8, 2, before=chunk(b"acTL", bytes((0, 0, 0, 1, 0, 0, 0, 0)))), True),
        "an animation behind the pixels": (png(8, 2, after=chunk(b"fdAT", bytes(9))), False),
        "an animation announced too late": (png(8, 2, after=chunk(b"acTL", bytes((0, 0, 0, 2, 0, 0, 0, 0)))), True),
        "an animation's mark in a text": (png(8, 2, before=chunk(b"tEXt", b"k\0\0\0\0\x08acTL\0\0\0\2")), True),
        "an animation's mark in the pixels": (
            png(8, 2, pixels=chunk(b"IDAT", zlib.compress(announced, 0))), True,
        ),
        "pixels in parts of 7": (png(8, 2, pixels=parted(whole, 7)), True),
        "pixels in parts of 1": (png(8, 2, pixels=parted(whole, 1)), True),
        "pixels with empty parts": (png(8, 2, pixels=empty + parted(whole, 99) + empty), True),
        "pixels apart": (
            png(8, 2, pixels=parted(whole[:50], 50) + chunk(b"tEXt", b"k\0t") + chunk(b"IDAT", whole[50:])), False
        ),
        "parts that differ, too many": (
            png(8, 2, before=b"".join(chunk(b"teXt", bytes(i % 2)) for i in range(5000))), False
        ),
        "many texts alike": (png(8, 2, before=chunk(b"tEXt", b"k\0t") * 5000), True),
        "no pixels": (png(8, 2, pixels=b""), False),
        "empty pixels": (png(8, 2, pixels=chunk(b"IDAT")), False),
        "wrong checksum of the pixels": (png(8, 2, pixels=chunk(b"IDAT", whole, 1)), False),
        "wrong checksum of the last part": (
            png(8, 2, pixels=chunk(b"IDAT", whole[:-9]) + chunk(b"IDAT", whole[-9:], 1)), False
        ),
        "wrong Adler sum": (png(8, 2, pixels=chunk(b"IDAT", whole[:-1] + bytes([whole[-1] ^ 1]))), False),
        "wrong Adler sum in a part of its own": (
            png(8, 2, pixels=chunk(b"IDAT", whole[:-4]) + chunk(b"IDAT", bytes(4))), True
        ),
        "wrong Adler sum in two parts": (
            png(8, 2, pixels=chunk(b"IDAT", whole[:-2]) + chunk(b"IDAT", bytes(2))), True
        ),
        "end of stream in a part of its own": (
            png(8, 2, pixels=chunk(b"IDAT", whole[:-6]) + chunk(b"IDAT", whole[-6:])), True
        ),
        "no Adler sum": (png(8, 2, pixels=chunk(b"IDAT", whole[:-4])), False),
        "half an Adler sum": (png(8, 2, pixels=chunk(b"IDAT", whole[:-2])), False),
        "half an Adler sum in a part of its own": (
            png(8, 2, pixels=chunk(b"IDAT", whole[:-4]) + chunk(b"IDAT", whole[-4:-2])), True
        ),
        "more rows than pixels, cut": (
            png(8, 2, pixels=chunk(b"IDAT", zlib.compress(rows() + bytes(5000))[:-2])), False
        ),
        "more rows than pixels, cut in parts": (
            png(8, 2, pixels=parted(zlib.compress(rows() + bytes(5000))[:-6], 99)), False
        ),
        "bytes behind the stream": (png(8, 2, pixels=chunk(b"IDAT", whole + b"more")), True),
        "a part behind the stream": (png(8, 2, pixels=chunk(b"IDAT", whole) + chunk(b"IDAT", b"more")), True),
        "a damaged part behind the stream": (
            png(8, 2, pixels=chunk(b"IDAT", whole) + chunk(b"IDAT", b"more", 1)), False
        ),
        "more rows than pixels": (png(8, 2, pixels=chunk(b"IDAT", zlib.compress(rows() + bytes(500)))), True),
        "rows that are too few": (png(8, 2, pixels=chunk(b"IDAT", zlib.compress(rows()[:-1]))), False),
        "half of the rows": (png(8, 2, pixels=chunk(b"IDAT", zlib.compress(rows()[:3000]))), False),
        "damaged stream": (png(8, 2, pixels=chunk(b"IDAT", whole[:200] + bytes(20) + whole[220:])), False),
        "no zlib": (png(8, 2, pixels=chunk(b"IDAT", b"\0" + whole[1:])), False),
        "a small window": (png(8, 2, pixels=chunk(b"IDAT", _window(rows(), 9))), True),
        "an unknown filter": (png(8, 2, pixels=chunk(b"IDAT", zlib.compress(b"\x05" + rows()[1:]))), False),
        "stored rows": (png(8, 2, pixels=chunk(b"IDAT", zlib.compress(rows(), 0))), True),
        "no end": (flat[:-12], False),
        "half an end": (flat[:-3], False),
        "an end with a wrong checksum": (flat[:-1] + b"\0", False),
        "an end that says more": (flat[:-12] + chunk(b"IEND", b"x"), False),
        "bytes behind the end": (flat + b"more" * 9, True),
        "a picture behind the end": (flat + flat, True),
        "half": (flat[: len(flat) // 2], False),
        "header alone": (flat[:33], False),
        "half a header": (flat[:30], False),
        "header with a wrong checksum": (flat[:32] + bytes([flat[32] ^ 1]) + flat[33:], False),
        "two headers": (flat[:33] + flat[8:], False),
        "a chunk of 4 GB": (flat[:33] + b"\xff\xff\xff\xfftEXt" + flat[33:], False),
        "a chunk of 2 GB": (flat[:33] + b"\x7f\xff\xff\xfftEXt" + flat[33:], False),
        "copied as text": (flat[:4] + b"\n\r\x1a\n" + flat[8:], False),
        "a text before the header": (SIGNATURE + chunk(b"tEXt", b"k\0t") + flat[8:], False),
        **{f"header {name}": (_headed(*fields), False) for name, fields in {
            "depth 3": (9, 9, 3, 0, 0, 0, 0), "depth 0": (9, 9, 0, 0, 0, 0, 0), "colours 1": (9, 9, 8, 1, 0, 0, 0),
            "colours 5": (9, 9, 8, 5, 0, 0, 0), "palette of 16 bits": (9, 9, 16, 3, 0, 0, 0),
            "compression 1": (9, 9, 8, 2, 1, 0, 0), "filters 64": (9, 9, 8, 2, 0, 64, 0),
            "interlace 2": (9, 9, 8, 2, 0, 0, 2),
            "no width": (0, 9, 8, 2, 0, 0, 0), "no height": (9, 0, 8, 2, 0, 0, 0),
            "bomb": (60_000, 60_000, 8, 2, 0, 0, 0),
            "line": (600, 9, 8, 2, 0, 0, 0), "largest": (2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0),
            "beyond": (2**32 - 1, 2**32 - 1, 8, 2, 0, 0, 0), "product": (65536, 65536, 8, 2, 0, 0, 0),
        }.items()},
    }  # fmt: skip


def _window(data: bytes, bits: int) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, bits)
    return stream.compress(data) + stream.flush()


def _headed(*fields) -> bytes:
    body = chunk(b"IHDR", struct.pack(">IIBBBBB", *fields))
    return SIGNATURE + body + chunk(b"PLTE", bytes(9)) + chunk(b"IDAT", zlib.compress(bytes(4000))) + chunk(b"IEND")
