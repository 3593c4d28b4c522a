"""What clients may use of the development server over HTTP."""

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What clients may use of the server; times are in seconds."""

    connections: int = 64  # where one more comes, one that is idle or slow to send is closed
    bodies: int = 512 * 2**20  # bytes of all bodies that were received and not yet answered
    idle: float = 60  # until a request starts
    receive: float = 60  # from then until all of it was received
    haste: float = 5  # the same where there are too many connections
    send: float = 30  # until the client has taken the complete answer
    linger: float = 2  # until a client ends its connection, after the server has ended it


LIMITS = Limits()


class Budget:
    """Bytes that all connections share."""

    def __init__(self, most: int):
        self._left = most
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        with self._lock:
            if is_there := count <= self._left:
                self._left -= count
            return is_there

    def give_back(self, count: int) -> None:
        with self._lock:
            self._left += count
