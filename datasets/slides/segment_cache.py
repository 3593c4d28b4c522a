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
        self._held: OrderedDict[Hashable, Future] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the array of a key, by ``make`` where it is not held; what that raises is raised, and not held."""
        with self._lock:
            future = self._held.get(key)
            is_mine = future is None
            if is_mine:
                future = self._held[key] = Future()
            else:
                self._held.move_to_end(key)
        if is_mine:
            self._fill(key, future, make)
        return future.result()

    def _fill(self, key: Hashable, future: Future, make: Callable[[], np.ndarray]) -> None:
        try:
            array = make()
        except BaseException as error:
            with self._lock:
                del self._held[key]
            future.set_exception(error)
            return
        future.set_result(array)
        with self._lock:
            self._bytes += array.nbytes
            for oldest in [key for key, held in self._held.items() if held.done()]:
                if self._bytes <= self._most_bytes:
                    break
                self._bytes -= self._held.pop(oldest).result().nbytes
