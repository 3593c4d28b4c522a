"""Image files read in threads, ahead of whoever uses them."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from datasets.ahead import ahead, processors
from datasets.errors import UserError
from datasets.images.read import read_rgb

# Each thread holds an image of up to 150 MB, so many processors do not make them many.
THREADS = min(4, processors())


def read_ahead(paths: Iterable[Path], prepare: Callable[[np.ndarray], object], most: int) -> Iterator:
    """Yield for each file, in order, what ``prepare`` makes of its pixels, or the ``UserError`` that refuses it.

    While the caller works on what it got, at most ``most`` further files are read. Only ``THREADS`` of them are held as
    they were read, the others as ``prepare`` leaves them, which it does in the threads. Close the iterator to end them
    early.
    """

    def read(path):
        try:
            return prepare(read_rgb(path))
        except UserError as error:
            # The one that was raised keeps the file's bytes, in the frames of its traceback.
            return UserError(str(error))

    return ahead(read, paths, THREADS, most)
