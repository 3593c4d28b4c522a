"""Text from outside, made safe for the place where it is written: a terminal, CSV, HTML, Markdown.

Names of files, words of servers and fields of JSON may hold anything. They are kept as they are, and escaped where they
leave: one function for each kind of output. ``json.dumps`` is JSON's own.
"""

import csv
import html
import io
import re

# What moves the cursor, ends a line or turns the writing round: controls, line and paragraph separators, and the
# characters that Unicode's bidirectional algorithm obeys.
_CONTROLS = "\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# Python holds a byte that is not text as a lone surrogate. Those of the upper controls move a cursor as well; the
# others may go out as the bytes they were.
_HALVES, _CONTROL_BYTES, _OTHER_BYTES = "\ud800-\udfff", "\udc80-\udc9f", "\udca0-\udcff"
_BYTES_KEPT = rf"(?![{_OTHER_BYTES}])[{_HALVES}]"

_IN_TERMINAL = re.compile(f"[{_CONTROLS}]|{_BYTES_KEPT}")
_IN_CSV = re.compile(rf"(?![\t\n\r])[{_CONTROLS}]|{_BYTES_KEPT}")
_IN_PAGES = re.compile(f"[{_CONTROLS}{_HALVES}]")
_NOT_IN_XML = re.compile(f"[{_CONTROLS}{_HALVES}\ufffe\uffff]")

# What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection"), wide forms included.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

# What begins markup inside a line; www. and :// make links by themselves.
_MARKUP = re.compile(r"[\\`*_\[\]|~]|(?<=www)\.|:(?=//)", re.IGNORECASE)
_BEGINS_A_BLOCK = re.compile(r"^(?=[#+=-])|(?<=^\d)(?=[.)](\s|$))")


def for_terminal(text) -> str:
    """Return one line that moves no cursor and forges no other line; encode it with ``surrogateescape``."""
    return _IN_TERMINAL.sub(_shown, str(text))


def for_csv(value):
    """Return a cell that a spreadsheet takes for text; numbers and None stay what they are.

    Line breaks stay: the writer must put such a cell in quotes, as ``csv_line`` does.
    """
    if not isinstance(value, str):
        return value
    return ("'" if value.startswith(_FORMULA) else "") + _IN_CSV.sub(_shown, value)


def csv_line(cells) -> str:
    """Return a line of CSV without its end; encode it with ``surrogateescape``."""
    buffer = io.StringIO()
    # Cells that hold a character of the line's end are quoted, so it is this one, and not a bare line feed.
    csv.writer(buffer, lineterminator="\r\n").writerow(map(for_csv, cells))
    return buffer.getvalue().removesuffix("\r\n")


def for_html(value) -> str:
    """Return text for an element or for an attribute in quotes."""
    return html.escape(_IN_PAGES.sub(_shown, str(value)), quote=True)


def for_xml(value) -> str:
    """Return text for XML or JSON that another writer escapes: without controls and what is not a character."""
    return _NOT_IN_XML.sub(_shown, str(value))


def for_markdown(value) -> str:
    """Return text for a paragraph, an item of a list or a cell of a table, on one line."""
    text = _MARKUP.sub(lambda found: "\\" + found[0], _IN_PAGES.sub(_shown, str(value)).strip())
    text = _BEGINS_A_BLOCK.sub(r"\\", text)
    # Entities come last: their own signs must not be escaped.
    return html.escape(text, quote=False).replace("@", "&#64;")


def _shown(found) -> str:
    """Return a character as Python writes it in a string."""
    return ascii(found[0])[1:-1]
