"""A run of Table 1 on a machine of a cluster: trained as on one machine, unless another process trains it already."""

import contextlib
import logging
import pickle
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bach_keras.training.alone import alone
from bach_keras.training.job import Job
from bach_keras.training.train import finish
from datasets.errors import UserError, WorkError
from datasets.locked import NoLocksError, lock, no_locks_in

LOG = logging.getLogger(__name__)

# Seconds in which shared storage must show what another machine wrote, and an earlier process of a run must end.
PATIENCE = 120.0
# Seconds between two looks.
LOOK = 1.0


def comes(is_there: Callable[[], bool]) -> bool:
    """Wait for what another machine has written; return whether it came."""
    until = time.monotonic() + PATIENCE
    while not is_there():
        if time.monotonic() > until:
            return False
        time.sleep(LOOK)
    return True


def lock_of(folder: Path) -> Path:
    """Return the file that a process holds while it trains the run of a folder."""
    return folder.parent / f".{folder.name}.lock"


def train_here(packed: bytes, signs: str, number: int) -> tuple[str, str]:
    """Train a run on this machine of the cluster; return the machine's name, and what went wrong or ""."""
    machine = socket.gethostname()
    if not comes(Path(signs).exists):
        return machine, "it does not see the folder of --out, which must be on storage that all machines share."
    (Path(signs) / str(number)).write_text(machine)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray blocks it
    threading.Thread(target=_stop_with, args=(Path(signs),), daemon=True).start()
    try:
        alone(_finish_alone, packed)
    except KeyboardInterrupt as interrupt:
        return machine, f"it was stopped. {interrupt}".rstrip()
    except (UserError, WorkError, OSError) as error:
        return machine, str(error)
    return machine, ""


def _stop_with(signs: Path) -> None:
    """Interrupt this process when the folder of signs is gone."""
    while signs.exists():
        time.sleep(LOOK)
    # A signal to the process may go to a thread of Ray's, and would not wake the main one.
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def _finish_alone(packed: bytes) -> None:
    """Finish a run, unless another process trains it: one on a machine that the cluster takes for lost may."""
    job, prepare = pickle.loads(packed)
    if prepare is not None:
        prepare()
    with _only_one(job):
        finish(job)


@contextlib.contextmanager
def _only_one(job: Job) -> Iterator[None]:
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    with lock_of(job.folder).open("wb") as file:
        try:
            if not comes(lambda: lock(file)):
                raise WorkError(f"another process trains it since {PATIENCE:g} seconds: end that one first.")
        except NoLocksError:
            LOG.warning(no_locks_in(job.folder.parent, "the same run on another machine"))
        yield
