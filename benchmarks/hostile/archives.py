"""Zip archives that climb, link, nest, lie, inflate, or begin inside as they do outside."""

import io
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator

from benchmarks.hostile.streams import bare_zeros

_SMALL = b"\x89PNG\r\n\x1a\n"


def archives(names, canary: str, beside: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield archives: name -> the file. Their members are called as the images that the reader looks for.

    Args:
        names: of these images.
        canary: the folder that no member may lead to.
        beside: good members that the reader looks for as well.
    """
    names = list(names)

    def of_all(data, mode: int = 0) -> bytes:
        return zipped(dict.fromkeys(names, data) | beside, mode)

    climbing = (
        "../{}",
        "../../canary/{}",
        "/{}",
        f"{canary}/{{}}",
        "..\\..\\{}",
        "C:\\{}",
        "a/../../{}",
        "./{}",
        "a//{}",
        "{}%00x",
    )
    for number, form in enumerate(climbing):
        yield f"climbs {number}", zipped({form.format(name): _SMALL for name in names} | beside)
    yield "links", of_all(f"{canary}/secret.png".encode(), stat.S_IFLNK | 0o777)
    yield "devices", of_all(b"", stat.S_IFCHR | 0o666)
    yield "pipes", of_all(b"", stat.S_IFIFO | 0o666)
    yield "a folder linked", zipped({"x": canary.encode()}, mode=stat.S_IFLNK | 0o777)
    size = 2**30 if len(names) < 100 else 2**27  # many of the larger ones would be hundreds of megabytes
    bomb = bare_zeros(size)
    yield "bombs", raw(dict.fromkeys(names, bomb), size, beside=beside)
    yield "bombs that say they are small", raw(dict.fromkeys(names, bomb), 100, beside=beside)
    yield "one bomb for all", raw(dict.fromkeys(names, bomb), size, at_one_place=True, beside=beside)
    nested = zipped(dict.fromkeys(names, _SMALL))
    for depth in range(30):
        nested = zipped({f"images{depth}.zip": nested})
        if depth in (0, 1, 29):
            yield f"nested {depth + 1}", nested
    yield "begins as itself inside", of_itself()
    yield "200,000 members", many(200_000)
    yield "the same name twice", twice([*names, *beside])
    yield "encrypted", encrypted([*names, *beside])
    yield "empty", zipped({})
    yield "end alone", b"PK\x05\x06" + b"\xff" * 18
    yield (
        "end of exabytes",
        b"PK\x06\x06" + b"\xff" * 52 + b"PK\x06\x07" + bytes(16) + b"PK\x05\x06" + b"\xff" * 16 + bytes(2),
    )
    yield "a comment of comments", zipped({"x": b""})[:-2] + struct.pack("<H", 65_535) + b"PK\x05\x06" * 16_000
    for text in ("\x1b[2J", "=1+1", "<hostile-element>", "a\nb", "x" * 60_000):
        yield f"called {ascii(text)[1:9]}", zipped({f"{text}/{name}": _SMALL for name in names[:3]})


def zipped(members: dict[str, bytes], mode: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo("x")
            info.filename, info.external_attr, info.create_system = name, mode << 16, 3
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return file.getvalue()


def raw(members: dict[str, bytes], size: int, at_one_place=False, beside: dict[str, bytes] | None = None) -> bytes:
    """Return an archive of deflate streams that are said to be of ``size`` bytes; all may be one and the same."""
    data, listed, places = bytearray(), b"", {}
    whole = [(name, stream, size, 0) for name, stream in members.items()]
    whole += [
        (name, zlib.compress(each, wbits=-15), len(each), zlib.crc32(each)) for name, each in (beside or {}).items()
    ]
    for name, stream, said, checksum in whole:
        label = name.encode()
        fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, checksum, len(stream), said, len(label), 0)
        at = places.get(stream) if at_one_place else None
        if at is None:
            at = places[stream] = len(data)
            data += b"PK\x03\x04" + fields + label + stream
        listed += b"PK\x01\x02" + struct.pack("<H", 20) + fields + bytes(10) + struct.pack("<I", at) + label
    count = len(whole)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(listed), len(data), 0)
    return bytes(data + listed + b"PK\x05\x06" + end)


def many(count: int) -> bytes:
    listed = b"".join(
        b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 33, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0)
        + b"%06d" % (number % 10**6) for number in range(count)
    )  # fmt: skip
    return listed + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count & 0xFFFF, count & 0xFFFF, len(listed), 0, 0)


def twice(names) -> bytes:
    """Return an archive with each name twice: what one reader shows and another reads."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings(action="ignore"):
        for name in [*names, *names]:
            archive.writestr(name, _SMALL)
    return file.getvalue()


def encrypted(names) -> bytes:
    data = bytearray(zipped(dict.fromkeys(names, _SMALL)))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(mark)
        while start >= 0:
            data[start + at] |= 1
            start = data.find(mark, start + 4)
    return bytes(data)


def of_itself() -> bytes:
    """Return an archive whose member begins as the archive does, and so on inwards, as deep as the format holds it."""
    head = b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, 0, 0xFFFF, 0xFFFF, 8, 0) + b"self.zip"
    body = _stored(head)
    for _ in range(1000):
        body = _stored((head + body)[:65_535])
    stream = body + b"\1\0\0\xff\xff"
    listed = b"PK\x01\x02" + struct.pack("<H", 20) + head[4:30] + bytes(14) + b"self.zip"
    end = struct.pack("<HHHHIIH", 0, 0, 1, 1, len(listed), len(head + stream), 0)
    return head + stream + listed + b"PK\x05\x06" + end


def _stored(data: bytes) -> bytes:
    """Return a block of deflate that holds bytes as they are."""
    return b"\0" + struct.pack("<HH", len(data), 0xFFFF ^ len(data)) + data
