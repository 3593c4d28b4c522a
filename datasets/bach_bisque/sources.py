"""Finding BACH's and BISQUE's images in a user's folder or zip, and checking that they are all there.

Nothing is unpacked: the official BACH archive also holds ten gigabytes of whole slides.
"""

import contextlib
import csv
import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from PIL import Image

from datasets.catalogue import BACH, BACH_FOLDERS, Collection, Record

GROUND_TRUTH = "microscopy_ground_truth.csv"

_BISQUE_NAME = re.compile(r"ytma\d+_\d+_(benign|malignant)\d+_ccd\.tif")
_LABEL_OF_FOLDER = {folder: label for label, (folder, _) in BACH_FOLDERS.items()}

Files = dict[str, Callable[[], bytes]]  # path relative to the source, with "/" -> its content


@contextlib.contextmanager
def find_images(collection: Collection, source: Path) -> Iterator[dict[Record, Callable[[], bytes]]]:
    """Find every image of a collection, at any depth.

    Args:
        collection: BACH or BISQUE.
        source: a folder, or a zip, or a folder that has the zip in it.

    Yields:
        For each record, in the collection's order, a function that reads its file.

    Raises:
        FileNotFoundError: nothing is there, or some images are missing.
        ValueError: images are there twice or are not of the collection, BACH's table of labels
            contradicts its folders, or the zip is damaged or has names that climb out of it.
    """
    source = Path(source)
    with contextlib.ExitStack() as stack:
        place, files = _open(collection, source, stack)
        found: dict[str, str] = {}
        for name in files:
            key = _key(collection, PurePosixPath(name))
            if key in found:
                raise ValueError(f"{place} holds {key} twice, as {found[key]} and {name}: name one folder.")
            if key:
                found[key] = name
        _check_complete(collection, place, set(found))
        if collection.name == BACH.name:
            _check_ground_truth(collection, place, files)
        yield {record: files[found[record.key]] for record in collection.records}


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


def _open(collection: Collection, source: Path, stack: contextlib.ExitStack) -> tuple[Path, Files]:
    """Return the place that holds the collection, and its files: the folder itself before a zip in it."""
    if not source.exists():
        raise FileNotFoundError(
            f"There is no folder or zip {source} to read {collection.name} from: give --source DIR_OR_ZIP."
        )
    if source.is_file():
        return source, _zip_files(source, stack)
    files = _folder_files(source)
    if _holds(collection, files):
        return source, files
    for archive in sorted(source.glob("*.[zZ][iI][pP]")):
        files = _zip_files(archive, stack)
        if _holds(collection, files):
            return archive, files
    raise FileNotFoundError(f"No image of {collection.name} lies in {source}, nor in a zip in it.")


def _holds(collection: Collection, files: Files) -> bool:
    return any(_key(collection, PurePosixPath(name)) for name in files)


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
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a whole zip file ({error}): fetch it again.") from error
    names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"{path} has an entry that climbs out of it, {name!r}: do not trust this zip.")
    return {name: partial(archive.read, name) for name in names}


def _key(collection: Collection, path: PurePosixPath) -> str | None:
    """Return the record key a path claims to be, or None for masks, tables and a computer's own files."""
    if "__MACOSX" in path.parts or path.name.startswith("."):
        return None
    name = path.name.lower()
    if collection.name == BACH.name:
        label = _LABEL_OF_FOLDER.get(path.parent.name)
        return f"{label}/{name}" if label and name.endswith(".tif") else None
    match = _BISQUE_NAME.fullmatch(name)
    return f"{match[1]}/{name}" if match else None


def _check_complete(collection: Collection, place: Path, found: set[str]) -> None:
    expected = {record.key for record in collection.records}
    if found == expected:
        return
    problems = [
        f"{len(keys)} {what} ({', '.join(sorted(keys)[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (("missing", expected - found), ("unexpected", found - expected))
        if keys
    ]
    kind = FileNotFoundError if expected - found else ValueError
    message = f"{place} has {len(found)} images of {collection.name} where {len(expected)} belong: "
    raise kind(message + " and ".join(problems) + ".")


def _check_ground_truth(collection: Collection, place: Path, files: Files) -> None:
    """Compare BACH's own table of labels with the folders that the images lie in."""
    tables = [
        name
        for name in files
        if PurePosixPath(name).name == GROUND_TRUTH and "__MACOSX" not in PurePosixPath(name).parts
    ]
    if not tables:
        raise FileNotFoundError(f"{place} has no {GROUND_TRUTH} to check the folders against.")
    text = files[tables[0]]().decode("utf-8-sig")
    told = {row[0].strip(): row[1].strip() for row in csv.reader(text.splitlines()) if len(row) == 2}
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
