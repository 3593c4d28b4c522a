"""Signals that end a command: SIGTERM as Ctrl-C does, so that nothing is left half-written and a sentence is said."""

import contextlib
import signal
from collections.abc import Iterator


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


def exit_code(error: BaseException | None) -> int:
    """Return the exit code of what a signal ended, as shells count: 128 and the signal's number."""
    while error is not None:
        if isinstance(error, Terminated):
            return 128 + signal.SIGTERM
        # What came from another process has its cause as an attribute.
        error = getattr(error, "cause", None) or error.__cause__
    return 128 + signal.SIGINT


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end what runs in this context as Ctrl-C does."""

    def stop(number, frame):
        raise Terminated

    # Schedulers of clusters and containers send SIGTERM before they kill, which leaves time to say what is kept.
    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # only the main thread may
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
