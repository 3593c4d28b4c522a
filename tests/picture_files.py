"""PNG, JPEG and BMP files of every kind: name -> the file, and whether it is taken."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 37, 53
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def tissue(channels: int = 3) -> np.ndarray:
    """Draw smooth structure with some noise, uint8 [HEIGHT, WIDTH, channels]."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(int)
    drawn = np.clip(smooth + random.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8)
    alpha = random.integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
    return {1: drawn[..., 0], 2: np.dstack([drawn[..., :1], alpha]), 3: drawn, 4: np.dstack([drawn, alpha])}[channels]


def saved(image, kind: str, **options) -> bytes:
    """Encode with Pillow."""
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


# PNG


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
    known = [(d, c) for c, depths in ((0, (1, 2, 4, 8, 16)), (2, (8, 16)), (3, (1, 2, 4, 8)), (4, (8, 16)), (6, (8, 16)))
             for d in depths]  # fmt: skip
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
        "background and significant bits": (png(8, 6, before=chunk(b"bKGD", bytes(6)) + chunk(b"sBIT", b"\5\5\5\5")), True),
        "orientation": (png(8, 2, before=chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0")), True),
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
            png(8, 2, pixels=chunk(b"IDAT", zlib.compress(b"\0" + b"\0\0\0\x08acTL" * 19 + b"1234567" + rows()[160:], 0))),
            True,
        ),
        "pixels in parts of 7": (png(8, 2, pixels=parted(whole, 7)), True),
        "pixels in parts of 1": (png(8, 2, pixels=parted(whole, 1)), True),
        "pixels with empty parts": (png(8, 2, pixels=9 * chunk(b"IDAT") + parted(whole, 99) + 9 * chunk(b"IDAT")), True),
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
        "wrong checksum of the last part": (png(8, 2, pixels=chunk(b"IDAT", whole[:-9]) + chunk(b"IDAT", whole[-9:], 1)), False),
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
        "a text before the header": (SIGNATURE + chunk(b"tEXt", b"k\0t") + flat[8:], False),
        **{f"header {name}": (_headed(*fields), False) for name, fields in {
            "depth 3": (9, 9, 3, 0, 0, 0, 0), "depth 0": (9, 9, 0, 0, 0, 0, 0), "colours 1": (9, 9, 8, 1, 0, 0, 0),
            "colours 5": (9, 9, 8, 5, 0, 0, 0), "palette of 16 bits": (9, 9, 16, 3, 0, 0, 0),
            "compression 1": (9, 9, 8, 2, 1, 0, 0), "filters 64": (9, 9, 8, 2, 0, 64, 0), "interlace 2": (9, 9, 8, 2, 0, 0, 2),
            "no width": (0, 9, 8, 2, 0, 0, 0), "no height": (9, 0, 8, 2, 0, 0, 0), "bomb": (60_000, 60_000, 8, 2, 0, 0, 0),
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


# JPEG


def segments(data: bytes) -> list[bytes]:
    """Part a JPEG of one scan into its start, its segments, the scan with its data, and the end."""
    parts, place = [data[:2]], 2
    while data[place + 1] != 0xDA:
        size = 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        parts.append(data[place : place + size])
        place += size
    return [*parts, data[place:-2], data[-2:]]


def segment(marker: int, body: bytes) -> bytes:
    """Return one segment."""
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def changed(data: bytes, *, drop=(), add: bytes = b"", frame=None, ids: bytes = b"") -> bytes:
    """Leave segments out, put some in behind the start, change the frame, rename the channels."""
    parts = [part for part in segments(data) if part[1] not in drop]
    for index, part in enumerate(parts):
        if part[:2] in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2"):
            renamed = bytearray(part)
            for channel, name in enumerate(ids):
                renamed[10 + 3 * channel] = name
            parts[index] = frame(bytes(renamed)) if frame else bytes(renamed)
        if part[:2] == b"\xff\xda":
            renamed = bytearray(part)
            for channel, name in enumerate(ids):
                renamed[5 + 2 * channel] = name
            parts[index] = bytes(renamed)
    return b"".join([parts[0], add, *parts[1:]])


def jpegs() -> dict[str, tuple[bytes, bool]]:
    """List JPEG files."""
    image = Image.fromarray(tissue())
    plain, grey = saved(image, "JPEG"), saved(image.convert("L"), "JPEG")
    cmyk, staged = saved(image.convert("CMYK"), "JPEG"), saved(image, "JPEG", progressive=True)
    paused = saved(image, "JPEG", restart_marker_blocks=2)
    raw = saved(image, "JPEG", keep_rgb=True)
    adobe, jfif = b"Adobe\0\x64\0\0\0\0", 0xE0
    orientation = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    camera = io.BytesIO()
    image.save(camera, "MPO", save_all=True, append_images=[image.resize((20, 20))])
    scan = segments(plain)[-2]
    begin, tail = plain.index(b"\xff\xda"), b"\xff\xd9"
    bounds = [at for at in range(len(staged)) if staged[at : at + 2] in (b"\xff\xda", b"\xff\xc4")]
    pauses = [at for at in range(len(paused)) if paused[at] == 0xFF and 0xD0 <= paused[at + 1] <= 0xD7]
    made = {}
    for subsampling in (0, 1, 2):
        for quality in (5, 50, 95, 100):
            for progressive in (False, True):
                options = {"quality": quality, "subsampling": subsampling, "progressive": progressive}
                made[f"{options}"] = saved(image, "JPEG", **options), True
    for across, down in ((1, 2), (2, 1), (4, 1), (1, 4), (4, 2), (2, 4), (3, 1), (1, 3), (4, 4), (3, 3)):
        # One unit more or less of data makes it incomplete, so that most are refused; the doors must agree.
        made[f"sampling {across}x{down}"] = changed(plain, frame=_sampled(across << 4 | down)), None
    for size in ((1, 1), (7, 3), (8, 8), (16, 16), (17, 33), (50, 1)):
        made[f"size {size}"] = saved(image.resize(size), "JPEG"), True
        made[f"size {size} progressive"] = saved(image.resize(size), "JPEG", progressive=True), True
    for cut in range(1, 12):
        at = begin + (len(plain) - 2 - begin) * cut // 12
        made[f"cut at {cut}/12"] = plain[:at], False
        made[f"cut at {cut}/12 with an end"] = plain[:at] + tail, False
        made[f"cut at {cut}/12 with a tail of zeros"] = plain[:at] + bytes(400) + tail, None
        at = bounds[0] + (len(staged) - 2 - bounds[0]) * cut // 12
        made[f"progressive cut at {cut}/12 with an end"] = staged[:at] + tail, False
    for name, bound in enumerate(bounds[1:]):
        made[f"progressive without what follows scan {name}"] = staged[:bound] + tail, False
        made[f"progressive with a scan cut {name}"] = staged[: bound - 3] + staged[bound:], False
    return made | {
        "one byte missing": (plain[:-3] + tail, False),
        "two bytes missing": (plain[:-4] + tail, False),
        "the end missing": (plain[:-2], False),
        "half of the end missing": (plain[:-1], False),
        "grey": (grey, True),
        "grey, cut": (grey[:-9] + tail, False),
        "grey, progressive": (saved(image.convert("L"), "JPEG", progressive=True), True),
        "optimised": (saved(image, "JPEG", optimize=True), True),
        "CMYK": (cmyk, False),
        "CMYK without Adobe's mark": (changed(cmyk, drop=(0xEE,)), False),
        "YCCK": (changed(cmyk, drop=(0xEE,), add=segment(0xEE, adobe + b"\2")), False),
        "RGB": (raw, True),
        "RGB without Adobe's mark": (changed(raw, drop=(0xEE,)), True),
        "channels called RGB": (changed(plain, drop=(jfif,), ids=b"RGB"), True),
        "channels called RGB beside JFIF": (changed(plain, ids=b"RGB"), True),
        "channels called rgb": (changed(plain, drop=(jfif,), ids=b"rgb"), True),
        "channels from 0": (changed(plain, ids=bytes((0, 1, 2))), True),
        "channels of one name": (changed(plain, ids=bytes((1, 1, 1))), False),
        "Adobe says RGB": (changed(plain, drop=(jfif,), add=segment(0xEE, adobe + b"\0")), True),
        "Adobe says RGB beside JFIF": (changed(plain, add=segment(0xEE, adobe + b"\0")), True),
        "Adobe says YCbCr": (changed(plain, drop=(jfif,), add=segment(0xEE, adobe + b"\1")), True),
        "Adobe says YCCK": (changed(plain, drop=(jfif,), add=segment(0xEE, adobe + b"\2")), True),
        "Adobe's mark is short": (changed(plain, drop=(jfif,), add=segment(0xEE, adobe)), True),
        "two of Adobe's marks": (
            changed(plain, drop=(jfif,), add=segment(0xEE, adobe + b"\1") + segment(0xEE, adobe + b"\0")),
            True,
        ),
        "JFIF's mark is short": (changed(plain, drop=(jfif,), add=segment(jfif, b"JFIF\0\1")), True),
        "no marks": (changed(plain, drop=(jfif,)), True),
        "density": (saved(image, "JPEG", dpi=(300, 40)), True),
        "orientation": (changed(plain, add=segment(0xE1, orientation)), True),
        "EXIF that is none": (changed(plain, add=segment(0xE1, b"Exif\0\0II*\0" + b"\xff" * 40)), True),
        "thumbnail with markers": (changed(plain, add=segment(0xE1, b"Exif\0\0" + grey)), True),
        "thumbnail that is animated": (changed(plain, add=segment(0xE1, b"\0\0\0\x08acTL")), True),
        "profile of 13 MB": (saved(image, "JPEG", icc_profile=bytes(13 << 20)), True),
        "profile that is none": (changed(plain, add=segment(0xE2, b"ICC_PROFILE\0\7\2junk")), True),
        "Photoshop's mark that is none": (changed(plain, add=segment(0xED, b"Photoshop 3.0\x008BIM\0")), True),
        "pictures announced that are not there": (changed(plain, add=segment(0xE2, b"MPF\0" + bytes(30))), True),
        "comments": (changed(plain, add=segment(0xFE, b"tissue \xff\xd9\xff\xda") * 300), True),
        "too many comments": (changed(plain, add=segment(0xFE, b"") * 5000), False),
        "fill before markers": (changed(plain, add=b"\xff" * 9 + segment(0xFE, b"")), True),
        "fill before the end": (plain[:-2] + b"\xff" * 9 + tail, True),
        "bytes between segments": (changed(plain, add=segment(0xFE, b"") + bytes(5)), True),
        "bytes before the end": (plain[:-2] + bytes(40) + tail, True),
        "bytes behind the end": (plain + bytes(range(256)), True),
        "a preview behind the end": (plain + grey, True),
        "a camera's two pictures": (camera.getvalue(), True),
        "restarts": (paused, True),
        "restarts by row": (saved(image, "JPEG", restart_marker_rows=1), True),
        "restarts, progressive": (saved(image, "JPEG", restart_marker_rows=1, progressive=True), True),
        "a restart more at the end": (paused[:-2] + bytes((0xFF, 0xD0 + len(pauses) % 8)) + tail, True),
        "a restart missing": (paused[: pauses[2]] + paused[pauses[2] + 2 :], False),
        "a restart doubled": (paused[: pauses[2]] + paused[pauses[2] : pauses[2] + 2] + paused[pauses[2] :], False),
        "a restart of another number": (paused[: pauses[2] + 1] + b"\xd7" + paused[pauses[2] + 2 :], False),
        "a stretch cut": (paused[: pauses[2] - 4] + paused[pauses[2] :], False),
        "a stretch missing": (paused[: pauses[2]] + paused[pauses[3] :], False),
        "restarts unannounced": (changed(paused, drop=(0xDD,)), False),
        "restarts announced": (changed(plain, add=segment(0xDD, b"\0\1")), False),
        "restarts announced that never come": (changed(plain, add=segment(0xDD, b"\xff\xff")), True),
        "a short interval": (changed(plain, add=segment(0xDD, b"\1")), False),
        "a marker within the data": (plain[:-60] + b"\xff\x42" + plain[-60:], False),
        "arithmetic coding": (changed(plain, frame=lambda part: b"\xff\xc9" + part[2:]), False),
        "lossless": (changed(plain, frame=lambda part: b"\xff\xc3" + part[2:]), False),
        "extended": (changed(plain, frame=lambda part: b"\xff\xc1" + part[2:]), True),
        "12 bits": (changed(plain, frame=lambda part: b"\xff\xc1" + part[2:4] + b"\x0c" + part[5:]), False),
        "height to come": (changed(plain, frame=lambda part: part[:5] + b"\0\0" + part[7:]), False),
        "taller than its data": (changed(plain, frame=lambda part: part[:5] + b"\0\x60" + part[7:]), False),
        "lower than its data": (changed(plain, frame=lambda part: part[:5] + b"\0\x10" + part[7:]), True),
        "bomb": (changed(plain, frame=lambda part: part[:5] + b"\xff\xff\xff\xff" + part[9:]), False),
        "line": (changed(plain, frame=lambda part: part[:5] + b"\x10\0\0\1" + part[9:]), False),
        "no sampling": (changed(plain, frame=_sampled(0)), False),
        "a frame cut": (changed(plain, frame=lambda part: segment(0xC0, part[4:-3])), False),
        "two frames": (changed(plain, frame=lambda part: 2 * part), False),
        "no frame": (changed(plain, drop=(0xC0,)), False),
        "no scan": (plain[:begin] + tail, False),
        "a scan twice": (plain[:-2] + scan + tail, False),
        "the frame behind the scan": (b"".join([*segments(plain)[:1], scan, *segments(plain)[1:]]), False),
        "channels apart": (apart(plain, grey), True),
        "channels apart, one missing": (apart(plain, grey, 2), False),
        "no tables, so the usual ones": (changed(plain, drop=(0xC4,)), True),
        "no quantisation": (changed(plain, drop=(0xDB,)), False),
        "a hundred scans too many": (empty_scans(staged, 100), False),
        "a few empty scans": (empty_scans(staged, 3), False),
        "start alone": (plain[:4] + bytes(40), False),
        "half a header": (plain[:200], False),
        "a segment longer than the file": (plain[:4] + b"\xff\xff" + plain[6:], False),
        "a segment of no length": (changed(plain, add=b"\xff\xfe\0\0"), False),
        "a start within": (changed(plain, add=b"\xff\xd8"), False),
    }


def _sampled(factors: int):
    return lambda part: part[:11] + bytes((factors,)) + part[12:]


def apart(colour: bytes, grey: bytes, count: int = 3) -> bytes:
    """Return a JPEG that has a scan for each channel, each of which holds the same grey picture."""
    tables = [part for part in segments(grey)[1:-2] if part[1] != 0xC0]
    size = segments(grey)
    frame = next(part for part in size if part[1] == 0xC0)
    frame = segment(0xC0, frame[4:9] + b"\3" + b"".join(bytes((name, 0x11, 0)) for name in (1, 2, 3)))
    data = size[-2][10:]
    scans = [segment(0xDA, bytes((1, name, 0, 0, 63, 0))) + data for name in range(1, count + 1)]
    return b"".join([b"\xff\xd8", *tables, frame, *scans, b"\xff\xd9"])


def empty_scans(progressive: bytes, count: int) -> bytes:
    """Return a progressive JPEG with so many scans more that bring nothing new."""
    return progressive[:-2] + count * (segment(0xDA, b"\1\1\0\1\x3f\0") + b"\0") + b"\xff\xd9"


# BMP


def bmp(bits: int, header: int = 40, compression: int = 0, **fields) -> bytes:
    """Return a BMP of random bytes; ``fields`` change its header, and what belongs to it."""
    random = np.random.default_rng(2)
    width, height = fields.get("width", WIDTH), fields.get("height", HEIGHT)
    listed = fields.get("listed", 1 << bits if bits <= 8 else 0)
    palette = random.integers(0, 256, 4 * listed, np.uint8).tobytes() if bits <= 8 else b""
    size = (abs(WIDTH) * bits + 31) // 32 * 4 * abs(HEIGHT)
    rows = random.integers(
        0, fields.get("most", min(256, listed or 256) if bits == 8 else 256), size, np.uint8
    ).tobytes()
    masks = b"".join(mask.to_bytes(4, "little") for mask in fields.get("masks", ()))
    info = struct.pack("<IiiHHIIiiII", header, width, height, fields.get("planes", 1), bits, compression, 0, 0, 0,
                       fields.get("used", listed if listed != 1 << bits else 0), 0)  # fmt: skip
    info += masks if header == 40 else (masks + bytes(200))[: header - 40]
    offset = fields.get("offset", 14 + len(info) + len(palette))
    rows = rows[: len(rows) - fields.get("missing", 0)]
    return b"BM" + struct.pack("<IHHI", fields.get("size", 0), 0, 0, offset) + info + palette + rows


def bmps() -> dict[str, tuple[bytes, bool]]:
    """List BMP files."""
    image, made = Image.fromarray(tissue()), {}
    for header in (40, 52, 56, 64, 108, 124):
        for height in (HEIGHT, -HEIGHT):
            for bits in (1, 4, 8, 24, 32):
                made[f"{bits} bits, header {header}, height {height}"] = bmp(bits, header, height=height), True
            made[f"16 bits, header {header}, height {height}"] = bmp(16, header, height=height), False
    order = (0xFF0000, 0xFF00, 0xFF)
    for header in (40, 52, 56, 108, 124):
        for name, masks, taken in (
            ("usual", order, True), ("red first", order[::-1], False), ("two alike", (255, 255, 255), False),
            ("shifted", (0xFF000000, 0xFF0000, 0xFF00), False), ("ten bits", (0x3FF00000, 0xFFC00, 0x3FF), False),
            ("none", (0, 0, 0), False),
        ):  # fmt: skip
            for height in (HEIGHT, -HEIGHT):
                made[f"masks {name}, header {header}, height {height}"] = (
                    bmp(32, header, 3, masks=masks, height=height), taken
                )  # fmt: skip
        if header >= 56:
            made[f"alpha, header {header}"] = bmp(32, header, 3, masks=(*order, 0xFF000000)), False
        made[f"masks of 16 bits, header {header}"] = bmp(16, header, 3, masks=(0xF800, 0x7E0, 0x1F)), False
    for compression, bits in ((1, 8), (2, 4), (3, 24), (3, 8), (4, 24), (5, 24), (6, 32), (11, 32), (99, 24)):
        made[f"compression {compression}, {bits} bits"] = bmp(bits, 40, compression), False
    for bits in (0, 2, 3, 15, 48, 64):
        made[f"{bits} bits"] = bmp(bits, listed=0), False
    for header in (0, 12, 16, 36, 41, 60, 2**31):
        made[f"header of {header}"] = bmp(24)[:14] + header.to_bytes(4, "little") + bmp(24)[18:], False
    return made | {
        "masks of OS/2": (bmp(32, 64, 3, masks=order), False),
        **{f"by Pillow, {mode}": (saved(image.convert(mode), "BMP"), True) for mode in ("1", "L", "P", "RGB", "RGBA")},
        "few colours": (bmp(8, listed=7), True),
        "few colours, all said to be used": (bmp(8, listed=7, most=256), False),
        "colours of no number": (bmp(4, used=0), True),
        "too many colours": (bmp(8, used=257), False),
        "far too many colours": (bmp(8, used=2**32 - 1), False),
        "colours of true colours": (bmp(24, used=256), True),
        "pixels in the palette": (bmp(8, offset=100), False),
        "pixels in the header": (bmp(24, offset=20), False),
        "pixels in the masks": (bmp(32, 40, 3, masks=order, offset=54), False),
        "pixels at 0": (bmp(24, offset=0), False),
        "pixels behind the file": (bmp(24, offset=2**31), False),
        "pixels far behind the file": (bmp(24, offset=2**32 - 1), False),
        "a gap before the pixels": (bmp(24, 124)[:10] + bmp(24, 124, offset=140)[10:138] + b"gg" + bmp(24, 124)[138:], True),
        "one byte missing": (bmp(24, missing=1), False),
        "half missing": (bmp(8, missing=1000), False),
        "bytes behind": (bmp(24) + bytes(99), True),
        "another size said": (bmp(24, size=12), True),
        "no planes": (bmp(24, planes=0), False),
        "many planes": (bmp(24, planes=3), False),
        "no width": (bmp(24, width=0), False),
        "no height": (bmp(24, height=0), False),
        "negative width": (bmp(24, width=-WIDTH), False),
        "lowest height": (bmp(24, height=-(2**31)), False),
        "largest": (bmp(24, width=2**31 - 1, height=2**31 - 1), False),
        "bomb": (bmp(1, width=60_000, height=60_000), False),
        "line": (bmp(24, width=3000, height=1), False),
        "header cut": (bmp(24)[:50], False),
        "masks cut": (bmp(32, 40, 3, masks=order)[:60], False),
    }  # fmt: skip
