"""Writing a file whole or not at all."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

_COUNT = itertools.count()


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside a file to write to; it becomes the file's when the block ends.

    Where the block fails, the temporary file is removed, and what was there under the file's name stays.

    Raises:
        OSError: it cannot be written, with its path: a full disk says only that it is full.
    """
    path = Path(path)
    # Short, as the file's own name may be as long as any can be; and its own, as threads may write at once.
    partial = path.with_name(f".{os.getpid()}-{next(_COUNT)}.part")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
