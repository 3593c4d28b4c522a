"""A table that a user wrote, as CSV: however a spreadsheet separates, encodes and ends its lines."""

import codecs
import csv
import io
from pathlib import Path

from datasets.errors import UserError

_DELIMITERS = ",;\t|"


def read_rows(path: Path, what: str) -> list[tuple[int, list[str]]]:
    """Return the lines that are not empty, as stripped cells with their numbers; ``what`` names the table in an error.

    Commas, semicolons, tabs or bars may separate the cells, in UTF-8 or UTF-16.
    """
    try:
        text = _text(path.read_bytes())
        delimiter = _delimiter(text)
        # csv must see line breaks within quotes; a bare carriage return, as old spreadsheets write, is one too.
        reader = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not CSV text: save {what} as CSV (UTF-8).") from error
    if rows and rows[0][1] == ["sep=", ""]:  # tells Excel what separates the cells
        rows.pop(0)
    return [(number, row) for number, row in rows if any(row)]


def find_column(header: list[str], names: tuple[str, ...]) -> int | None:
    """Return the column that bears one of these names, the first of them that is there; signs and case do not count."""
    letters = ["".join(letter for letter in cell.lower() if letter.isalpha()) for cell in header]
    return next((letters.index(name) for name in names if name in letters), None)


def _text(content: bytes) -> str:
    """Decode UTF-8, or the UTF-16 that Excel calls Unicode text, with or without its mark."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    if b"\0" in content[:2]:
        return content.decode("utf-16-be" if content[:1] == b"\0" else "utf-16-le")
    return content.decode("utf-8-sig")


def _delimiter(text: str) -> str:
    """Return what splits the first line into most cells."""
    first = text.lstrip("\r\n").splitlines()[:1]
    if first and first[0].lower().startswith("sep=") and len(first[0]) == 5:
        return first[0][4]
    return max(_DELIMITERS, key=lambda delimiter: len(next(csv.reader(first, delimiter=delimiter), [])))
