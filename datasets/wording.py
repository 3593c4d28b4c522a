"""Words that go with a number, and words of a library."""

# Of what a library says of a damaged file, which may quote the file; so many characters tell what is wrong.
_MOST = 200


def counted(count: int, noun: str) -> str:
    """Return a number and its noun: ``1 epoch``, ``3 epochs``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def in_short(error: object) -> str:
    """Return what a library says of a file in one line, its beginning where that is long."""
    said = " ".join(str(error).split())
    return said if len(said) <= _MOST else f"{said[:_MOST]}..."
