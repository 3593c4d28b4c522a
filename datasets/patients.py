"""Which patient a BACH image is from, as far as the challenge's organisers could say.

The challenge's data page (iciar2018-challenge.grand-challenge.org/Dataset) links a partial sheet of patients, and
says that the images which it leaves out are of other patients than those named. What that sheet says is in
``datasets.catalogue.BACH_PATIENTS``; a user may have a fuller one.
"""

import logging
import unicodedata
from collections import defaultdict
from pathlib import Path, PurePosixPath

from datasets.catalogue import BACH, BACH_PATIENTS
from datasets.errors import MissingError, UserError
from datasets.patient_names import is_unknown, patient_key, with_one_spelling
from datasets.table import find_column, read_rows
from datasets.wording import counted

LOG = logging.getLogger(__name__)

FILENAME = ("filename", "file", "image", "imagename", "imageid", "name")
PATIENT = ("patient", "patientid", "patientname", "case", "caseid")

_BY_STEM = {record.filename.removesuffix(".tif"): record.filename for record in BACH.records}


def read_patients(path: Path) -> dict[str, str]:
    """Read a sheet of BACH's patients, a CSV file with an image and its patient on each line: file name -> patient.

    The columns are named by a first line such as ``filename,patient``, in any order and among others, or are
    just these two without such a line. They are separated by commas, semicolons, tabs or bars. An image may be written
    with or without its ending and folders.

    A patient written as NA, unknown, ? or the like is not known, and spellings of one patient (P1, p1, P-001) are one:
    else a patient could be on both sides of a split. Warnings say how many are unknown, what was joined, and where the
    sheet contradicts what is known of BACH's patients.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"There is no sheet of patients {path}.")
    numbered = read_rows(path, "the sheet of patients")
    if not numbered:
        raise UserError(f"{path} is empty: a sheet of patients has lines such as b001.tif,12.")
    image_column, patient_column = 0, 1
    if not any(_stem(cell) in _BY_STEM for cell in numbered[0][1]):
        image_column, patient_column = _columns(path, numbered.pop(0)[1])
    written: dict[str, str] = {}  # file name -> its patient as the sheet spells it
    unknown, spellings = set(), set()
    for number, row in numbered:
        place = f"{path}, line {number}"
        if len(row) <= max(image_column, patient_column):
            raise UserError(f"{place}: {','.join(row)!r} is not an image and its patient.")
        filename, patient = _BY_STEM.get(_stem(row[image_column])), row[patient_column]
        if filename is None:
            raise UserError(f"{place}: BACH has no image {row[image_column]!r}; its names are like b001.tif.")
        if is_unknown(patient):
            unknown.add(filename)
            continue
        above = written.setdefault(filename, patient)
        if patient_key(above) != patient_key(patient):
            raise UserError(f"{place}: {filename} is of patient {patient} here, and of {above} above.")
        spellings.add(patient)
    if not written:
        raise UserError(f"{path} names no patient: a sheet of patients has lines such as b001.tif,12.")
    named, joined = with_one_spelling(written, spellings)
    contradictions = _contradictions(named)
    known = {} if contradictions else _of_named_patients(named)
    named |= known
    _report(path, len(unknown - set(named)), joined, len(known))
    if contradictions:
        more = f", and {len(contradictions) - 3} more" if len(contradictions) > 3 else ""
        LOG.warning(
            f"{path} contradicts the organisers' list of BACH's patients (datasets/bach_patients.csv): "
            f"{'; '.join(contradictions[:3])}{more}. The sheet is used as it is: check it."
        )
    return named


def _of_named_patients(named: dict[str, str]) -> dict[str, str]:
    """Return the patients of images that a sheet leaves out, where the organisers' list has them of one it names.

    Else such an image would train while others of its patient judge. The sheet does not contradict the list.
    """
    names = {BACH_PATIENTS[filename]: patient for filename, patient in named.items() if filename in BACH_PATIENTS}
    return {
        filename: names[known] for filename, known in BACH_PATIENTS.items() if filename not in named and known in names
    }


def _contradictions(named: dict[str, str]) -> list[str]:
    """Say which known patients a sheet splits into several, and which of them it takes for one."""
    parts, joined = defaultdict(set), defaultdict(set)
    for filename, patient in named.items():
        if filename in BACH_PATIENTS:
            parts[BACH_PATIENTS[filename]].add(patient)
            joined[patient].add(BACH_PATIENTS[filename])
    splits = [f"{known} is split into {_listed(several)}" for known, several in parts.items() if len(several) > 1]
    joins = [f"{_listed(several)} are one, {patient}" for patient, several in joined.items() if len(several) > 1]
    return sorted(splits) + sorted(joins)


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:4]
    return ", ".join(shown) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _report(path: Path, unknown: int, joined: list[str], known: int) -> None:
    if known:
        LOG.warning(
            f"{path}: {counted(known, 'image')} that it leaves out count to the patients that the organisers' list of "
            "BACH's patients (datasets/bach_patients.csv) has them of, and whose other images it names."
        )
    if unknown:
        LOG.warning(
            f"{path}: the patients of {unknown} images are unknown, so these count as images that it does not name."
        )
    if joined:
        LOG.warning(f"{path}: spellings were joined, each of these lists being one patient: {'; '.join(joined)}.")


def _columns(path: Path, header: list[str]) -> tuple[int, int]:
    """Return which column holds the image and which one the patient."""
    found = [find_column(header, names) for names in (FILENAME, PATIENT)]
    for column, wanted in zip(found, ("filename", "patient"), strict=True):
        if column is None:
            raise UserError(f"{path} has no column {wanted!r}: its first line is {','.join(header)!r}.")
    return found[0], found[1]


def _stem(cell: str) -> str:
    name = PurePosixPath(unicodedata.normalize("NFKC", cell).strip().replace("\\", "/")).name.lower()
    return name.removesuffix(".tiff").removesuffix(".tif")
