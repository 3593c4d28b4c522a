"""Fields of JSON files that others may have changed: each is checked for what it must be before it is used."""

import json
import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import UserError
from datasets.open_file import open_file

# Of one file. A run on a hundred thousand images has fewer.
MAX_BYTES = 2**25

# Of text from outside in a message.
MAX_SHOWN = 60


class FieldError(UserError):
    """A field is missing or is not what it must be; callers name the file."""


def plain(text: str, most: int) -> str:
    """Return text from outside as one line of at most ``most`` characters, with escapes for what cannot be printed."""
    short = text[:most]
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)
    return escaped + ("..." if len(text) > most else "")


def shown(value) -> str:
    """Return how a message shows a value from outside: short, in one line, without control characters."""
    if isinstance(value, str):
        return f"'{plain(value, MAX_SHOWN)}'"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        # Python refuses to print much longer ones.
        return str(value) if value.bit_length() < 128 else "a whole number of many digits"
    kinds = {list: "a list", tuple: "a list", dict: "an object", bytes: "bytes"}
    return kinds.get(type(value), "something else")


@dataclass(frozen=True)
class Kind:
    """What a field may hold: in words, and as a test."""

    words: str
    fits: Callable[[object], bool]

    def __or__(self, other):
        return Kind(f"{self.words} or {other.words}", lambda value: self.fits(value) or other.fits(value))


TEXT = Kind("text", lambda value: isinstance(value, str))
NAME = Kind("a word", lambda value: isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable())
# For what is printed, such as a path or a note.
LINE = Kind("one line of text", lambda value: isinstance(value, str) and len(value) <= 4096 and _is_line(value))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
NOTHING = Kind("null", lambda value: value is None)
SHA256 = Kind("a SHA-256 in hex", lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value)))
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
TEXTS = Kind("a list of text", lambda value: isinstance(value, list) and all(isinstance(part, str) for part in value))


# As ``provenance`` writes them: the first 16 digits of each image's SHA-256, several where its pixels changed.
_DIGESTS = re.compile("[0-9a-f]{16}(?: [0-9a-f]{16})*")
PIXELS = Kind(
    "an object of file names, each with 16 hex digits",
    lambda value: (
        isinstance(value, dict) and all(isinstance(said, str) and _DIGESTS.fullmatch(said) for said in value.values())
    ),
)


def _is_line(text: str) -> bool:
    """Return whether text can be encoded and does not move a cursor."""
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)


def whole(least: int = 0, most: int = 10**9) -> Kind:
    return Kind(
        f"a whole number from {least} to {most}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
    )


def number(least: float = -math.inf, most: float = math.inf) -> Kind:
    """Return the kind of a finite number in a range, which has no bounds unless they are given."""
    bounds = {
        (True, True): f"a number from {least:g} to {most:g}",
        (True, False): f"a number of at least {least:g}",
        (False, True): f"a number of at most {most:g}",
    }  # fmt: skip

    def fits(value):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and least <= value <= most and abs(value) < math.inf

    return Kind(bounds.get((math.isfinite(least), math.isfinite(most)), "a number"), fits)


def one_of(*words: str) -> Kind:
    return Kind(f"one of {', '.join(words)}", lambda value: isinstance(value, str) and value in words)


def list_of(kind: Kind, least: int = 0, most: int = 10**6) -> Kind:
    count = f"{least}" if least == most else f"{least} to {most}"
    words = "a list" if (least, most) == (0, 10**6) else f"a list of {count}"
    return Kind(
        f"{words}, each {kind.words}",
        lambda value: isinstance(value, list | tuple) and least <= len(value) <= most and all(map(kind.fits, value)),
    )


def object_of(kind: Kind) -> Kind:
    return Kind(
        f"an object, each value {kind.words}",
        lambda value: isinstance(value, dict) and all(map(kind.fits, value.values())),
    )


def check(values, required: dict[str, Kind], optional: dict[str, Kind] | None = None, within: str = "") -> None:
    """Raise a FieldError on the first field of an object that is missing or wrong.

    ``required`` and ``optional`` are field names -> what the field must be; other fields are ignored. ``within`` is the
    name of the field that holds the object, if any.
    """
    if not isinstance(values, dict):
        raise FieldError(f"{within or 'it'} must be an object, not {shown(values)}")
    for name, kind in {**required, **(optional or {})}.items():
        place = f"{within}.{name}" if within else name
        if name not in values:
            if name in required:
                raise FieldError(f"{place} is missing")
        elif not kind.fits(values[name]):
            raise FieldError(f"{place} must be {kind.words}, not {shown(values[name])}")


def parse_object(text: bytes | str) -> dict:
    """Parse JSON that must be an object; ``check``, which knows the field, refuses NaN and Infinity."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        values = json.loads(text, object_pairs_hook=_once)
    except FieldError:
        raise
    except UnicodeDecodeError as error:
        raise FieldError("it is not UTF-8") from error
    except RecursionError:
        raise FieldError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise FieldError(f"it is not JSON: {error.msg} at line {error.lineno}") from error
    except ValueError as error:  # a number of thousands of digits
        raise FieldError("it holds a number that is too long") from error
    if not isinstance(values, dict):
        raise FieldError(f"it must be an object, not {shown(values)}")
    return values


def read_object(path: Path, most: int = MAX_BYTES) -> dict:
    """Read a JSON file of at most ``most`` bytes that holds an object; see ``parse_object``."""
    if not path.is_file():  # reading a pipe would wait for ever
        raise FieldError("there is no such file")
    with open_file(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise FieldError(f"it is larger than {most} bytes")
    return parse_object(content)


def _once(pairs):
    values = {}
    for name, value in pairs:
        if name in values:
            raise FieldError(f"it has {shown(name)} twice")
        values[name] = value
    return values
