"""What a sheet writes for a patient: which cells mean that nobody knows, and which spellings are one patient's.

A patient whose images are on both sides of a split flatters every score, while two patients taken for one only make
the split coarser: so in doubt spellings are joined.
"""

import decimal
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

# What R, pandas, SPSS, Excel and people write, without its signs and spaces: N/A, #N/A, <NA>, n.a., not known.
_UNKNOWN = frozenset({
    "na", "nan", "nat", "nd", "nil", "nk", "none", "null", "void", "empty", "blank", "missing",
    "unknown", "unknow", "unkown", "unkn", "unk", "unknownpatient", "unidentified", "unspecified",
    "undetermined", "undefined", "uncertain", "unclear", "anonymous", "anon", "xxx",
    "notavailable", "notapplicable", "notknown", "notgiven", "notspecified", "notprovided", "notrecorded", "nodata",
    "notreported", "notstated",
    "nopatient", "tba", "tbd", "desconhecido", "desconocido", "inconnu", "onbekend", "sconosciuto", "unbekannt",
})  # fmt: skip

# Codes of programs: Excel's errors (#REF!, #NAME?), NaN and infinity of Windows (1.#IND), a missing value of SAS and
# Stata (.a), and of SPSS, which is negative (-9, -99).
_CODE = re.compile(r"#[a-z0-9/_]+[!?]|-?1[.,]#[a-z0-9]+|\.[a-z_]|[-−–]\s*\d+([.,]\d*)?")
_NUMBER = re.compile(r"\d+([.,]\d+)?(e[+-]?\d{1,2})?")
# Words before a patient's number that say no more than that it is one: P-001, patient 1, no. 1, #1.
_TITLES = frozenset({"p", "pt", "pat", "patient", "case", "subject", "id", "no", "nr", "number", "patientid", "caseid"})


def is_unknown(cell: str) -> bool:
    """Say whether a cell names no patient: it is empty, holds signs alone (?, -), or a word or code for that."""
    text = _plain(cell)
    parts = _parts(text)
    # "Patient ?" has no name or number behind its title; P alone may be one of patients A to Z.
    is_title = set(parts) <= _TITLES and (parts != ["p"] or "?" in text)
    words = {"".join(parts), "".join(_name(parts))}
    return is_title or bool(_CODE.fullmatch(text)) or not words.isdisjoint(_UNKNOWN)


def patient_key(cell: str) -> str:
    """Return what all spellings of one patient have in common.

    Case, spaces, signs, accents as separate characters, full-width letters, leading zeros, the decimals of a whole
    number (3.0) and a title before a number (P-003, patient 3) make no difference.
    """
    text = _plain(cell)
    if _NUMBER.fullmatch(text):
        return _number(text)
    parts = _name(_parts(re.sub(r"(\d)[.,]0+$", r"\1", text)))
    numbered = [part.lstrip("0") or "0" if part.isdigit() else part for part in parts]
    # Words run together (Anna Maria, AnnaMaria); numbers do not (1-12 and 11-2).
    return re.sub(r"(?<=\d) (?=\d)", "-", " ".join(numbered)).replace(" ", "")


def with_one_spelling(patients: Mapping[str, str], others: Iterable[str] = ()) -> tuple[dict[str, str], list[str]]:
    """Name each image's patient by the first of its spellings, and list those that were joined (``P1 = p1``).

    The draw of a split goes by these names, so whichever image comes first makes no difference. ``others`` are
    spellings that count too.
    """
    spellings = defaultdict(set)
    for patient in (*patients.values(), *others):
        spellings[patient_key(patient)].add(patient)
    named = {image: min(spellings[patient_key(patient)]) for image, patient in patients.items()}
    return named, sorted(" = ".join(sorted(several)) for several in spellings.values() if len(several) > 1)


def _plain(cell: str) -> str:
    """Return one form of a text: no case, no invisible characters, ASCII digits."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cell).casefold())
    digits = (str(unicodedata.decimal(letter)) if letter.isdecimal() else letter for letter in text)
    return "".join(letter for letter in digits if unicodedata.category(letter) not in {"Cf", "Cc"}).strip()


def _parts(text: str) -> list[str]:
    """Split a text into its runs of letters and of digits; signs and spaces are left out."""
    marked = "".join(letter if unicodedata.category(letter)[0] in "LMN" else " " for letter in text)
    return [run for word in marked.split() for run in re.findall(r"[0-9]+|[^0-9]+", word)]


def _name(parts: list[str]) -> list[str]:
    """Leave out the titles before a name or number."""
    untitled = next((place for place, part in enumerate(parts) if part not in _TITLES), 0)
    return parts[untitled:]


def _number(text: str) -> str:
    """Return a number without its zeros in front and at the end, however many digits it has: 03.50 is 3.5."""
    with decimal.localcontext(prec=10_000):
        return f"{decimal.Decimal(text.replace(',', '.')).normalize():f}".replace(".", "-")
