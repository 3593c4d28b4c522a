"""Which predictions the development server accepts, in which order they run, and what is under way when it stops."""

import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator

import grpc

from bach_keras.serving.remote.servable import RefusedError


class Admission:
    """What both listeners share: the count of predictions that were accepted, and the slots in which they run.

    A prediction is known by its number. The slots are given in the order of the numbers, so that neither listener's
    clients wait for the other's.
    """

    def __init__(self, at_once: int):
        self.is_open, self._is_over = True, False
        self._numbers, self._under_way = itertools.count(), 0
        self._free, self._waiting = at_once, []
        self._changed = threading.Condition()

    def enter(self) -> int:
        """Accept a prediction, which must ``leave``, and return its number; once the server stops, it is refused."""
        with self._changed:
            if not self.is_open:
                raise _stopping()
            self._under_way += 1
            return next(self._numbers)

    def leave(self) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    @contextlib.contextmanager
    def accepted(self) -> Iterator[int]:
        """Count a prediction while the context is open."""
        number = self.enter()
        try:
            yield number
        finally:
            self.leave()

    @contextlib.contextmanager
    def slot(self, number: int, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Run a prediction in its turn, unless by then its client or the server is gone."""
        with self._changed:
            heapq.heappush(self._waiting, number)
            self._changed.wait_for(lambda: self._free and self._waiting[0] == number)
            heapq.heappop(self._waiting)
            self._free -= 1
            self._changed.notify_all()  # there may be a slot for the next one too
        try:
            if not is_wanted():
                raise RefusedError(grpc.StatusCode.CANCELLED, "The client has gone.")
            if self._is_over:
                raise _stopping()
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    def close(self) -> int:
        """Accept no more; return how many predictions are under way."""
        with self._changed:
            self.is_open = False
            return self._under_way

    def wait(self, seconds: float) -> int:
        """Wait until what was accepted is answered; return how much is not, of which no more is started."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, seconds)
            self._is_over = True
            return self._under_way


def _stopping() -> RefusedError:
    return RefusedError(grpc.StatusCode.UNAVAILABLE, "The server is stopping.")
