"""Work in a process of its own, as only a process that ends gives all its memory back."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable

from bach_keras.signals import Terminated
from datasets.errors import WorkError


class _InChildError(Exception):
    """Shows where in the child an error was raised."""

    def __str__(self):
        return f"\n{self.args[0]}"


def alone(work: Callable, *given, prepare: Callable | None = None):
    """Call ``work`` in a new process, and return or raise what it does; ``prepare`` is called there first.

    A signal that ends this process ends that one as SIGTERM does, and it can say what is kept.
    """
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    # What is unpickled is imported, so that comes after ``prepare``.
    child = spawn.Process(target=_answer, args=(sender, prepare, pickle.dumps((work, given))))
    sys.stdout.flush()
    # Ctrl-C is for this process, which passes it on; signals that are blocked now stay so in the child.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        child.start()
        sender.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        (answer, error, place), stop = _received(receiver, child)
        child.join()
    except BaseException:
        child.kill()  # nobody waits for its work any more
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if stop is not None:
        if isinstance(error, KeyboardInterrupt):
            error.cause = stop
            raise error
        raise stop
    if error is not None:
        raise error from _InChildError(place)
    if child.exitcode:
        by_signal = child.exitcode < 0
        end = f"was ended by signal {-child.exitcode}" if by_signal else f"ended with exit code {child.exitcode}"
        reason = ", as happens where memory runs out" if child.exitcode == -signal.SIGKILL else ""
        raise WorkError(
            f"The process that did the work {end}{reason}. What is finished is kept: give the same command again."
        )
    return answer


def _received(receiver, child) -> tuple[tuple, KeyboardInterrupt | None]:
    """Return what the child sends, all None if it ended without a word, and what interrupted this process meanwhile."""
    stop = None
    while True:
        try:
            return receiver.recv(), stop
        except EOFError:
            return (None, None, None), stop
        except KeyboardInterrupt as interrupt:
            # A second one does not wait for what the first began.
            child.kill() if stop else child.terminate()
            stop = stop or interrupt


def _answer(sender, prepare, packed) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        if prepare:
            prepare()
        work, given = pickle.loads(packed)
        signal.signal(signal.SIGTERM, _stop)
        sender.send((work(*given), None, None))
    except BaseException as error:
        sender.send((None, error, traceback.format_exc()))


def _stop(number, frame):
    # A scheduler sends the signal to both processes, and this one gets it from its parent too.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGKILL)
