"""The list of what is to be answered, kept on the disk: each name once, in order, cut into shards."""

import codecs
import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bach_keras.serving.bulk import files
from bach_keras.serving.bulk.doubles import find_doubles, key_of
from bach_keras.wording import counted
from datasets.digest import sha256_of
from datasets.errors import MissingError, UserError
from datasets.images import formats
from datasets.images.folder import find_images
from datasets.whole import whole

FILE = "inputs"
# A name ends with what no name can hold.
END = b"\0"
# A file's path has at most 4096 bytes; what is longer is no list of paths.
LONGEST = 8192
# So many doubles are named.
NAMED = 3


@dataclass(frozen=True)
class Inputs:
    """A list of names in a file, each followed by ``END``."""

    path: Path
    count: int
    sha256: str
    folder: str | None  # where relative names begin; None where there are none
    doubles: int = 0  # names of the input that were left out, as they were there before
    named_doubles: tuple[str, ...] = ()

    def offsets(self, size: int) -> list[int]:
        """Return where each ``size``-th name begins, and where the last ends."""
        places, seen, start = [0], 0, 0
        with self.path.open("rb") as file:
            while data := file.read(2**20):
                ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 0) + 1
                places += (start + ends[size - 1 - seen % size :: size]).tolist()
                seen, start = seen + len(ends), start + len(data)
        return places if seen % size == 0 else [*places, start]


def is_list(path: Path) -> bool:
    """Return whether a file may be a list that ``write_inputs`` wrote: no other text ends as one does."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 1))
        return file.read() == END


def names_between(path: Path, start: int, end: int) -> list[str]:
    with path.open("rb") as file:
        file.seek(start)
        return [os.fsdecode(name) for name in file.read(end - start).split(END)[:-1]]


def write_inputs(source: str, place: Path) -> Inputs:
    """Write the names of an input to a file: a folder, a text file of paths and URLs, ``-``, or the URL of a folder.

    A name that is there again is left out. The names are not looked up: what is missing will be a row that says so.
    """
    here = os.getcwd()
    keys, raw = place.with_name(f"{place.name}.keys"), place.with_name(f"{place.name}.raw")
    try:
        count, is_relative = _write(_names(source), here, raw, keys)
        if count == 0:
            raise MissingError(f"{source} holds no path: write one on each line.")
        again = find_doubles(keys, count)
        named = []
        digest = hashlib.sha256()
        with whole(place) as partial, partial.open("wb") as file:
            for name in _without(raw, again, named):
                digest.update(name + END)
                file.write(name + END)
    finally:
        for each in (keys, raw):
            each.unlink(missing_ok=True)
    folder = here if is_relative else None
    return Inputs(place, count - len(again), digest.hexdigest(), folder, len(again), tuple(named))


def as_before(listed: Inputs, place: Path, there: dict) -> Inputs | None:
    """Return the list of an earlier run, kept at a place, if it names the same files spelled otherwise; else None.

    Args:
        there: what the manifest says of that list.
    """
    before = replace(listed, path=place, sha256=there["sha256"], folder=there["folder"])
    if (before.sha256, before.folder) == (listed.sha256, listed.folder) or there["count"] != listed.count:
        return None
    if not place.is_file() or sha256_of(place) != before.sha256:
        return None
    return before if _sha256_in_full(before) == _sha256_in_full(listed) else None


def _sha256_in_full(inputs: Inputs) -> str:
    """Return the digest of a list in which every path is written in full."""
    digest, start = hashlib.sha256(), os.fsencode(inputs.folder or "")
    for name in _split(inputs.path):
        digest.update((name if b"://" in name else os.path.normpath(os.path.join(start, name))) + END)
    return digest.hexdigest()


def _write(names, here: str, raw: Path, keys: Path) -> tuple[int, bool]:
    """Write names and their keys as they come; return how many, and whether one of them is a relative path."""
    count, is_relative = 0, False
    start = os.fsencode(here) + b"/"
    with raw.open("wb") as file, keys.open("wb") as key_file:
        for name in names:
            is_absolute = name.startswith(b"/") or b"://" in name
            is_relative = is_relative or not is_absolute
            key_file.write(key_of(name if is_absolute else start + name))
            file.write(name + END)
            count += 1
    return count, is_relative


def _without(raw: Path, again: np.ndarray, named: list[str]) -> Iterator[bytes]:
    """Yield the names of a file but for those at the places ``again``; the first of these go into ``named``."""
    left = iter(again.tolist())
    following = next(left, None)
    for number, name in enumerate(_split(raw)):
        if number != following:
            yield name
            continue
        following = next(left, None)
        if len(named) < NAMED:
            named.append(os.fsdecode(name))


def _split(path: Path) -> Iterator[bytes]:
    rest = b""
    with path.open("rb") as file:
        while data := file.read(2**20):
            *names, rest = (rest + data).split(END)
            yield from names


def _names(source: str) -> Iterator[bytes]:
    if source == "-":
        yield from _lines(sys.stdin.buffer, "stdin")
    elif files.is_url(source):
        found = files.images_below(source)
        if not found:
            raise MissingError(f"{source} holds no image (PNG, JPEG, BMP or TIFF).")
        yield from (name.encode() for name in found)
    elif os.path.isdir(source):
        yield from (os.fsencode(path) for path in find_images([source]))
    else:
        if not os.path.exists(source):
            raise MissingError(f"{source} is not there: name a folder of images, a list of paths, or a URL.")
        try:
            with open(source, "rb") as file:
                yield from _lines(file, source)
        except UserError:  # one of them is an OSError too
            raise
        except OSError as error:  # without the file's name, where reading fails
            raise UserError(f"{source} cannot be read: {error.strerror or error}.") from error


def _lines(file, source: str) -> Iterator[bytes]:
    """Yield the paths of a text file, as ``pathlib`` writes them; blank lines are passed over."""
    number = 0
    while line := file.readline(LONGEST):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
            _check_list(line, source)
        if len(line) == LONGEST or END in line:
            raise UserError(f"{source} is not a list of paths: line {number} is not text. Write one path on each line.")
        name = line.rstrip(b"\r\n")
        if name.strip():
            yield name if b"://" in name else os.fsencode(Path(os.fsdecode(name)))


def _check_list(line: bytes, source: str) -> None:
    if formats.sniff(line) is not None:
        raise UserError(f"{source} is an image, not a list: name its folder, or a text file with a path on each line.")
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{source} is text in UTF-16: save the list as UTF-8.")


def warnings_of(inputs: Inputs) -> tuple[str, ...]:
    """Return the sentences that are to be read of a list."""
    if not inputs.doubles:
        return ()
    named = ", ".join(inputs.named_doubles) + (", ..." if inputs.doubles > len(inputs.named_doubles) else "")
    return (f"{counted(inputs.doubles, 'path')} of the input were there before and will be answered once: {named}",)
