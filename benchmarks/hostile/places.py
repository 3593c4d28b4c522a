"""Places that are not plain files: devices, pipes, sockets, links, folders, files of a terabyte; and hostile names."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from benchmarks.hostile.texts import as_name


def special(folder: Path) -> Iterator[str]:
    """Make such places in a folder, and yield the name of each."""
    links = {
        "zero.png": "/dev/zero", "random.jpg": "/dev/random", "full.tif": "/dev/full", "null.bmp": "/dev/null",
        "terminal.png": "/dev/tty", "memory.png": "/proc/self/mem", "input.png": "/dev/stdin",
        "environment.png": "/proc/self/environ", "dangling.png": "/nowhere/at/all.png", "itself.png": "itself.png",
        "circle.png": "circle-2.png", "circle-2.png": "circle.png",
        "messages.png": "/dev/kmsg",
    }  # fmt: skip
    for name, target in links.items():
        os.symlink(target, folder / name)
        yield name
    os.mkfifo(folder / "pipe.png")
    os.symlink("pipe.png", folder / "link to a pipe.tif")
    (folder / "folder.png").mkdir()
    (folder / "empty folder").mkdir()
    deep = folder / "deep"
    for _ in range(60):
        deep = deep / "folder"
    deep.mkdir(parents=True)
    (folder / "linked").mkdir()
    (folder / "linked" / "below").mkdir()
    os.symlink("..", folder / "linked" / "below" / "up")
    os.symlink(".", folder / "linked" / "here")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as bound:
        here = os.getcwd()
        os.chdir(folder)  # a socket's path may not be long
        bound.bind("socket.png")
        os.chdir(here)
    heads = {
        "png": b"\x89PNG\r\n\x1a\n", "tif": b"II*\0", "jpg": b"\xff\xd8\xff\xe0", "bmp": b"BM",
        "big.tif": b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0",
    }  # fmt: skip
    for ending, head in heads.items():
        name = f"terabyte.{ending}"
        with (folder / name).open("wb") as file:
            file.write(head)
            file.truncate(2**40)
        yield name
    yield from (
        "pipe.png",
        "link to a pipe.tif",
        "folder.png",
        "empty folder",
        "deep",
        "linked",
        "socket.png",
        "not there.png",
    )


def named(folder: Path, good: bytes, texts, endings) -> Iterator[str]:
    """Write a good picture and what is not a picture under each hostile name, and yield the names."""
    for text in texts:
        for ending in endings:
            name = as_name(text, ending)
            if name is None:
                continue
            with contextlib.suppress(OSError, ValueError):
                (folder / name).write_bytes(good if ending == ".png" else b"none")
                yield name
    for raw in (b"\xff\xfe.png", b"\x80\x9b31m.png", b"\xc3\x28.png", b"\xed\xa0\xbd.png"):
        with contextlib.suppress(OSError):
            Path(os.fsdecode(os.fsencode(folder) + b"/" + raw)).write_bytes(good)
            yield os.fsdecode(raw)
