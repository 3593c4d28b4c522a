"""A CSV file of a user's images: a line for each, with its path, label and, where they are known, patient and scale."""

import logging
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import UserError
from datasets.images.scale import LARGEST, SMALLEST
from datasets.own.listed import Listed
from datasets.patient_names import is_unknown
from datasets.patients import FILENAME, PATIENT
from datasets.table import find_column, read_rows
from datasets.wording import counted

LOG = logging.getLogger(__name__)

# The columns in the order that they have without a first line that names them, and how each may be called.
_COLUMNS = {
    "path": ("path", "filepath", "imagepath", *FILENAME),
    "label": ("label", "class", "classname", "diagnosis"),
    "patient": PATIENT,
    "um_per_pixel": ("umperpixel", "micrometresperpixel", "micrometersperpixel", "micronsperpixel", "mpp"),
}
_NEEDED = ("path", "label")


def read_sheet(path: Path) -> list[Listed]:
    """Read which images a CSV file names, with paths that go from its own folder; refuse those that are not there."""
    numbered = read_rows(path, "the list of images")
    if not numbered:
        raise UserError(f"{path} is empty: write path,label,patient,um_per_pixel, and below it a line for each image.")
    first = numbered[0][1]
    sheet = _Sheet(path, dict(zip(_COLUMNS, range(len(first)), strict=False)), len(first))
    is_image = len(first) >= len(_NEEDED) and sheet.find(first[0]) is not None
    # A folder may bear the name of a column.
    if not is_image or all(find_column(first, _COLUMNS[name]) is not None for name in _NEEDED):
        sheet = _with_columns(path, numbered.pop(0)[1])
    if not numbered:
        raise UserError(f"{path} names no image: write a line for each below its first one.")
    found = [sheet.read(number, row) for number, row in numbered]
    missing = [where for where in found if isinstance(where, str)]
    if missing:
        more = f", with {counted(len(missing) - 1, 'more image')}" if len(missing) > 1 else ""
        raise UserError(f"{missing[0]} is missing{more}: paths go from the folder of the CSV file.")
    return found


def _with_columns(path: Path, header: list[str]) -> "_Sheet":
    columns = {name: find_column(header, names) for name, names in _COLUMNS.items()}
    for name in _NEEDED:
        if columns[name] is None:
            raise UserError(
                f"{path} has no column {name!r}: its first line is {','.join(header)!r}, and should be "
                f"{','.join(_COLUMNS)} (the last two where they are known)."
            )
    columns = {name: column for name, column in columns.items() if column is not None}
    unread = [cell for column, cell in enumerate(header) if column not in columns.values() and cell]
    if unread:
        LOG.warning(
            f"{path}: the columns {', '.join(unread)} are not read; those that are: "
            f"{', '.join(header[column] for column in columns.values())}."
        )
    return _Sheet(path, columns, len(header))


@dataclass(frozen=True)
class _Sheet:
    path: Path
    columns: dict[str, int]  # name -> which one it is
    width: int  # how many cells the first line has

    def read(self, number: int, row: list[str]) -> Listed | str:
        """Read a line; return where it is and what it names, where that file is missing."""
        place = f"{self.path}, line {number}"
        if any(row[self.width :]):
            raise UserError(
                f"{place} has {len(row)} cells and the first line {self.width}: put a name that holds the separator "
                "into double quotes."
            )
        cells = {name: row[column] if column < len(row) else "" for name, column in self.columns.items()}
        for name in _NEEDED:
            if not cells[name]:
                raise UserError(f"{place} has no {name}: {','.join(row)!r}.")
        where = f"{place} ({cells['path']})"
        found = self.find(cells["path"])
        if found is None:
            self._check_inside(cells["path"], where)
            return where
        patient = cells.get("patient", "")
        return Listed(
            path=found,
            name=found.relative_to(self.path.parent).as_posix(),
            label=cells["label"],
            place=where,
            patient="" if is_unknown(patient) else patient,
            um_per_pixel=_scale(cells.get("um_per_pixel", ""), place),
        )

    def find(self, cell: str) -> Path | None:
        """Return the file that a cell names below the sheet's folder: also as Windows and macOS would write it."""
        slashed = cell.replace("\\", "/")
        for text in (cell, slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))):
            path = self._absolute(text)
            if path.is_relative_to(self.path.parent) and os.path.lexists(path) and path != self.path.parent:
                return path
        return None

    def _absolute(self, cell: str) -> Path:
        # Without following links: an image is named by the place where the user sees it.
        return Path(os.path.normpath(self.path.parent / cell))

    def _check_inside(self, cell: str, where: str) -> None:
        if not self._absolute(cell.replace("\\", "/")).is_relative_to(self.path.parent):
            raise UserError(
                f"{where} lies outside of the folder of the CSV file: put the CSV file into a folder that holds all of "
                "its images."
            )


def _scale(cell: str, place: str) -> float | None:
    if is_unknown(cell):
        return None
    try:
        value = float(cell.replace(",", "."))
    except ValueError:
        value = 0.0
    if not SMALLEST <= value <= LARGEST:
        raise UserError(
            f"{place}: {cell!r} is not how many micrometres a pixel can have, from {SMALLEST:g} to {LARGEST:g}: leave "
            "the cell empty where it is unknown."
        )
    return value
