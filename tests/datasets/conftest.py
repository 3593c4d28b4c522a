"""Collections of a few small images, laid out on the disk as the real ones are."""

import contextlib
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.catalogue import BACH, BACH_FOLDERS, BISQUE, CONFIGS, PHANTOM, Collection, Record
from tests.file_server import serving


@pytest.fixture
def serve(monkeypatch):
    """Return a function: content -> a server of it on this machine."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        yield lambda content: stack.enter_context(serving(content))


def _write_images(collection: Collection, folder_of, records: tuple[Record, ...] | None = None) -> None:
    for number, record in enumerate(records or collection.records):
        folder = folder_of(record)
        folder.mkdir(parents=True, exist_ok=True)
        # Noise of BACH's shape in few blocks: large images are then quick to write and to compress.
        noise = Image.fromarray(np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8))
        image = noise.resize(collection.size, Image.Resampling.NEAREST)
        image.save(folder / record.filename, compression="raw" if noise.size == image.size else "tiff_lzw")


def lay_out_bach(root: Path, collection: Collection) -> None:
    """Write a collection as the official archive has it, with what a Mac adds."""
    photos = root / "Photos"
    _write_images(collection, lambda record: photos / BACH_FOLDERS[record.label][0])
    rows = [f"{record.filename},{BACH_FOLDERS[record.label][0]}\n" for record in collection.records]
    (photos / "microscopy_ground_truth.csv").write_text("".join(rows))
    (photos / "Normal" / "._n001.tif").write_bytes(b"not an image")
    (photos / "Normal" / "Thumbs.db").write_bytes(b"not an image")
    (root / "WSI").mkdir()
    (root / "WSI" / "A01.svs").write_bytes(b"a whole slide")


@pytest.fixture(scope="session")
def tiny_bach() -> Collection:
    return dataclasses.replace(BACH, size=(32, 24), records=BACH.records[::50], unlabelled=BACH.unlabelled[:3])


@pytest.fixture(scope="session")
def tiny_bisque() -> Collection:
    return dataclasses.replace(BISQUE, size=(28, 24), records=BISQUE.records[:6])


@pytest.fixture
def tiny_configs(monkeypatch, tiny_bach, tiny_bisque):
    """Give each config a few images, so that a build takes a moment."""
    few_phantoms = dataclasses.replace(PHANTOM, records=PHANTOM.records[:12:2])
    tiny = {"bach": (tiny_bach,), "bisque": (tiny_bisque,), "bach_bisque": (tiny_bach, tiny_bisque)}
    for name, collections in {**tiny, "phantom": (few_phantoms,)}.items():
        monkeypatch.setitem(CONFIGS, name, collections)


@pytest.fixture
def four_phantoms(monkeypatch):
    monkeypatch.setitem(CONFIGS, "phantom", (dataclasses.replace(PHANTOM, records=PHANTOM.records[:4]),))


@pytest.fixture
def bach_root(tmp_path: Path, tiny_bach: Collection) -> Path:
    """The folder that the official archive unpacks to."""
    root = tmp_path / "bach" / "ICIAR2018_BACH_Challenge"
    lay_out_bach(root, tiny_bach)
    return root


@pytest.fixture
def bach_zip(bach_root: Path) -> Path:
    """The official archive, alone in a folder."""
    base = bach_root.parents[1] / "archive" / "ICIAR2018_BACH_Challenge"
    base.parent.mkdir()
    return Path(shutil.make_archive(str(base), "zip", bach_root.parent, bach_root.name))


@pytest.fixture
def bach_test_root(bach_root: Path, tiny_bach: Collection) -> Path:
    """The folder that the archive of test images unpacks to, beside the labelled one."""
    root = bach_root.with_name("ICIAR2018_BACH_Challenge_TestDataset")
    _write_images(tiny_bach, lambda record: root / "Photos", tiny_bach.unlabelled)
    return root


@pytest.fixture
def bisque_root(tmp_path: Path, tiny_bisque: Collection) -> Path:
    """BISQUE as some copies have it: images and masks some folders down."""
    root = tmp_path / "bisque"
    _write_images(tiny_bisque, lambda record: root / "Breast Cancer Cells" / "Images" / record.label)
    masks = root / "Breast Cancer Cells" / "Masks"
    masks.mkdir()
    (masks / "ytma10_010704_benign1.TIF").write_bytes(b"a mask")
    return root


def fingerprint(summary) -> dict[str, bytes]:
    """Return name -> content of each file of a prepared set."""
    return {path.name: path.read_bytes() for path in summary.path.iterdir()}
