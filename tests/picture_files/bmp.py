"""BMP files: name -> the file, and whether it is taken."""

import struct

import numpy as np
from PIL import Image

from tests.picture_files import HEIGHT, WIDTH, saved, tissue


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
        "a gap before the pixels": (bmp(24, 124, offset=140)[:138] + b"gg" + bmp(24, 124)[138:], True),
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
