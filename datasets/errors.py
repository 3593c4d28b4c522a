"""What ends a command in one sentence; every other error is a bug and shows its traceback."""

import contextlib
from collections.abc import Iterator


class UserError(ValueError):
    """A mistake that the user can mend: says what is wrong, where, and what to do. Nothing was started."""


class MissingError(UserError, FileNotFoundError):
    """Something that the user named, or has to make first, is not there."""


class WorkError(RuntimeError):
    """Work that had started cannot be finished, and it is no bug: the disk is full, a server is gone."""


def in_words(error: object) -> str:
    """Return what an error says; an ``OSError`` of a file says which, without Python's number of the error."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return str(error)


@contextlib.contextmanager
def working() -> Iterator[None]:
    """Mark work that has started: an ``OSError`` in this context becomes a ``WorkError``.

    Before it, the same error means that nothing was started.
    """
    try:
        yield
    except UserError:  # MissingError is an OSError too
        raise
    except OSError as error:
        raise WorkError(in_words(error).rstrip(".") + ".") from error
