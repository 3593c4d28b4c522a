import os
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from datasets.bach_bisque.sources import find_images, read_image
from datasets.catalogue import BISQUE

REAL_BISQUE = Path(__file__).parents[3] / "shared" / "data" / "bisque"


def contents(collection, source):
    with find_images(collection, source) as files:
        return {record: read() for record, read in files.items()}


def refusal(collection, source, kind=ValueError):
    with pytest.raises(kind) as caught, find_images(collection, source):
        pass
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_form_of_bach_gives_the_same_files(tiny_bach, bach_root, bach_zip):
    first = contents(tiny_bach, bach_root)
    assert list(first) == list(tiny_bach.records)
    forms = [bach_root.parent, bach_root / "Photos", bach_zip, bach_zip.parent]
    assert all(contents(tiny_bach, form) == first for form in forms)


def test_bisque_is_found_at_any_depth_and_in_a_zip(tiny_bisque, bisque_root, tmp_path):
    first = contents(tiny_bisque, bisque_root)
    assert list(first) == list(tiny_bisque.records)
    folder = tmp_path / "zips"
    shutil.make_archive(str(folder / "cells"), "zip", bisque_root)
    assert contents(tiny_bisque, folder / "cells.zip") == contents(tiny_bisque, folder) == first


def test_an_unpacked_folder_comes_before_the_zip_beside_it(tiny_bach, bach_root, bach_zip):
    shutil.move(bach_zip, bach_root.parent)
    (bach_root / "Photos" / "Normal" / "n001.tif").write_bytes(b"changed")
    assert contents(tiny_bach, bach_root.parent)[tiny_bach.records[0]] == b"changed"


def test_links_are_followed_and_a_circle_of_them_ends(tiny_bach, bach_root, tmp_path):
    manual = tmp_path / "manual"
    manual.mkdir()
    (manual / "challenge").symlink_to(bach_root)
    (bach_root / "back").symlink_to(manual)
    assert list(contents(tiny_bach, manual)) == list(tiny_bach.records)


def test_missing_and_unexpected_images_are_listed(tiny_bach, bach_root):
    photos = bach_root / "Photos"
    (photos / "Normal" / "n001.tif").rename(photos / "Benign" / "n001.tif")
    message = refusal(tiny_bach, bach_root, FileNotFoundError)
    assert "8 images of bach where 8 belong" in message
    assert "1 missing (normal/n001.tif) and 1 unexpected (benign/n001.tif)" in message


def test_an_extra_image_is_refused(tiny_bisque, bisque_root):
    folder = bisque_root / "more"
    folder.mkdir()
    (folder / "ytma99_010101_benign1_ccd.tif").write_bytes(b"")
    assert "1 unexpected (benign/ytma99_010101_benign1_ccd.tif)" in refusal(tiny_bisque, bisque_root)


def test_a_long_list_is_cut(tiny_bisque, bisque_root):
    for path in list(bisque_root.rglob("*_ccd.tif"))[:4]:
        path.unlink()
    message = refusal(tiny_bisque, bisque_root, FileNotFoundError)
    assert "4 missing" in message
    assert message.count("_ccd.tif") == 3
    assert ", ...)" in message


def test_an_image_that_is_there_twice_is_refused(tiny_bisque, bisque_root):
    shutil.copytree(bisque_root / "Breast Cancer Cells", bisque_root / "copy")
    assert "twice" in refusal(tiny_bisque, bisque_root)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("n001.tif,Normal", "n001.tif,Benign", "says Benign of n001.tif, which lies in Normal"),
        ("n001.tif,Normal\n", "", "says nothing of n001.tif"),
        ("n001.tif,Normal\n", "n001.tif,Normal\nn002.tif,Normal\n", "labels 9 images where 8 belong"),
    ],
)
def test_the_table_of_labels_must_agree_with_the_folders(tiny_bach, bach_root, old, new, complaint):
    table = bach_root / "Photos" / "microscopy_ground_truth.csv"
    table.write_text(table.read_text().replace(old, new))
    assert complaint in refusal(tiny_bach, bach_root)


def test_the_table_of_labels_must_be_there(tiny_bach, bach_root):
    (bach_root / "Photos" / "microscopy_ground_truth.csv").unlink()
    assert "has no microscopy_ground_truth.csv" in refusal(tiny_bach, bach_root, FileNotFoundError)


@pytest.mark.parametrize("name", ["../n001.tif", "Photos/../../n001.tif", "/etc/n001.tif", "..\\n001.tif"])
def test_a_zip_that_climbs_out_is_refused(tiny_bach, bach_zip, name):
    with zipfile.ZipFile(bach_zip, "a") as archive:
        archive.writestr(name, b"")
    assert "climbs out" in refusal(tiny_bach, bach_zip)


def test_a_half_fetched_zip_is_refused(tiny_bach, bach_zip):
    os.truncate(bach_zip, bach_zip.stat().st_size // 2)
    assert "not a whole zip file" in refusal(tiny_bach, bach_zip)
    assert bach_zip.name in refusal(tiny_bach, bach_zip.parent)


def test_a_place_without_images_is_refused(tiny_bach, tmp_path):
    assert "No image of bach" in refusal(tiny_bach, tmp_path, FileNotFoundError)
    assert "no folder or zip" in refusal(tiny_bach, tmp_path / "none", FileNotFoundError)


def decoding_refusal(collection, root, spoil):
    record = collection.records[0]
    spoil(next(root.rglob(record.filename)))
    with find_images(collection, root) as files, pytest.raises(ValueError, match=record.filename) as caught:
        read_image(collection, record, files[record])
    return str(caught.value)


def test_a_truncated_image_is_named(tiny_bach, bach_root):
    message = decoding_refusal(tiny_bach, bach_root, lambda path: os.truncate(path, 900))
    assert "cannot be read" in message


def test_an_image_of_another_size_is_named(tiny_bach, bach_root):
    message = decoding_refusal(tiny_bach, bach_root, lambda path: Image.new("RGB", (16, 24)).save(path))
    assert "is 16x24 RGB, but every image of bach is 32x24 RGB" in message


def test_an_image_that_is_not_rgb_is_named(tiny_bach, bach_root):
    message = decoding_refusal(tiny_bach, bach_root, lambda path: Image.new("L", (32, 24)).save(path))
    assert "is 32x24 L" in message


def test_a_damaged_zip_entry_is_named(tiny_bach, bach_zip):
    content = bytearray(bach_zip.read_bytes())
    with zipfile.ZipFile(bach_zip) as archive:
        entry = archive.getinfo("ICIAR2018_BACH_Challenge/Photos/Normal/n001.tif")
    content[entry.header_offset + 200] ^= 255
    bach_zip.write_bytes(content)
    record = tiny_bach.records[0]
    with (
        find_images(tiny_bach, bach_zip) as files,
        pytest.raises(ValueError, match=r"n001\.tif cannot be read"),
    ):
        read_image(tiny_bach, record, files[record])


@pytest.mark.skipif(not REAL_BISQUE.is_dir(), reason="the BISQUE images are not beside the checkout")
def test_the_real_bisque_is_whole_and_readable():
    with find_images(BISQUE, REAL_BISQUE) as files:
        assert len(files) == 58
        for record in (BISQUE.records[0], BISQUE.records[-1]):
            image = read_image(BISQUE, record, files[record])
            assert image.size == (896, 768)
            assert image.getextrema()[0][1] > 200
