"""Collections of a few small images, laid out on the disk as the real ones are."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.catalogue import BACH, BACH_FOLDERS, BISQUE, Collection


def _write_images(collection: Collection, folder_of) -> None:
    for number, record in enumerate(collection.records):
        folder = folder_of(record)
        folder.mkdir(parents=True, exist_ok=True)
        width, height = collection.size
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / record.filename)


@pytest.fixture(scope="session")
def tiny_bach() -> Collection:
    return dataclasses.replace(BACH, size=(32, 24), records=BACH.records[::50])


@pytest.fixture(scope="session")
def tiny_bisque() -> Collection:
    return dataclasses.replace(BISQUE, size=(28, 24), records=BISQUE.records[:6])


@pytest.fixture
def bach_root(tmp_path: Path, tiny_bach: Collection) -> Path:
    """The folder that the official archive unpacks to, with what a Mac adds."""
    root = tmp_path / "bach" / "ICIAR2018_BACH_Challenge"
    photos = root / "Photos"
    _write_images(tiny_bach, lambda record: photos / BACH_FOLDERS[record.label][0])
    rows = [f"{record.filename},{BACH_FOLDERS[record.label][0]}\n" for record in tiny_bach.records]
    (photos / "microscopy_ground_truth.csv").write_text("".join(rows))
    (photos / "Normal" / "._n001.tif").write_bytes(b"not an image")
    (photos / "Normal" / "Thumbs.db").write_bytes(b"not an image")
    (root / "WSI").mkdir()
    (root / "WSI" / "A01.svs").write_bytes(b"a whole slide")
    return root


@pytest.fixture
def bach_zip(bach_root: Path) -> Path:
    """The official archive, alone in a folder."""
    base = bach_root.parents[1] / "archive" / "ICIAR2018_BACH_Challenge"
    base.parent.mkdir()
    return Path(shutil.make_archive(str(base), "zip", bach_root.parent, bach_root.name))


@pytest.fixture
def bisque_root(tmp_path: Path, tiny_bisque: Collection) -> Path:
    """BISQUE as some copies have it: images and masks some folders down."""
    root = tmp_path / "bisque"
    _write_images(tiny_bisque, lambda record: root / "Breast Cancer Cells" / "Images" / record.label)
    masks = root / "Breast Cancer Cells" / "Masks"
    masks.mkdir()
    (masks / "ytma10_010704_benign1.TIF").write_bytes(b"a mask")
    return root
