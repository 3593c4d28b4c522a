"""Finding BACH's and BISQUE's images in a user's folder or zip, and checking that they are all there.

Nothing is unpacked: the official BACH archive also holds ten gigabytes of whole slides.
"""

import contextlib
import csv
import hashlib
import io
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from PIL import Image

from datasets.bach_bisque.archive import BACH_ARCHIVE, check_digest
from datasets.catalogue import BACH, BACH_FOLDERS, UNLABELLED, Collection, Record

TEST_ARCHIVE = "ICIAR2018_BACH_Challenge_TestDataset.zip"
GROUND_TRUTH = "microscopy_ground_truth.csv"

_BISQUE_NAME = re.compile(r"ytma\d+_\d+_(benign|malignant)\d+_ccd\.tif")
# Copies that come with masks keep them apart, some under the very names of the images.
_MASK_FOLDER = re.compile(r"masks?|ground[ _-]?truth", re.IGNORECASE)
_TEST_NAME = re.compile(r"test\d+\.tif")
_LABEL_OF_FOLDER = {folder: label for label, (folder, _) in BACH_FOLDERS.items()}

Files = dict[str, Callable[[], bytes]]  # path relative to the source, with "/" -> its content
Key = Callable[[Collection, PurePosixPath], str | None]
Say = Callable[[str], None]


def _quietly(line: str) -> None:
    pass


@contextlib.contextmanager
def find_images(
    collection: Collection, source: Path, say: Say = _quietly
) -> Iterator[dict[Record, Callable[[], bytes]]]:
    """Find every labelled image of a collection, at any depth.

    Args:
        collection: BACH or BISQUE.
        source: a folder, or a zip, or a folder that has the zip in it.
        say: prints a line for the user.

    Yields:
        For each record, in the collection's order, a function that reads its file.

    Raises:
        FileNotFoundError: nothing is there, or some images are missing.
        ValueError: images are there twice or are not of the collection, BACH's table of labels
            contradicts itself or its folders, or the zip is damaged, holds a name twice or has names that
            climb out of it.
    """
    with contextlib.ExitStack() as stack:
        opened = _open(collection, source, _key, stack, say)
        if opened is None:
            raise FileNotFoundError(_missing(collection, source))
        place, files = opened
        found = _match(collection, collection.records, place, files, _key)
        if collection.name == BACH.name:
            _check_ground_truth(collection, place, files)
        yield found


@contextlib.contextmanager
def find_test_images(collection: Collection, source: Path) -> Iterator[dict[Record, Callable[[], bytes]]]:
    """Find a collection's unlabelled test images, as ``find_images`` does; nothing if none is there.

    Where the source is the labelled images' zip, or what it unpacks to, those beside it count too.
    """
    with contextlib.ExitStack() as stack:
        places = _test_places(source) if collection.unlabelled else []
        found = (_open(collection, place, _test_key, stack) for place in places)
        opened = next(filter(None, found), None)
        yield _match(collection, collection.unlabelled, *opened, _test_key) if opened else {}


def is_there(collection: Collection, source: Path) -> bool:
    """Say whether a place holds any labelled image of a collection, whole or not.

    Raises:
        ValueError: a zip is damaged or has names that climb out of it.
    """
    with contextlib.ExitStack() as stack:
        return source.exists() and _open(collection, source, _key, stack) is not None


def read_image(collection: Collection, record: Record, read: Callable[[], bytes]) -> Image.Image:
    """Decode one file that ``find_images`` found.

    Raises:
        ValueError: the file is damaged, or is not 8-bit RGB of the collection's size.
    """
    try:
        image = Image.open(io.BytesIO(read()))
        size, mode = image.size, image.mode
        if size == collection.size and mode == "RGB":
            image.load()
    except Exception as error:  # Pillow and zipfile raise a dozen kinds for a damaged file
        raise ValueError(f"{record.filename} cannot be read ({error}): fetch it again.") from error
    if size != collection.size or mode != "RGB":
        width, height = collection.size
        raise ValueError(
            f"{record.filename} is {size[0]}x{size[1]} {mode}, but every image of {collection.name} is "
            f"{width}x{height} RGB: give the original files."
        )
    return image


def pixel_digest(image: Image.Image) -> str:
    """Return the SHA-256 of an RGB image's width, height and pixels, whatever file it came in."""
    width, height = image.size
    return hashlib.sha256(f"{width}x{height} ".encode() + image.tobytes()).hexdigest()


def _test_places(source: Path) -> list[Path]:
    """List where test images may lie: the source and, where that is BACH's zip or its root, what lies beside it."""
    if source.is_dir() and not (source / "Photos").is_dir():
        return [source]
    archive = Path(os.path.abspath(source)).with_name(TEST_ARCHIVE)
    return [source, *(place for place in (archive.with_suffix(""), archive) if place.exists())]


def _open(
    collection: Collection, source: Path, key: Key, stack: contextlib.ExitStack, say: Say = _quietly
) -> tuple[Path, Files] | None:
    """Return the place that holds the collection, and its files: the folder itself before a zip in it."""
    if not source.exists():
        raise FileNotFoundError(_missing(collection, source))
    is_file = source.is_file()
    if not is_file:
        files = _folder_files(source)
        if _holds(collection, files, key):
            return source, files
    damaged = None
    for archive in [source] if is_file else sorted(filter(Path.is_file, source.glob("*.[zZ][iI][pP]"))):
        try:
            files = _zip_files(archive, stack)
        except ValueError as error:  # it may be another collection's
            if key is _key or archive.name == TEST_ARCHIVE:  # test images may be absent: others are not missed
                damaged = damaged or error
            continue
        if _holds(collection, files, key):
            check_digest(BACH_ARCHIVE, archive, say)
            return archive, files
    if damaged:
        raise damaged
    return None


def _missing(collection: Collection, source: Path) -> str:
    where = f"lies in {source}, nor in a zip in it" if source.exists() else f"is in {source}, which does not exist"
    fetch = f", or --download to fetch {BACH_ARCHIVE.name} (10.4 GB)" if collection.name == BACH.name else ""
    return f"No image of {collection.name} {where}: give --source DIR_OR_ZIP{fetch}."


def _holds(collection: Collection, files: Files, key: Key) -> bool:
    return any(key(collection, PurePosixPath(name)) for name in files)


def _match(
    collection: Collection, records: tuple[Record, ...], place: Path, files: Files, key: Key
) -> dict[Record, Callable[[], bytes]]:
    """Give each record its file.

    Raises:
        FileNotFoundError: some are missing.
        ValueError: some are there twice, or are not of the collection.
    """
    found: dict[str, str] = {}
    for name in files:
        claimed = key(collection, PurePosixPath(name))
        if claimed in found:
            raise ValueError(f"{place} holds {claimed} twice, as {found[claimed]} and {name}: name one folder.")
        if claimed:
            found[claimed] = name
    _check_complete(collection, records, place, set(found))
    return {record: files[found[record.key]] for record in records}


def _folder_files(folder: Path) -> Files:
    files, seen = {}, set()
    for where, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names):
            path = Path(where, name)
            files[path.relative_to(folder).as_posix()] = path.read_bytes
    return files


def _zip_files(path: Path, stack: contextlib.ExitStack) -> Files:
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
    except (zipfile.BadZipFile, NotImplementedError, LookupError, ValueError) as error:  # as in read_image
        raise ValueError(f"{path} is not a whole zip file ({error}): remove it and fetch it again.") from error
    names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"{path} has an entry that climbs out of it, {name!r}: do not trust this zip.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{path} holds {twice[0]} twice under one name: make the zip anew, with one of the two.")
    return {name: partial(archive.read, name) for name in names}


def _key(collection: Collection, path: PurePosixPath) -> str | None:
    """Return the record key a path claims to be, or None for masks, tables and a computer's own files."""
    if _is_clutter(path):
        return None
    name = path.name.lower()
    match = _BISQUE_NAME.fullmatch(name)
    if collection.name == BACH.name:
        label = _LABEL_OF_FOLDER.get(path.parent.name)
        # A copy of BISQUE beside it may have a folder Benign too.
        return f"{label}/{name}" if label and name.endswith(".tif") and not match else None
    return f"{match[1]}/{name}" if match and not any(map(_MASK_FOLDER.fullmatch, path.parts[:-1])) else None


def _test_key(collection: Collection, path: PurePosixPath) -> str | None:
    """Return the record key of BACH's test image that a path claims to be: they lie in a folder Photos."""
    name = path.name.lower()
    claims = _TEST_NAME.fullmatch(name) and path.parent.name == "Photos" and not _is_clutter(path)
    return f"{UNLABELLED}/{name}" if claims else None


def _is_clutter(path: PurePosixPath) -> bool:
    return "__MACOSX" in path.parts or path.name.startswith(".")


def _check_complete(collection: Collection, records: tuple[Record, ...], place: Path, found: set[str]) -> None:
    expected = {record.key for record in records}
    if found == expected:
        return
    problems = [
        f"{len(keys)} {what} ({', '.join(sorted(keys)[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (("missing", expected - found), ("unexpected", found - expected))
        if keys
    ]
    kind = FileNotFoundError if expected - found else ValueError
    what = "test images" if records is collection.unlabelled else "images"
    message = f"{place} has {len(found)} {what} of {collection.name} where {len(expected)} belong: "
    raise kind(message + " and ".join(problems) + ".")


def _check_ground_truth(collection: Collection, place: Path, files: Files) -> None:
    """Compare BACH's own table of labels with the folders that the images lie in."""
    tables = [
        name for name in files if PurePosixPath(name).name == GROUND_TRUTH and not _is_clutter(PurePosixPath(name))
    ]
    if not tables:
        raise FileNotFoundError(f"{place} has no {GROUND_TRUTH} to check the folders against.")
    try:
        text = files[tables[0]]().decode("utf-8-sig")
    except Exception as error:  # as in read_image
        raise ValueError(f"{tables[0]} in {place} cannot be read ({error}): fetch it again.") from error
    told = {}
    for name, folder in (map(str.strip, row) for row in csv.reader(text.splitlines()) if len(row) == 2):
        if told.setdefault(name, folder) != folder:
            raise ValueError(
                f"{tables[0]} in {place} says both {told[name]} and {folder} of {name}: one of the two is wrong."
            )
    for record in collection.records:
        folder = BACH_FOLDERS[record.label][0]
        if told.get(record.filename) != folder:
            says = told.get(record.filename, "nothing")
            raise ValueError(
                f"{tables[0]} in {place} says {says} of {record.filename}, which lies in {folder}: "
                "one of the two is wrong."
            )
    if len(told) != len(collection.records):
        raise ValueError(f"{tables[0]} in {place} labels {len(told)} images where {len(collection.records)} belong.")
