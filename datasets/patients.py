"""Which patient a BACH image is from, as far as the challenge's organisers could say.

The challenge's data page (iciar2018-challenge.grand-challenge.org/Dataset) links a partial sheet of patients, and
says that the images which it leaves out are of other patients than those named.
"""

import csv
from pathlib import Path, PurePosixPath

from datasets.catalogue import BACH

_FILENAME = ("filename", "file", "image", "imagename", "imageid", "name")
_PATIENT = ("patient", "patientid", "patientname", "case", "caseid")

_BY_STEM = {record.filename.removesuffix(".tif"): record.filename for record in BACH.records}


def read_patients(path: Path) -> dict[str, str]:
    """Read a sheet of BACH's patients: a CSV file with an image and its patient on each line.

    The columns are named by a first line such as ``filename,patient``, in any order and among others, or are
    just these two without such a line. They are parted by commas, semicolons or tabs. An image may be written
    with or without its ending and folders.

    Returns:
        BACH's file name -> patient, for the images that the sheet names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no CSV text, a column or a patient is missing, it names an image that BACH does not
            have, or one image with two patients.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no sheet of patients {path}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.reader(text.splitlines(), delimiter=_delimiter(text), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV text: save the sheet of patients as CSV (UTF-8).") from error
    numbered = [(number, [cell.strip() for cell in row]) for number, row in enumerate(rows, 1) if "".join(row).strip()]
    if not numbered:
        raise ValueError(f"{path} is empty: a sheet of patients has lines such as b001.tif,12.")
    image_column, patient_column = 0, 1
    if not any(_stem(cell) in _BY_STEM for cell in numbered[0][1]):
        image_column, patient_column = _columns(path, numbered.pop(0)[1])
    patients = {}
    for number, row in numbered:
        place = f"{path}, line {number}"
        if len(row) <= max(image_column, patient_column):
            raise ValueError(f"{place}: {','.join(row)!r} is not an image and its patient.")
        filename, patient = _BY_STEM.get(_stem(row[image_column])), row[patient_column]
        if filename is None:
            raise ValueError(f"{place}: BACH has no image {row[image_column]!r}; its names are like b001.tif.")
        if not patient:
            raise ValueError(f"{place}: {filename} has no patient: leave the line out if it is not known.")
        if patients.setdefault(filename, patient) != patient:
            raise ValueError(f"{place}: {filename} is of patient {patient} here, and of {patients[filename]} above.")
    if not patients:
        raise ValueError(f"{path} names no patient: a sheet of patients has lines such as b001.tif,12.")
    return patients


def _delimiter(text: str) -> str:
    first = text.lstrip().partition("\n")[0]
    return max(",;\t", key=first.count)


def _columns(path: Path, header: list[str]) -> tuple[int, int]:
    """Return which column holds the image and which one the patient."""
    names = ["".join(letter for letter in cell.lower() if letter.isalpha()) for cell in header]
    found = [[names.index(name) for name in wanted if name in names] for wanted in (_FILENAME, _PATIENT)]
    for columns, wanted in zip(found, ("filename", "patient"), strict=True):
        if not columns:
            raise ValueError(f"{path} has no column {wanted!r}: its first line is {','.join(header)!r}.")
    return found[0][0], found[1][0]


def _stem(cell: str) -> str:
    name = PurePosixPath(cell.strip().replace("\\", "/")).name.lower()
    return name.removesuffix(".tiff").removesuffix(".tif")
