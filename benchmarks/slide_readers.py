"""Readers of slides side by side, for ``benchmarks.slides``: each reads the same windows, in a process of its own."""

import multiprocessing
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WINDOW, WINDOWS = 1536, 16


@dataclass(frozen=True)
class Reading:
    """What a reader took for the windows."""

    seconds: float
    processor: float
    mb: float  # largest resident size above what its process had before it opened the slide
    pixels: np.ndarray  # sums of each window's channels, and some of its pixels: equal where the pixels are


def windows(width: int, height: int, seed: int) -> list[tuple[int, int]]:
    """Return the top left corners of random windows, no two rounds' alike."""
    rng = np.random.default_rng([7, seed])
    return [(int(rng.integers(width - WINDOW)), int(rng.integers(height - WINDOW))) for _ in range(WINDOWS)]


def ours(path):
    from datasets.slides.open import open_slide

    slide = open_slide(path)
    return lambda x, y: slide.read(x, y, WINDOW, WINDOW)


def tifffile_zarr(path):
    import tifffile
    import zarr

    store = tifffile.imread(path, aszarr=True, level=0)
    array = zarr.open(store, mode="r")
    return lambda x, y: array[y : y + WINDOW, x : x + WINDOW]


def openslide(path):
    import openslide

    slide = openslide.OpenSlide(path)
    return lambda x, y: np.asarray(slide.read_region((x, y), 0, (WINDOW, WINDOW)).convert("RGB"))


def pillow(path):
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    image = Image.open(path)
    return lambda x, y: np.asarray(image.crop((x, y, x + WINDOW, y + WINDOW)).convert("RGB"))


READERS = {"ours": ours, "tifffile + zarr": tifffile_zarr, "openslide": openslide, "Pillow": pillow}


def reading(name: str, path: Path, corners: list[tuple[int, int]]) -> Reading | str:
    """Read windows by one of the ``READERS`` in a new process; return why it could not where it fails."""
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    child = spawn.Process(target=_child, args=(name, path, corners, sender))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        child.join()
        return f"ended its process with exit code {child.exitcode}"
    finally:
        child.join()


def _child(name, path, corners, sender):
    try:
        sender.send(_read(READERS[name], path, corners))
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")


def _read(opened, path, corners):
    before = _peak()
    started, used = time.perf_counter(), time.process_time()
    read = opened(path)
    marks = []
    for x, y in corners:
        pixels = read(x, y)
        marks.append(np.concatenate([pixels.sum((0, 1), np.int64), pixels[::97, ::89].ravel()]))
    took, processor = time.perf_counter() - started, time.process_time() - used
    return Reading(took, processor, _peak() - before, np.array(marks))


def _peak() -> float:
    # Not ru_maxrss, in which a new process begins with what its parent had.
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
