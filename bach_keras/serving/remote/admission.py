"""Which predictions the development server accepts, how many run at once, and what is under way when it stops."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import grpc

from bach_keras.serving.remote.servable import RefusedError


class Admission:
    """What both listeners share: the slots of predictions, and the count of those that were accepted."""

    def __init__(self, at_once: int):
        self.is_open, self._is_over = True, False
        self._slots = threading.Semaphore(at_once)
        self._under_way = 0
        self._changed = threading.Condition()

    def enter(self) -> None:
        """Accept a prediction, which must ``leave``; once the server stops, it is refused."""
        with self._changed:
            if not self.is_open:
                raise _stopping()
            self._under_way += 1

    def leave(self) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    @contextlib.contextmanager
    def accepted(self) -> Iterator[None]:
        """Count a prediction while the context is open."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    @contextlib.contextmanager
    def slot(self, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Run a prediction in its turn, unless by then its client or the server is gone."""
        with self._slots:
            if not is_wanted():
                raise RefusedError(grpc.StatusCode.CANCELLED, "The client has gone.")
            if self._is_over:
                raise _stopping()
            yield

    def close(self) -> int:
        """Accept no more; return how many predictions are under way."""
        with self._changed:
            self.is_open = False
            return self._under_way

    def wait(self, seconds: float) -> int:
        """Wait until what was accepted is answered; return how much is not, of which no more is begun."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, seconds)
            self._is_over = True
            return self._under_way


def _stopping() -> RefusedError:
    return RefusedError(grpc.StatusCode.UNAVAILABLE, "The server is stopping.")
