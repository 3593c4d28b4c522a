"""The strips and tiles of a slide that were decoded last: neighbouring windows share them."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

import numpy as np


class SegmentCache:
    """Keeps the arrays that were used last, of up to so many bytes in all. Threads that want the same wait for one."""

    def __init__(self, most_bytes: int):
        self._most_bytes = most_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, np.ndarray] = OrderedDict()  # the one that was used last is the last
        self._in_work: dict[Hashable, Future] = {}

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the array of a key, by ``make`` where it is not held; what that raises is raised, and not held."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
            future = self._in_work.get(key)
            is_mine = future is None
            if is_mine:
                future = self._in_work[key] = Future()
        if is_mine:
            self._fill(key, future, make)
        return future.result()

    def _fill(self, key: Hashable, future: Future, make: Callable[[], np.ndarray]) -> None:
        array = None
        try:
            array = make()
            future.set_result(array)
        except BaseException as error:
            future.set_exception(error)
        with self._lock:
            del self._in_work[key]
            if array is not None:
                self._held[key] = array
                self._bytes += array.nbytes
            while self._bytes > self._most_bytes:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
