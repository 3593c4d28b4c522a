"""TensorFlow starts without Keras, and TensorFlow and LiteRT without the lines that no setting hides.

C++ libraries write these lines straight to file descriptor 2 before they read any setting. So while they start, what
arrives there goes through a small process that drops the lines it knows, and passes on every other. It is a process,
and not a thread, because it must pass on the last words of libraries that crash.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from bach_keras import known_lines

LOG = logging.getLogger(__name__)

# There is one file descriptor 2: of two threads that filter it at once, one would put back the other's filter.
_FILTERING = threading.RLock()


def _wants_all_lines() -> bool:
    return os.environ.get("TF_CPP_MIN_LOG_LEVEL") in ("0", "1")


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Say whether this machine has an NVIDIA GPU that ``CUDA_VISIBLE_DEVICES`` does not hide."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1") and any(devices.glob("nvidia[0-9]*"))


def quiet_tensorflow() -> None:
    """Let the first import of TensorFlow be quiet, unless ``TF_CPP_MIN_LOG_LEVEL`` is 0 or 1, and without Keras."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as usual, once, and filters what it writes while it starts."""

    def find_spec(self, name, path=None, target=None):
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: _start(module, execute)
        return spec


def _start(tensorflow, execute) -> None:
    with filtered():
        with _without_keras():
            execute(tensorflow)
        # The libraries of CUDA start, and write, when devices are first asked for.
        gpus = tensorflow.config.list_physical_devices("GPU")
    # What TensorFlow itself says of a missing library is a warning, which level 2 hides.
    if has_gpu() and not gpus and not _wants_all_lines():
        LOG.warning(
            "WARNING: this machine has a GPU that TensorFlow cannot use: set TF_CPP_MIN_LOG_LEVEL=0 to see why, "
            "or CUDA_VISIBLE_DEVICES=-1 to compute without it."
        )


@contextlib.contextmanager
def _without_keras() -> Iterator[None]:
    """Let an import of Keras fail in this context, unless it is what imports TensorFlow; a later one succeeds."""
    # TensorFlow tries it, so that SavedModels with Keras's optimizers load, and does without it where it is not
    # installed. Ours have none, and Keras, which imports matplotlib and SciPy, takes a third of TensorFlow's start.
    finder = _KerasFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _KerasFinder(importlib.abc.MetaPathFinder):
    """Says where Keras is, which TensorFlow notes, but does not import it."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader.exec_module = _refuse
        return spec


def _refuse(module) -> None:
    raise ImportError(f"TensorFlow starts without {module.__name__}.")


@contextlib.contextmanager
def filtered() -> Iterator[None]:
    """Drop the known lines of what is written to file descriptor 2 in this context, and pass on all others."""
    with _FILTERING:
        yield from _filtered()


def _filtered():
    if sys.stderr is None or _wants_all_lines():  # a stderr that is closed leaves file descriptor 2 to any other file
        yield
        return
    words = ["gpu"] if has_gpu() else []
    try:
        stderr = os.dup(2)
        reader = subprocess.Popen(
            [sys.executable, "-I", "-S", known_lines.__file__, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it: it ends with the last line
        )
    except OSError:  # there is no room for a process: every line is shown
        yield
        return
    sys.stderr.flush()
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)  # closes the way to the reader, which then ends
        os.close(stderr)
        with contextlib.suppress(subprocess.TimeoutExpired):  # something started in this context still writes
            reader.wait(10)
