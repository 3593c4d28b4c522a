"""A user's folder of a few small images."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (40, 36)


def noise(number: int, size=SIZE) -> np.ndarray:
    """Return the pixels of an image, uint8 RGB, another for each number."""
    return np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)


def write(path: Path, number: int, size=SIZE) -> Path:
    """Write an image in the format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(number, size)).save(path)
    return path


def folders(root: Path, labels=("normal", "benign"), count: int = 4) -> Path:
    """Write a folder for each label with some images."""
    for place, label in enumerate(labels):
        for number in range(count):
            write(root / label / f"{label[0]}{number}.png", 100 * place + number)
    return root


def sheet(root: Path, lines, name: str = "labels.csv", header: str = "path,label,patient") -> Path:
    """Write a CSV file."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / name
    path.write_text("\n".join([header, *lines]) + "\n", "utf-8")
    return path
