"""Signals that end a command: SIGTERM does so as Ctrl-C does, with nothing half-written and one sentence."""

import contextlib
import re
import signal
import threading
from collections.abc import Iterator

# Seconds until a signal is looked for: one that the system gave to another thread does not end the main one's wait.
_WAKE = 0.2


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


# How TensorFlow names a signal that it took for an error of its own.
_REPLACED = re.compile(r"KeyboardInterrupt|(?:^|REPLACED BY )(Terminated):", re.MULTILINE)


def interrupt_in(error: Exception) -> KeyboardInterrupt | None:
    """Return the signal that reached TensorFlow while it built a graph, and came back as another error."""
    if isinstance(error.__context__, KeyboardInterrupt):
        return error.__context__
    found = _REPLACED.search(str(error))
    return found and (Terminated() if found[1] else KeyboardInterrupt())


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


def wait_for_signal(stopped: threading.Event) -> None:
    """Wait in the main thread until the handler of a signal sets an event, whichever thread the system gave it to."""
    while not stopped.wait(_WAKE):
        pass
