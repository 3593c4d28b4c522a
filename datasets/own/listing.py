"""Which images a user's folder or CSV file names, and what it says of each, before any of them is opened."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import MissingError, UserError
from datasets.images.folder import is_clutter, is_image, walk
from datasets.own import sheet
from datasets.own.listed import Listed
from datasets.own.names import SHEET
from datasets.wording import counted

LOG = logging.getLogger(__name__)
_ARCHIVES = (".7z", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip")


@dataclass(frozen=True)
class Listing:
    """The images of a source, sorted by name, with their labels as they are written there."""

    source: Path  # the folder, or the CSV file
    images: tuple[Listed, ...]

    @property
    def is_sheet(self) -> bool:
        return self.source.is_file()


def read_source(source: Path) -> Listing:
    """List what a folder with a folder a label holds, or what a CSV file names: itself, or a folder's labels.csv."""
    source = Path(os.path.abspath(os.path.expanduser(source)))
    if not source.exists():
        raise MissingError(f"{source} does not exist: give --source the folder of the images, or a CSV file of them.")
    is_folder = source.is_dir()
    if is_folder and (source / SHEET).is_file():
        source = source / SHEET
        LOG.info(f"The labels are those of {source}.")
    if source.suffix.lower() in _ARCHIVES and source.is_file():
        raise UserError(f"{source} is an archive: unpack it, and give --source the folder.")
    if source.is_file():
        images = sheet.read_sheet(source)
        if is_folder:
            _name_left_out(source, images)
    elif is_folder:
        images = _of_folders(source)
    else:
        raise UserError(f"{source} is neither a folder nor a CSV file: give --source one of them.")
    images = tuple(sorted(images, key=lambda image: image.name))
    _check_names(images)
    return Listing(source, images)


def _of_folders(root: Path) -> list[Listed]:
    """List the images below a folder: the label of each is the name of the folder in it that they lie in."""
    files, closed = walk(root)
    if closed:
        raise UserError(f"{closed[0]} cannot be looked into: make it readable, or move it out of {root}.")
    if tables := [path.name for path in files if path.parent == root and path.suffix.lower() == ".csv"]:
        LOG.warning(
            f"{tables[0]} in {root} is not read: if it says the labels or patients, give it as --source, or call it "
            f"{SHEET}."
        )
    paths = [path for path in files if is_image(path)]
    if not paths:
        raise MissingError(
            f"The folder {root} holds no image (PNG, JPEG, BMP or TIFF): give --source a folder that holds a folder "
            "for each label, or a CSV file."
        )
    if loose := [path for path in paths if path.parent == root]:
        raise UserError(
            f"Nothing says the labels of images that lie in {root} itself ({loose[0].name}, {len(loose)} in all): put "
            f"each into a folder named after its label, or write {SHEET} with the columns path and label."
        )
    images = [Listed.below(root, path, label=path.relative_to(root).parts[0]) for path in paths]
    folders = {entry.name for entry in os.scandir(root) if entry.is_dir() and not is_clutter(entry.name)}
    if empty := sorted(folders - {image.label for image in images}):
        LOG.warning(f"Without an image: {', '.join(empty[:3])}{', ...' if len(empty) > 3 else ''} in {root}.")
    return images


def _name_left_out(source: Path, images: list[Listed]) -> None:
    """Warn of images that lie in the folder of a CSV file, which does not name them."""
    named = {_identity(image.path) for image in images}
    if left := [path for path in walk(source.parent)[0] if is_image(path) and _identity(path) not in named]:
        LOG.warning(
            f"Not named in {source}, and so left out: {counted(len(left), 'image')} of its folder "
            f"({left[0].relative_to(source.parent).as_posix()})."
        )


def _check_names(images: tuple[Listed, ...]) -> None:
    """Refuse names that a record cannot hold, and a file that is named twice, also through links."""
    found: dict[tuple, Listed] = {}
    for image in images:
        if not image.name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in image.name):
            raise UserError(f"{image.place} has a name that is not text in UTF-8: rename it.")
        identity = _identity(image.path)
        other = found.setdefault(identity, image)
        if other is not image:
            raise UserError(f"{other.place} and {image.place} are one file: name it once.")


def _identity(path: Path) -> tuple:
    """Return what tells a file from every other, however it is spelled and whatever links lead to it."""
    try:
        status = path.stat()
    except OSError:
        return (str(path),)
    return (status.st_dev, status.st_ino) if status.st_ino else (os.path.realpath(path),)
