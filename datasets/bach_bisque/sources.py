"""Finding BACH's and BISQUE's images in a user's folder or zip, and checking that they are all there."""

import contextlib
import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from PIL import Image

from datasets.bach_bisque.archive import check_digest
from datasets.bach_bisque.places import Entry, Place, open_folder, open_zip
from datasets.catalogue import BACH, BACH_FOLDERS, UNLABELLED, Collection, Record
from datasets.errors import MissingError, UserError
from datasets.images.admission import NotTakenError
from datasets.images.folder import is_clutter
from datasets.images.read import decode_rgb
from datasets.images.tiff_directory import Directory
from datasets.wording import in_short

TEST_ARCHIVE = "ICIAR2018_BACH_Challenge_TestDataset.zip"
GROUND_TRUTH = "microscopy_ground_truth.csv"

_BISQUE_NAME = re.compile(r"ytma\d+_\d+_(benign|malignant)\d+_ccd\.tif")
# Copies that come with masks keep them apart, some under the very names of the images.
_MASK_FOLDER = re.compile(r"masks?|ground[ _-]?truth", re.IGNORECASE)
_TEST_NAME = re.compile(r"test\d+\.tif")
_LABEL_OF_FOLDER = {folder: label for label, (folder, _) in BACH_FOLDERS.items()}

# How TIFFs begin, and big ones, in either order of bytes.
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PHOTOMETRIC, _SAMPLES = 262, 277  # its tags
# What a TIFF's numbers of colours and of channels mean, in Pillow's words; JPEG inside a TIFF is stored as YCbCr.
_MODES = {
    (0, 1): "L", (1, 1): "L", (2, 3): "RGB", (2, 4): "RGBA", (3, 1): "P", (5, 4): "CMYK", (6, 3): "RGB", (8, 3): "LAB",
}  # fmt: skip

Key = Callable[[Collection, PurePosixPath], str | None]


@contextlib.contextmanager
def find_images(collection: Collection, source: Path) -> Iterator[dict[Record, Entry]]:
    """Find every labelled image of a collection in a folder, a zip, or a folder that has the zip in it, at any depth.

    Yields the records in the collection's order, each with a function that reads its file.
    """
    with contextlib.ExitStack() as stack:
        place = _open(collection, source, _key, stack)
        if place is None:
            raise MissingError(missing(collection, source))
        found = _match(collection, collection.records, place, _key)
        if collection.name == BACH.name:
            _check_ground_truth(collection, place)
        yield found


@contextlib.contextmanager
def find_test_images(collection: Collection, source: Path) -> Iterator[dict[Record, Entry]]:
    """Find a collection's unlabelled test images, as ``find_images`` does; nothing if none is there.

    Where the source is the labelled images' zip, or what it unpacks to, those next to it count too.
    """
    with contextlib.ExitStack() as stack:
        places = _test_places(source) if collection.unlabelled else []
        found = (_open(collection, place, _test_key, stack) for place in places)
        opened = next(filter(None, found), None)
        yield _match(collection, collection.unlabelled, opened, _test_key) if opened else {}


def is_there(collection: Collection, source: Path) -> bool:
    """Say whether a place holds any labelled image of a collection."""
    with contextlib.ExitStack() as stack:
        return source.exists() and _open(collection, source, _key, stack) is not None


def read_image(collection: Collection, record: Record, read: Callable[[], bytes]) -> Image.Image:
    """Decode one file that ``find_images`` found to its pixels; refuse all but 8-bit RGB TIFFs of the right size."""
    name, data = getattr(read, "name", record.filename), read()
    width, height = collection.size
    original = f"give the original files, {width}x{height} RGB of 8 bits, as TIFF"
    if not data:
        raise UserError(f"{name} cannot be read: it is empty; {original}.")
    if not data.startswith(_TIFF):
        raise UserError(f"{name} cannot be read: it is not a TIFF, whatever its name says; {original}.")
    try:
        pixels = decode_rgb(data)
    except NotTakenError as error:
        # How to save or convert it is advice for other images than these.
        reason, _, advice = str(error).rpartition(": ")
        reason = reason if reason and ")" not in advice else str(error)
        raise UserError(f"{name} cannot be read: it {reason}; {original}.") from error
    mode = _stored_mode(data)
    if pixels.shape[1::-1] != collection.size or mode != "RGB":
        raise UserError(
            f"{name} is {pixels.shape[1]}x{pixels.shape[0]} {mode}, but every image of {collection.name} is "
            f"{width}x{height} RGB: give the original files."
        )
    return Image.fromarray(pixels)


def _stored_mode(data: bytes) -> str:
    """Return the colours that a TIFF says it holds, in Pillow's words."""
    directory = Directory(io.BytesIO(data))
    colours, channels = directory.number(_PHOTOMETRIC), directory.number(_SAMPLES, 1)
    return _MODES.get((colours, channels), f"of {channels} channels (photometric interpretation {colours})")


def pixel_digest(image: Image.Image) -> str:
    """Return the SHA-256 of an RGB image's width, height and pixels, whatever file it came in."""
    width, height = image.size
    return hashlib.sha256(f"{width}x{height} ".encode() + image.tobytes()).hexdigest()


def _test_places(source: Path) -> list[Path]:
    """List where test images may be: the source and, where that is BACH's zip or its root, what is next to it."""
    if source.is_dir() and not (source / "Photos").is_dir():
        return [source]
    archive = Path(os.path.abspath(source)).with_name(TEST_ARCHIVE)
    return [source, *(place for place in (archive.with_suffix(""), archive) if place.exists())]


def _open(collection: Collection, source: Path, key: Key, stack: contextlib.ExitStack) -> Place | None:
    """Return the place that holds the collection: the folder itself before a zip in it."""
    if not source.exists():
        raise MissingError(missing(collection, source))
    is_file = source.is_file()
    if not is_file:
        if not source.is_dir():
            raise UserError(f"{source} is neither a folder nor a zip: give --source DIR_OR_ZIP.")
        place = open_folder(source)
        if _holds(collection, place, key):
            return place
    zips = [source] if is_file else sorted(source.glob("*.[zZ][iI][pP]"))
    damaged = None
    for archive in [path for path in zips if path.is_file() and not is_clutter(path.name)]:
        try:
            place = open_zip(archive, stack)
        except UserError as error:  # the zip may be another collection's
            if key is _key or archive.name == TEST_ARCHIVE:  # test images may be absent: others are not missed
                damaged = damaged or error
            continue
        if _holds(collection, place, key):
            if collection.archive:
                check_digest(collection.archive, archive)
            return place
    if damaged:
        raise damaged
    return None


def missing(collection: Collection, source: Path) -> str:
    """Say that a place holds no image of a collection, and what to do."""
    where = f"lies in {source}, nor in a zip in it" if source.exists() else f"is in {source}, which does not exist"
    closed = open_folder(source).closed if source.is_dir() else []
    if closed:
        where += f", as far as it can be looked into ({closed[0]} cannot)"
    fetch = f", or --download to fetch {collection.archive.name} (10.4 GB)" if collection.archive else ""
    return f"No image of {collection.name} {where}: give --source DIR_OR_ZIP{fetch}."


def _holds(collection: Collection, place: Place, key: Key) -> bool:
    return any(key(collection, PurePosixPath(name)) for name in place.files)


def _match(collection: Collection, records: tuple[Record, ...], place: Place, key: Key) -> dict[Record, Entry]:
    """Give each record its file; refuse missing, unexpected, repeated and unreadable ones."""
    found: dict[str, str] = {}
    for name in place.files:
        claimed = key(collection, PurePosixPath(name))
        if claimed in found:
            raise UserError(f"{place.path} holds {claimed} twice, as {found[claimed]} and {name}: name one folder.")
        if claimed:
            found[claimed] = name
    _check_complete(collection, records, place, set(found))
    for name in found.values():
        place.files[name].check()
    return {record: place.files[found[record.key]] for record in records}


def _key(collection: Collection, path: PurePosixPath) -> str | None:
    """Return the record key a path claims to be, or None for masks and tables."""
    name = path.name.lower()
    match = _BISQUE_NAME.fullmatch(name)
    if collection.name == BACH.name:
        label = _LABEL_OF_FOLDER.get(path.parent.name)
        # A copy of BISQUE next to it may have a folder Benign too.
        return f"{label}/{name}" if label and name.endswith(".tif") and not match else None
    return f"{match[1]}/{name}" if match and not any(map(_MASK_FOLDER.fullmatch, path.parts[:-1])) else None


def _test_key(collection: Collection, path: PurePosixPath) -> str | None:
    """Return the record key of BACH's test image that a path claims to be: they lie in a folder Photos."""
    name = path.name.lower()
    claims = _TEST_NAME.fullmatch(name) and path.parent.name == "Photos"
    return f"{UNLABELLED}/{name}" if claims else None


def _check_complete(collection: Collection, records: tuple[Record, ...], place: Place, found: set[str]) -> None:
    expected = {record.key for record in records}
    if found == expected:
        return
    problems = [
        f"{len(keys)} {what} ({', '.join(sorted(keys)[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (("missing", expected - found), ("unexpected", found - expected))
        if keys
    ]
    kind = MissingError if expected - found else UserError
    what = "test images" if records is collection.unlabelled else "images"
    message = f"{place.path} has {len(found)} {what} of {collection.name} where {len(expected)} belong: "
    closed = f"; {place.closed[0]} cannot be looked into" if place.closed else ""
    raise kind(message + " and ".join(problems) + closed + ".")


def _check_ground_truth(collection: Collection, place: Place) -> None:
    """Compare BACH's own table of labels with the folders that the images lie in."""
    tables = [name for name in place.files if PurePosixPath(name).name == GROUND_TRUTH]
    if not tables:
        raise MissingError(f"{place.path} has no {GROUND_TRUTH} to check the folders against.")
    table = f"{tables[0]} in {place.path}"
    content = place.files[tables[0]]()
    try:
        rows = list(csv.reader(content.decode("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} cannot be read ({in_short(error)}): fetch it again.") from error
    said = {}
    for name, folder in (map(str.strip, row) for row in rows if len(row) == 2):
        if said.setdefault(name, folder) != folder:
            raise UserError(f"{table} says both {said[name]} and {folder} of {name}: one of the two is wrong.")
    for record in collection.records:
        folder = BACH_FOLDERS[record.label][0]
        if said.get(record.filename) != folder:
            says = said.get(record.filename, "nothing")
            raise UserError(
                f"{table} says {says} of {record.filename}, which lies in {folder}: one of the two is wrong."
            )
    if len(said) != len(collection.records):
        raise UserError(f"{table} labels {len(said)} images where {len(collection.records)} belong.")
