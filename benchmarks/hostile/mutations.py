"""Damage that any file can have: cut at every tenth, bits flipped, another beginning, zeros and repeats within."""

import random
from collections.abc import Iterator

# How files of other kinds begin; what follows is then read by the wrong reader, if by any.
HEADS = {
    "png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff\xe0", "bmp": b"BM\x36\0\0\0", "tiff": b"II*\0\x08\0\0\0",
    "big-endian tiff": b"MM\0*\0\0\0\x08", "bigtiff": b"II+\0\x08\0\0\0", "gif": b"GIF89a", "webp": b"RIFF\0\0\0\0WEBP",
    "zip": b"PK\x03\x04", "hdf5": b"\x89HDF\r\n\x1a\n", "pickle": b"\x80\x04\x95", "pdf": b"%PDF-1.7\n",
    "postscript": b"%!PS-Adobe-3.0\n", "svg": b"<svg xmlns='http://www.w3.org/2000/svg'>", "elf": b"\x7fELF",
    "script": b"#!/bin/sh\n", "zeros": bytes(8), "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
}  # fmt: skip


def cut(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the file cut at every tenth, nothing included, and without its last byte."""
    for tenth in range(10):
        yield f"cut at {tenth} tenths", data[: len(data) * tenth // 10]
    yield "cut by a byte", data[:-1]


def headed(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the file with the beginning of each other kind, in place of its own and before it."""
    for name, head in HEADS.items():
        yield f"begins as {name}", head + data[len(head) :]
        yield f"behind {name}", head + data


def flipped(data: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Return the file with some bits changed: more of them at the beginning, where files say what they are."""
    changed = bytearray(data)
    how = draw.choice(("a bit", "bits", "bits of the head", "bytes", "zeros", "a repeat", "a gap"))
    if not changed:
        return how, b""
    near = min(len(changed), 600) if how == "bits of the head" or draw.random() < 0.5 else len(changed)
    if how in ("a bit", "bits", "bits of the head"):
        for _ in range(1 if how == "a bit" else draw.randint(2, 30)):
            changed[draw.randrange(near)] ^= 1 << draw.randrange(8)
    elif how == "bytes":
        for _ in range(draw.randint(1, 8)):
            changed[draw.randrange(near)] = draw.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
    else:
        start = draw.randrange(near)
        end = start + draw.randint(1, 200)
        part = bytes(changed[start:end])
        changed[start:end] = {"zeros": bytes(len(part)), "a repeat": part * 3, "a gap": b""}[how]
    return how, bytes(changed)


def damaged(data: bytes, count: int, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield the cut ones, the headed ones, and so many with flipped bits."""
    yield from cut(data)
    yield from headed(data)
    for number in range(count):
        how, changed = flipped(data, draw)
        yield f"{number:04d} {how}", changed
