"""JSON from outside, read without the liberties that Python takes."""

import json


def loads(data: bytes | bytearray):
    """Return the value of a UTF-8 text; Python would also take UTF-16, and the last of two equal keys.

    Raises:
        ValueError: what is wrong with the text.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("the lists and objects are nested too deep") from None


def _unique(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has the same key twice")
    return found
