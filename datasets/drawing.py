"""Phantoms drawn in several processes at once: drawing is Python's own work, which threads cannot share.

Each process is a new Python that imports NumPy and Pillow and no more. ``multiprocessing`` would run the user's own
script again in it, or copy a process in which TensorFlow's threads hold locks.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from datasets.canvas import HEIGHT, WIDTH
from datasets.errors import WorkError
from datasets.phantom import draw_named

_SHAPE = (HEIGHT, WIDTH, 3)

# It gets the places where this process found its modules, so that it finds the same ones.
_PROGRAM = "import sys; sys.path[:0] = sys.argv[1:]; from datasets import drawing; drawing.serve()"
_ROOT = str(Path(__file__).parents[1])


@contextlib.contextmanager
def drawn_by(processes: int) -> Iterator[Callable[[str], np.ndarray]]:
    """Give a function that threads may call at once: the name of a phantom -> its pixels, as ``draw_named`` draws it.

    The processes end with the context, and also where this process is killed.
    """
    with contextlib.ExitStack() as stack:
        idle = SimpleQueue()
        for _ in range(processes if processes > 1 else 0):
            with contextlib.suppress(OSError):  # where no further process can start, those that run draw more
                idle.put(stack.enter_context(_start()))
        if idle.empty():
            yield draw_named
            return

        def draw(name: str) -> np.ndarray:
            process = idle.get()
            try:
                return _ask(process, name)
            finally:
                idle.put(process)

        yield draw


def serve() -> None:
    """Draw each phantom that a line of stdin names, and write its pixels to stdout."""
    for line in sys.stdin:
        try:
            sys.stdout.buffer.write(draw_named(line.rstrip("\n")).data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # nobody wants it any more
            os._exit(0)  # without another try to write it


@contextlib.contextmanager
def _start() -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, _ROOT, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # each would start a thread a processor
        start_new_session=True,  # Ctrl-C is not for it: it ends with its stdin
    )
    try:
        yield process
    finally:
        process.kill()  # it has nothing to finish
        with contextlib.suppress(BrokenPipeError), process:  # closes its pipes, and waits for it
            pass


def _ask(process: subprocess.Popen, name: str) -> np.ndarray:
    pixels = b""
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(f"{name}\n".encode())
        process.stdin.flush()
        pixels = process.stdout.read(np.prod(_SHAPE))
    if len(pixels) < np.prod(_SHAPE):
        code = process.wait()
        if code >= 0:  # its traceback is on stderr
            raise RuntimeError(f"A process that draws phantoms failed at {name}.")
        raise WorkError(
            f"A process that draws phantoms was ended by {signal.Signals(-code).name}, as happens where memory runs "
            "out: run it again."
        )
    return np.frombuffer(pixels, np.uint8).reshape(_SHAPE)
