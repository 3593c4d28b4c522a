"""Preparing one's own images: ``python -m benchmarks.own_images [--images 2000] [--side 1024] [--noise 4]
[--kills 6]``.

Draws phantoms, enlarges them with a camera's noise and writes them as JPEGs in a folder for each label. ``prepare_own``
runs on them in a process of its own, whose seconds, largest resident size and disk are printed. Then it is killed by
SIGKILL at several points of a smaller set and run again: the files that it leaves must be those of a run that nobody
killed, byte for byte.
"""

import argparse
import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from datasets import phantom
from datasets.labels import CLASSES

DRAWN = 6  # phantoms of each class that all others are made from
CODE = (
    "import sys, logging; from pathlib import Path; logging.basicConfig(level=logging.ERROR); "
    "from datasets.own.prepare import prepare_own; prepare_own('set', Path(sys.argv[1]), Path(sys.argv[2]))"
)


@functools.cache
def draw(label: str, patient: int) -> Image.Image:
    return Image.fromarray(phantom.draw(label, patient, 0))


def write_images(folder: Path, count: int, side: int, noise: float) -> None:
    """Write so many images, no two alike, spread over the four classes."""
    for place, label in enumerate(CLASSES):
        (folder / label).mkdir(parents=True)
        for number in range(count * place // 4, count * (place + 1) // 4):
            rng = np.random.default_rng(number)
            drawn = draw(label, place + 4 * (number % DRAWN))
            left, top = rng.uniform(0, drawn.width - 200), rng.uniform(0, drawn.height - 200)
            large = drawn.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + 200, top + 200))
            pixels = np.asarray(large, np.float32) + rng.normal(0, noise, (side, side, 1)).astype(np.float32)
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / label / f"{number:05d}.jpg", quality=92)


def prepare(source: Path, data_dir: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", CODE, source, data_dir], stderr=subprocess.DEVNULL)


def measured(process: subprocess.Popen) -> tuple[float, float, float]:
    """Wait for a process; return its seconds, those of a processor, and its largest resident size in MB."""
    started = time.monotonic()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"A preparation failed with {status}.")
    return time.monotonic() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def digests(data_dir: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in data_dir.rglob("1.*/*")}


def kill_at(share: float, count: int, source: Path, data_dir: Path) -> tuple[int, float]:
    """Kill a preparation when a share of the images is encoded; return how many were kept, and the rest's seconds."""
    journal = data_dir / "bach_bisque" / "own-set" / ".staged" / "journal"
    process = prepare(source, data_dir)
    while process.poll() is None and _lines(journal) < 1 + share * count:
        time.sleep(0.005)
    if share == 1.0:  # TFDS writes its files
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = max(_lines(journal) - 1, 0)
    return kept, measured(prepare(source, data_dir))[0]


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--noise", type=float, default=4.0, help="its deviation; the less, the smaller the records")
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--killed-images", type=int, default=200)
    asked = parser.parse_args()
    place = Path(tempfile.mkdtemp())
    try:
        write_images(place / "images", asked.images, asked.side, asked.noise)
        seconds, busy, peak = measured(prepare(place / "images", place / "data"))
        records, files = size_of(place / "data"), size_of(place / "images")
        print(
            f"{asked.images} images of {asked.side}x{asked.side}, {files / 1e6:.0f} MB of JPEG: {seconds:.1f} s "
            f"({busy:.1f} s of a processor), at most {peak:.0f} MB resident, {records / 1e6:.0f} MB of records"
        )
        shutil.rmtree(place / "data")
        if asked.kills:
            _kill(place, asked)
    finally:
        shutil.rmtree(place)


def _kill(place: Path, asked: argparse.Namespace) -> None:
    source, count = place / "few", asked.killed_images
    write_images(source, count, asked.side, asked.noise)
    whole = measured(prepare(source, place / "whole"))[0]
    print(f"{count} of them undisturbed: {whole:.1f} s")
    for number in range(asked.kills):
        share = number / max(asked.kills - 1, 1)
        kept, rest = kill_at(share, count, source, place / "killed")
        is_equal = digests(place / "killed") == digests(place / "whole")
        print(f"killed with {kept} encoded: {rest:.1f} s for the rest, {'equal' if is_equal else 'NOT EQUAL'}")
        shutil.rmtree(place / "killed")


if __name__ == "__main__":
    main()
