"""What it costs that some bytes are decoded in a process apart: each file is read in both ways, alternating."""

import argparse
import io
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from datasets import phantom
from datasets.apart import pool
from datasets.apart.tasks import TASKS
from datasets.images import icc
from datasets.images.folder import find_images
from datasets.images.read import decode_rgb, read_rgb

BACH = (2048, 1536)


class Inline:
    """Does the tasks in this process, as they were done before."""

    seconds = pool.SECONDS

    def ask(self, task, *data, exactly, until=None, **how):
        return TASKS[task](b"".join(map(bytes, data)), **how)


def processor(started: list[psutil.Process]) -> float:
    """Return the seconds of a processor that this process and those that it started have taken."""
    spent = [process.cpu_times() for process in started]
    return time.process_time() + sum(times.user + times.system for times in spent)


def measure(reads: list, rounds: int) -> tuple[dict[str, float], dict[str, float], bool]:
    """Return processor and clock milliseconds a read of both ways, and whether all pixels are equal."""
    apart, inline = pool.SHARED, Inline()
    spent, passed, equal = {"inline": 0.0, "apart": 0.0}, {"inline": 0.0, "apart": 0.0}, True
    for read in reads[:1]:
        read()  # starts the process
    started = [psutil.Process(child.pid) for child in apart._idle]
    for turn in range(rounds):
        pixels = {}
        for name, way in sorted({"inline": inline, "apart": apart}.items(), reverse=turn % 2):
            pool.SHARED = way
            began, at = processor(started), time.perf_counter()
            pixels[name] = [read() for read in reads]
            spent[name] += processor(started) - began
            passed[name] += time.perf_counter() - at
        pool.SHARED = apart
        equal &= all(map(np.array_equal, pixels["inline"], pixels["apart"]))
    each = 1000 / (rounds * len(reads))
    return {name: each * value for name, value in spent.items()}, {n: each * v for n, v in passed.items()}, equal


def drawn(seed: int) -> np.ndarray:
    image = Image.fromarray(phantom.draw("benign", seed, 0)).resize(BACH, Image.Resampling.BICUBIC)
    noise = np.random.default_rng(seed).normal(0, 4, (BACH[1], BACH[0], 3))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)


def stored(pixels: np.ndarray, kind: str, **how) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **how)
    return file.getvalue()


def main() -> int:
    """Print a row for each kind of file; return 1 if any pixels differ."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folders", nargs="*", type=Path, help="folders of images to read too")
    options.add_argument("--rounds", type=int, default=6)
    options.add_argument("--images", type=int, default=4, help="how many are drawn of BACH's size")
    given = options.parse_args()
    began = time.perf_counter()
    pool.SHARED._give_back(pool.SHARED._take())
    print(f"The process starts in {1000 * (time.perf_counter() - began):.0f} ms.\n")
    print("| files | n | processor ms, in this process | apart | clock ms, in this process | apart | pixels |")
    print("|---|---|---|---|---|---|---|")

    are_equal = []

    def row(name, reads):
        spent, passed, equal = measure(reads, given.rounds)
        are_equal.append(equal)
        figures = [f"{each[way]:.1f}" for each in (spent, passed) for way in ("inline", "apart")]
        print("|", " | ".join([name, str(len(reads)), *figures, "equal" if equal else "DIFFER"]), "|", flush=True)

    for folder in given.folders:
        row(folder.name, [lambda path=path: read_rgb(path) for path in find_images([folder])])
    images = [drawn(seed) for seed in range(given.images)]
    size = "x".join(map(str, BACH))
    kinds = {
        "TIFF": {}, "TIFF, LZW": {"compression": "tiff_lzw"}, "TIFF, PackBits": {"compression": "packbits"},
        "TIFF, deflate": {"compression": "tiff_adobe_deflate"}, "PNG": {"compress_level": 1},
    }  # fmt: skip
    for name, how in kinds.items():
        files = [stored(image, name.partition(",")[0], **how) for image in images]
        row(f"{size} {name}", [lambda data=data: decode_rgb(data) for data in files])
    from benchmarks.profiles import PLANTED

    profile = icc._profile(PLANTED["Adobe RGB"])
    row(f"{size}, to sRGB by a profile", [lambda image=image: icc._as_srgb(image, profile) for image in images])
    return int(not all(are_equal))


if __name__ == "__main__":
    sys.exit(main())
