"""JSON from outside, read more strictly than Python does."""

import json


def loads(data: bytes | bytearray):
    """Return the value of a UTF-8 text; anything else is a ValueError that says what is wrong."""
    # Python alone would also accept UTF-16, and take the last of two equal keys.
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("the lists and objects are nested too deep") from None


def _unique(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has the same key twice")
    return found
