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

    Threads and memory are those of ``each_ahead``.
    """
    return each_ahead(paths, lambda path: prepare(read_rgb(path)), most)


def each_ahead(paths: Iterable[Path], function: Callable[[Path], object], most: int) -> Iterator:
    """Yield for each file, in order, what ``function`` makes of it, or the ``UserError`` that it raises.

    While the caller works on what it got, at most ``most`` further files are read. Only ``THREADS`` of them are held as
    they were read, the others as ``function`` leaves them, which runs in the threads. Close the iterator to end them
    early.
    """

    def refusing(path):
        try:
            return function(path)
        except UserError as error:
            # The one that was raised keeps the file's bytes, in the frames of its traceback.
            return UserError(str(error))

    return ahead(refusing, paths, THREADS, most)
