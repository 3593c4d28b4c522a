"""What a process of the campaign runs: one command of cli.py on small networks, with or without a fault."""

import atexit
import dataclasses
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

# They are imported once, in the process that all others are forked from; none of them computes anything there.
import h5py  # noqa: F401
import keras  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import tensorflow  # noqa: F401
import tensorflow_datasets  # noqa: F401

import cli
from bach_keras import recipe
from bach_keras.evidence import calibrate
from datasets import catalogue
from tests.few_phantoms import RECIPE

# Set in the environment of all that a command starts, so that what is left of it can be found.
MARK = "BACH_KERAS_FAULTS"
# A file among what a command prints that says that its fault has come.
PLANTED = "planted"
_ROOT = Path(cli.__file__).parent


@dataclass(frozen=True)
class Invocation:
    """A command, where it is given, and what goes wrong in its own process."""

    words: tuple[str, ...]
    folder: Path  # the one in which it is given
    log: Path  # a folder for what it prints, and for its temporary files
    stop: tuple[int, int] | None = None  # before which change of a file in the folder, and by which signal
    moment: tuple[float, int] | None = None  # after how many seconds of processor time, and by which signal
    most_bytes: int | None = None  # of any one file: a stand-in for a full disk
    clock: float | None = None  # the clock goes back by a day after so many seconds
    has_locks: bool = True


def execute(invocation: Invocation) -> None:
    """Run a command as ``python cli.py`` does, and end the process with its exit code."""
    os.setsid()  # so that Ctrl-C is for this process alone
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where the campaign is in the background
    _redirect(invocation.log)
    os.chdir(invocation.folder)
    make_small()
    if invocation.most_bytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (invocation.most_bytes, resource.RLIM_INFINITY))
    if invocation.moment:
        threading.Thread(target=_signal_at, args=(invocation,), daemon=True).start()
    if invocation.clock is not None:
        _set_back(invocation)
    if not invocation.has_locks:
        _take_locks(invocation)
    sys.addaudithook(_Changes(invocation).see)
    try:
        sys.exit(_run(invocation.words))
    finally:
        (invocation.log / "cost").write_text(str(time.process_time()))


def _note(invocation: Invocation) -> None:
    """Write down that the fault comes, and behind how many changes."""
    changes = invocation.log / "changes"
    count = changes.read_bytes().count(b"\n") if changes.exists() else 0
    (invocation.log / PLANTED).write_text(str(count))


def _signal_at(invocation: Invocation) -> None:
    moment, number = invocation.moment
    # A machine that is busy otherwise makes a command longer, and its processor time hardly.
    while time.process_time() < moment:
        time.sleep(0.005)
    _note(invocation)
    os.kill(os.getpid(), number)


def make_small() -> None:
    """Let all that follows in this process train networks of a moment, and draw six phantoms."""
    small = dataclasses.replace(RECIPE, cycles=1)
    recipe.default_recipe = lambda config: small
    calibrate.LEAST_IMAGES = 8
    phantoms = catalogue.PHANTOM
    catalogue.CONFIGS["phantom"] = (dataclasses.replace(phantoms, records=phantoms.records[:12:2]),)


def _run(words) -> int:
    try:
        cli.cli.main(list(words), prog_name="cli.py")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        threading._shutdown()  # as Python itself does at its end, which a forked process does not reach
        atexit._run_exitfuncs()
    return 0


def _redirect(log: Path) -> None:
    temporary = log / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    os.environ |= {"TMPDIR": str(temporary), MARK: str(log), "PYTHONPATH": str(_ROOT)}
    for number, name in ((0, os.devnull), (1, log / "stdout"), (2, log / "stderr")):
        file = os.open(name, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))


def _set_back(invocation: Invocation) -> None:
    real, start = time.time, time.time()

    def shifted():
        now = real()
        if now - start <= invocation.clock:
            return now
        if not (invocation.log / PLANTED).exists():
            _note(invocation)
        return now - 24 * 3600

    time.time = shifted
    time.time_ns = lambda: int(shifted() * 1e9)


def _take_locks(invocation: Invocation) -> None:
    import errno
    import fcntl

    def flock(file, operation):
        _note(invocation)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = flock


# Audit events of what changes files -> how many of their arguments are paths.
_CHANGING = {
    "os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2, "os.truncate": 1,
}  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class _Changes:
    """Counts what this process changes in the folder of a command, writes it down, and sends the signal when it comes.

    What libraries in C write is not seen; but they write into files and folders that Python makes and renames.
    """

    def __init__(self, invocation: Invocation):
        self._invocation, self._count, self._pid = invocation, 0, os.getpid()
        self._list = os.open(invocation.log / "changes", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)

    def see(self, event: str, args) -> None:
        if event == "open":
            path, mode, flags = args
            if not isinstance(path, (str, bytes, os.PathLike)) or not _writes(mode, flags):
                return
            paths = [path]
        elif event in _CHANGING:
            paths = args[: _CHANGING[event]]
        else:
            return
        if os.getpid() != self._pid or not any(self._is_inside(path) for path in paths):
            return
        names = " ".join(os.path.relpath(os.fsdecode(path)) for path in paths)
        os.write(self._list, f"{event} {names}\n".encode(errors="replace"))
        self._count += 1
        if self._invocation.stop and self._count == self._invocation.stop[0]:
            _note(self._invocation)
            os.kill(os.getpid(), self._invocation.stop[1])

    def _is_inside(self, path) -> bool:
        place = os.path.abspath(os.fsdecode(path))
        return place.startswith(f"{self._invocation.folder}{os.sep}")


def _writes(mode, flags) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(flags & _WRITING)
