"""Sources for ``data prepare``: folders with a hostile image, CSV files that climb or lie, what zips must hold."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.hostile.texts import TEXTS, as_name
from datasets import phantom
from datasets.bach_bisque.sources import GROUND_TRUTH
from datasets.catalogue import BACH, BACH_FOLDERS, BISQUE


def expected() -> list[tuple[str, list[str], dict[str, bytes]]]:
    """Return of the published sets what their readers look for in a zip: the names of the images, and files beside."""
    folders = {record: BACH_FOLDERS[record.label][0] for record in BACH.records}
    table = "".join(f"{record.filename},{folder}\n" for record, folder in folders.items())
    return [
        ("bisque", [f"x/{record.key.split('/')[-1]}" for record in BISQUE.records], {}),
        (
            "bach",
            [f"Photos/{folder}/{record.filename}" for record, folder in folders.items()],
            {f"Photos/{GROUND_TRUTH}": table.encode()},
        ),
    ]


def folders(into: Path, pictures, seed: int) -> Iterator[str]:
    """Yield folders of two good images and a hostile one, or of hostile names; each is one input."""
    good = into / ".good"
    good.mkdir()
    for number, label in enumerate(("normal", "benign")):
        Image.fromarray(phantom.draw(label, 800 + number, 0)[::4, ::4]).save(good / f"{label}.png")
    for number, (name, data) in enumerate(pictures):
        folder = _of_two(into / f"own {number}", good)
        (folder / "benign" / name).write_bytes(data)
        yield folder.name
    for number, text in enumerate(random.Random(seed).sample(TEXTS, 40)):
        folder = _of_two(into / f"named {number}", good)
        if name := as_name(text, ".png"):
            Image.fromarray(phantom.draw("benign", 900 + number, 0)[::4, ::4]).save(folder / "benign" / "x.png")
            os.rename(folder / "benign" / "x.png", os.fsencode(folder / "benign") + b"/" + os.fsencode(name))
        if name := as_name(text, ""):
            (folder / name).mkdir()
            os.link(good / "normal.png", folder / name / "n.png")
        yield folder.name
    for name, target in (("zero.png", "/dev/zero"), ("pipe.png", None), ("up", ".."), ("memory.tif", "/proc/self/mem")):
        folder = _of_two(into / f"special {name}", good)
        if target:
            os.symlink(target, folder / "benign" / name)
        else:
            os.mkfifo(folder / "benign" / name)
        yield folder.name


def _of_two(folder: Path, good: Path) -> Path:
    for label in ("normal", "benign"):
        (folder / label).mkdir(parents=True)
        os.link(good / f"{label}.png", folder / label / f"{label}.png")
    return folder


def sheets(into: Path, canary: Path) -> Iterator[str]:
    """Yield CSV files that name what they must not, or that are not CSV."""
    climbing = ("../../canary/secret.png", str(canary / "secret.png"), "..\\..\\canary\\secret.png", "/dev/zero",
                "/etc/passwd", "file:///etc/passwd", "%2e%2e/secret.png", "a/../../../canary/secret.png")  # fmt: skip
    contents = {f"climbs {number}": f"path,label\n{path},benign\n" for number, path in enumerate(climbing)}
    for number, text in enumerate(TEXTS):
        quoted = '"' + text.replace('"', '""') + '"'
        contents |= {
            f"path {number}": f"path,label\n{quoted},benign\n",
            f"label {number}": f"path,label\n.good/benign.png,{quoted}\n.good/normal.png,normal\n",
            f"column {number}": f"path,label,{quoted}\n.good/benign.png,benign,{quoted}\n.good/normal.png,normal,x\n",
            f"patient {number}": f"path,label,patient\n.good/benign.png,benign,{quoted}\n.good/normal.png,normal,p\n",
        }
    contents |= {
        "scale": "path,label,um_per_pixel\n.good/benign.png,benign,1e999\n", "quotes": 'path,label\n"' + "x" * 10**6,
        "cells": "path,label\n" + "," * 10**6 + "\n", "rows": "path,label\n" + "a.png,benign\n" * 300_000,
        "nothing": "", "header": "path,label\n", "lines": "\n" * 10**6, "a line": "x" * 10**7,
    }  # fmt: skip
    for name, text in contents.items():
        (into / f"{name}.csv").write_bytes(text.encode("utf-8", "replace"))
        yield f"{name}.csv"
    for name, data in (
        ("zeros", bytes(10**6)),
        ("utf-16", "path,label\n".encode("utf-16")),
        ("bytes", b"\xff\xfe\xfd\n"),
    ):
        (into / f"{name}.csv").write_bytes(data)
        yield f"{name}.csv"
    for name, target in (("device", "/dev/zero"), ("secret", canary / "secret.csv")):
        os.symlink(target, into / f"{name}.csv")
        yield f"{name}.csv"
