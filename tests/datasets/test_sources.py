import dataclasses
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.bach_bisque import sources
from datasets.bach_bisque.sources import find_images, find_test_images, is_there, pixel_digest, read_image
from datasets.catalogue import BISQUE
from datasets.errors import MissingError, UserError

REAL_BISQUE = os.environ.get("BISQUE_DIR")


def contents(collection, source):
    with find_images(collection, source) as files:
        return {record: read() for record, read in files.items()}


def refusal(collection, source, kind=UserError):
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


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_the_compression_of_a_tiff_makes_no_difference(tiny_bisque, bisque_root, compression):
    record = tiny_bisque.records[0]
    path = next(bisque_root.rglob(record.filename))
    pixels = np.asarray(Image.open(path))
    Image.fromarray(pixels).save(path, compression=compression)
    with find_images(tiny_bisque, bisque_root) as files:
        np.testing.assert_array_equal(read_image(tiny_bisque, record, files[record]), pixels)


def test_a_tiff_with_jpeg_inside_is_read_as_rgb(tiny_bisque, bisque_root):
    record = tiny_bisque.records[0]
    path = next(bisque_root.rglob(record.filename))
    Image.new("RGB", tiny_bisque.size, (200, 60, 120)).save(path, compression="jpeg", quality=95)
    with find_images(tiny_bisque, bisque_root) as files:
        image = np.asarray(read_image(tiny_bisque, record, files[record]), int)
    assert abs(image - (200, 60, 120)).max() < 6


def test_capitals_in_a_suffix_are_read(tiny_bisque, bisque_root):
    first = contents(tiny_bisque, bisque_root)
    for path in list(bisque_root.rglob("*_ccd.tif")):
        path.rename(path.with_suffix(".TIF"))
    assert contents(tiny_bisque, bisque_root) == first


@pytest.mark.parametrize("folder", ["Masks", "mask", "Ground Truth", "masks/benign"])
def test_masks_with_the_names_of_images_are_not_taken_for_images(tiny_bisque, bisque_root, folder):
    first = contents(tiny_bisque, bisque_root)
    masks = bisque_root / "set" / folder
    masks.mkdir(parents=True)
    for record in tiny_bisque.records:
        (masks / record.filename).write_bytes(b"a mask")
    assert contents(tiny_bisque, bisque_root) == first
    next(bisque_root.rglob(f"Images/*/{tiny_bisque.records[0].filename}")).unlink()
    assert "1 missing" in refusal(tiny_bisque, bisque_root, MissingError)


def test_test_images_are_found_in_a_folder_or_a_zip_and_may_be_absent(tiny_bach, bach_root, bach_test_root, tmp_path):
    labelled = contents(tiny_bach, bach_root.parent)
    assert list(labelled) == list(tiny_bach.records)
    with find_test_images(tiny_bach, bach_root.parent) as files:
        assert list(files) == list(tiny_bach.unlabelled)
        first = {record: read() for record, read in files.items()}
    shutil.make_archive(str(bach_root.parent / bach_test_root.name), "zip", bach_root.parent, bach_test_root.name)
    shutil.rmtree(bach_test_root)
    with find_test_images(tiny_bach, bach_root.parent) as files:
        assert {record: read() for record, read in files.items()} == first
    assert contents(tiny_bach, bach_root.parent) == labelled


def found_test_images(collection, source):
    with find_test_images(collection, source) as files:
        return {record: read() for record, read in files.items()}


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_test_images_next_to_the_archive_or_its_root_are_found(tiny_bach, bach_root, bach_zip, bach_test_root, form):
    first = found_test_images(tiny_bach, bach_test_root)
    assert list(first) == list(tiny_bach.unlabelled)
    for source in (bach_root, bach_zip):
        neighbour = source.parent / bach_test_root.name
        if form == "zip":
            shutil.make_archive(str(neighbour), "zip", bach_root.parent, bach_test_root.name)
        elif not neighbour.exists():
            shutil.copytree(bach_test_root, neighbour)
    if form == "zip":
        shutil.rmtree(bach_test_root)
    assert found_test_images(tiny_bach, bach_root) == found_test_images(tiny_bach, bach_zip) == first


def test_test_images_under_another_name_next_to_the_archive_are_not_looked_for(tiny_bach, bach_root, bach_test_root):
    bach_test_root.rename(bach_test_root.with_name("test"))
    assert found_test_images(tiny_bach, bach_root) == {}


def test_a_damaged_zip_of_another_set_does_not_hide_that_there_are_no_test_images(tiny_bach, bach_zip):
    (bach_zip.parent / "holiday.zip").write_bytes(b"half a zip")
    assert found_test_images(tiny_bach, bach_zip.parent) == {}
    (bach_zip.parent / sources.TEST_ARCHIVE).write_bytes(b"half a zip")
    for source in (bach_zip.parent, bach_zip):
        with pytest.raises(UserError, match=r"TestDataset\.zip is not a complete zip file"):
            found_test_images(tiny_bach, source)


def test_an_incomplete_set_of_test_images_is_refused(tiny_bach, bach_root, bach_test_root):
    next(bach_test_root.rglob("test1.tif")).unlink()
    with (
        pytest.raises(MissingError, match=r"2 test images of bach where 3 belong: 1 missing \(unlabelled/test1"),
        find_test_images(tiny_bach, bach_root.parent),
    ):
        pass


def test_the_digest_of_pixels_is_the_images_not_the_files():
    image = Image.effect_noise((4, 6), 50).convert("RGB")
    assert pixel_digest(image) == pixel_digest(image.copy())
    assert pixel_digest(image) != pixel_digest(image.transpose(Image.Transpose.FLIP_TOP_BOTTOM))
    flat = Image.new("RGB", (4, 6))
    assert pixel_digest(flat) != pixel_digest(flat.resize((6, 4)))


def test_an_unpacked_folder_comes_before_the_zip_next_to_it(tiny_bach, bach_root, bach_zip):
    shutil.move(bach_zip, bach_root.parent)
    (bach_root / "Photos" / "Normal" / "n001.tif").write_bytes(b"changed")
    assert contents(tiny_bach, bach_root.parent)[tiny_bach.records[0]] == b"changed"


def test_bisque_in_a_folder_named_as_one_of_bachs_is_not_taken_for_bach(tiny_bach, bach_root, tiny_bisque, bisque_root):
    images = bisque_root / "Breast Cancer Cells" / "Images"
    (images / "benign").rename(images / "Benign")
    assert list(contents(tiny_bach, bach_root.parents[1])) == list(tiny_bach.records)
    assert list(contents(tiny_bisque, bach_root.parents[1])) == list(tiny_bisque.records)
    assert not is_there(tiny_bach, bisque_root)


def test_a_folder_named_as_a_zip_is_looked_through_as_a_folder(tiny_bach, bach_root, tmp_path):
    (tmp_path / "notes.zip").mkdir()
    assert "nor in a zip in it" in refusal(tiny_bach, tmp_path / "notes.zip", MissingError)
    shutil.rmtree(bach_root)
    assert "nor in a zip in it" in refusal(tiny_bach, tmp_path, MissingError)


def test_links_are_followed_and_a_circle_of_them_ends(tiny_bach, bach_root, tmp_path):
    manual = tmp_path / "manual"
    manual.mkdir()
    (manual / "challenge").symlink_to(bach_root)
    (bach_root / "back").symlink_to(manual)
    assert list(contents(tiny_bach, manual)) == list(tiny_bach.records)


def test_missing_and_unexpected_images_are_listed(tiny_bach, bach_root):
    photos = bach_root / "Photos"
    (photos / "Normal" / "n001.tif").rename(photos / "Benign" / "n001.tif")
    message = refusal(tiny_bach, bach_root, MissingError)
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
    message = refusal(tiny_bisque, bisque_root, MissingError)
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
        ("n001.tif,Normal\n", "n001.tif,Benign\nn001.tif,Normal\n", "says both Benign and Normal of n001.tif"),
    ],
)
def test_the_table_of_labels_must_agree_with_the_folders(tiny_bach, bach_root, old, new, complaint):
    table = bach_root / "Photos" / "microscopy_ground_truth.csv"
    table.write_text(table.read_text().replace(old, new))
    assert complaint in refusal(tiny_bach, bach_root)


def test_a_table_of_labels_that_cannot_be_read_is_named(tiny_bach, bach_root):
    (bach_root / "Photos" / "microscopy_ground_truth.csv").write_bytes(b"\xff\xfe")
    assert "microscopy_ground_truth.csv in" in refusal(tiny_bach, bach_root)


def test_the_table_of_labels_must_be_there(tiny_bach, bach_root):
    (bach_root / "Photos" / "microscopy_ground_truth.csv").unlink()
    assert "has no microscopy_ground_truth.csv" in refusal(tiny_bach, bach_root, MissingError)


@pytest.mark.parametrize("name", ["../n001.tif", "Photos/../../n001.tif", "/etc/n001.tif", "..\\n001.tif"])
def test_a_zip_that_climbs_out_is_refused(tiny_bach, bach_zip, name):
    with zipfile.ZipFile(bach_zip, "a") as archive:
        archive.writestr(name, b"")
    assert "climbs out" in refusal(tiny_bach, bach_zip)


def test_a_zip_with_an_endless_name_is_refused_without_all_of_it(tiny_bach, bach_zip):
    with zipfile.ZipFile(bach_zip, "a") as archive:
        archive.writestr(f"Photos/Normal/{'n' * 5000}.tif", b"")
    said = refusal(tiny_bach, bach_zip)
    assert "has an entry with a name of 5,018 characters" in said
    assert len(said) < 300 + len(str(bach_zip))


def test_what_a_damaged_zip_says_of_itself_is_not_repeated_at_length(tiny_bach, bach_zip):
    content = bytearray(bach_zip.read_bytes())
    place = content.find(b"PK\x03\x04")
    while place >= 0:  # the length of each name in front of its entry; that in the list at the end stays
        content[place + 26 : place + 28] = (6000).to_bytes(2, "little")
        place = content.find(b"PK\x03\x04", place + 4)
    bach_zip.write_bytes(content)
    said = refusal(tiny_bach, bach_zip)
    assert "cannot be read (File name in directory" in said
    assert len(said) < 500 + len(str(bach_zip))


def test_a_zip_that_holds_a_name_twice_is_refused(tiny_bach, bach_zip):
    name = "ICIAR2018_BACH_Challenge/Photos/Normal/n001.tif"
    with zipfile.ZipFile(bach_zip, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(name, b"another image")
    assert f"holds {name} twice under one name" in refusal(tiny_bach, bach_zip)


def test_an_archive_of_the_official_name_and_another_size_is_taken_with_a_warning(tiny_bach, bach_zip, caplog):
    assert list(contents(tiny_bach, bach_zip)) == list(tiny_bach.records)
    [warning] = caplog.messages
    assert "its MD5 was not checked" in warning


def test_a_half_fetched_zip_is_refused(tiny_bach, bach_zip):
    os.truncate(bach_zip, bach_zip.stat().st_size // 2)
    assert "not a complete zip file" in refusal(tiny_bach, bach_zip)
    assert bach_zip.name in refusal(tiny_bach, bach_zip.parent)
    with pytest.raises(UserError, match="not a complete zip file"):
        is_there(tiny_bach, bach_zip.parent)


def test_a_zip_whose_table_of_contents_is_damaged_is_refused(tiny_bach, bach_zip):
    content = bytearray(bach_zip.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 200  # the version that is needed to read it
    bach_zip.write_bytes(content)
    assert "not a complete zip file (zip file version 20.0)" in refusal(tiny_bach, bach_zip)


def test_a_damaged_zip_does_not_hide_a_complete_one(tiny_bisque, bisque_root, tmp_path):
    folder = tmp_path / "zips"
    shutil.make_archive(str(folder / "cells"), "zip", bisque_root)
    (folder / "ICIAR2018_BACH_Challenge.zip").write_bytes(b"the first bytes of another set")
    assert list(contents(tiny_bisque, folder)) == list(tiny_bisque.records)


def test_an_archive_of_the_official_name_and_size_with_another_digest_is_refused(tiny_bach, bach_zip):
    size = bach_zip.stat().st_size
    bach = dataclasses.replace(tiny_bach, archive=dataclasses.replace(tiny_bach.archive, sizes=range(size, size + 1)))
    assert "its MD5 is" in refusal(bach, bach_zip)
    mine = bach_zip.rename(bach_zip.with_name("mine.zip"))
    assert list(contents(bach, mine)) == list(bach.records)


def test_a_place_without_images_is_refused(tiny_bach, tmp_path):
    assert "nor in a zip in it: give --source" in refusal(tiny_bach, tmp_path, MissingError)
    message = refusal(tiny_bach, tmp_path / "none", MissingError)
    assert "which does not exist: give --source DIR_OR_ZIP, or --download" in message
    assert not is_there(tiny_bach, tmp_path / "none")


def decoding_refusal(collection, root, spoil):
    record = collection.records[0]
    spoil(next(root.rglob(record.filename)))
    with find_images(collection, root) as files, pytest.raises(UserError, match=record.filename) as caught:
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
        pytest.raises(UserError, match=r"n001\.tif cannot be read"),
    ):
        read_image(tiny_bach, record, files[record])


@pytest.mark.skipif(not REAL_BISQUE, reason="BISQUE_DIR does not name a folder with BISQUE's 58 images")
def test_the_real_bisque_is_complete_and_readable():
    with find_images(BISQUE, Path(REAL_BISQUE)) as files:
        assert len(files) == 58
        for record in (BISQUE.records[0], BISQUE.records[-1]):
            image = read_image(BISQUE, record, files[record])
            assert image.size == (896, 768)
            assert image.getextrema()[0][1] > 200


def other_format(kind):
    return lambda path: Image.new("RGB", (32, 24), (200, 60, 120)).save(path, kind)


def deep(path):
    tifffile.imwrite(path, np.full((24, 32, 3), 60_000, np.uint16), photometric="rgb")


def two_pages(path):
    image = Image.new("RGB", (32, 24))
    image.save(path, save_all=True, append_images=[image])


def in_mode(mode):
    return lambda path: Image.new("RGB", (32, 24), (200, 60, 120)).convert(mode).save(path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (deep, "8 bits"),
        (two_pages, "2 p"),
        (other_format("JPEG"), "is not a TIFF, whatever its name says"),
        (other_format("PNG"), "is not a TIFF, whatever its name says"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("no image"), "is not a TIFF, whatever its name says"),
        (lambda path: path.write_bytes(b"II*\0" + bytes(100)), "cannot be read"),
        (in_mode("L"), "is 32x24 L"),
        (in_mode("P"), "is 32x24 P"),
        (in_mode("RGBA"), "is 32x24 RGBA"),
        (in_mode("CMYK"), ""),
        (in_mode("1"), ""),
        (in_mode("LA"), ""),
    ],
    ids=["16 bits", "two pages", "JPEG", "PNG", "empty", "text", "no directory", "grey", "palette", "alpha", "CMYK",
         "one bit", "grey with alpha"],
)  # fmt: skip
def test_what_is_not_one_8_bit_rgb_tiff_is_refused_with_the_reason(tiny_bach, bach_root, spoil, reason):
    message = decoding_refusal(tiny_bach, bach_root, spoil)
    assert reason in message
    assert "give the original files" in message
    assert "BytesIO" not in message
    assert "\n" not in message


@pytest.mark.parametrize("form", ["big", "big-endian", "planes"])
def test_every_layout_of_an_rgb_tiff_gives_the_same_pixels(tiny_bach, bach_root, form):
    record = tiny_bach.records[0]
    path = next(bach_root.rglob(record.filename))
    pixels = np.asarray(Image.open(path))
    how = {"big": {"bigtiff": True}, "big-endian": {"byteorder": ">"}, "planes": {"planarconfig": "separate"}}[form]
    stored = pixels.transpose(2, 0, 1).copy() if form == "planes" else pixels
    tifffile.imwrite(path, stored, photometric="rgb", **how)
    with find_images(tiny_bach, bach_root) as files:
        np.testing.assert_array_equal(read_image(tiny_bach, record, files[record]), pixels)


def test_an_image_carries_pixels_alone(tiny_bach, bach_root):
    record = tiny_bach.records[0]
    path = next(bach_root.rglob(record.filename))
    Image.open(path).save(path, icc_profile=bytes(2_000_000), description="A name", compression="tiff_lzw")
    with find_images(tiny_bach, bach_root) as files:
        assert read_image(tiny_bach, record, files[record]).info == {}


def test_a_zip_with_backslashes_is_read(tiny_bach, bach_root, tmp_path):
    path = tmp_path / "windows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in filter(Path.is_file, bach_root.rglob("*")):
            archive.writestr(str(file.relative_to(bach_root.parent)).replace("/", "\\"), file.read_bytes())
    assert contents(tiny_bach, path) == contents(tiny_bach, bach_root)


@pytest.mark.parametrize("folder", ["@eaDir", ".Trash-0/files", "$RECYCLE.BIN", ".ipynb_checkpoints", "__MACOSX"])
def test_copies_that_the_computer_keeps_are_not_taken_for_images(tiny_bisque, bisque_root, folder):
    first = contents(tiny_bisque, bisque_root)
    shutil.copytree(bisque_root / "Breast Cancer Cells", bisque_root / folder)
    assert contents(tiny_bisque, bisque_root) == first
    hidden = bisque_root.rename(bisque_root.with_name(".bisque"))
    assert contents(tiny_bisque, hidden) == first


def test_a_pipe_under_an_images_name_is_refused_before_anything_is_read(tiny_bisque, bisque_root):
    path = next(bisque_root.rglob(tiny_bisque.records[0].filename))
    path.unlink()
    os.mkfifo(path)
    assert "is a pipe, a device or a socket" in refusal(tiny_bisque, bisque_root)


def test_a_folder_that_cannot_be_looked_into_is_named_where_images_are_missing(tiny_bisque, bisque_root, monkeypatch):
    scandir = os.scandir

    def closed(path="."):
        if os.fspath(path).endswith("benign"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    message = refusal(tiny_bisque, bisque_root, MissingError)
    assert "benign cannot be looked into" in message


def test_a_source_that_is_neither_a_folder_nor_a_file_is_refused(tiny_bach, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "neither a folder nor a zip" in refusal(tiny_bach, tmp_path / "pipe")


def test_a_table_of_labels_with_an_endless_cell_is_named(tiny_bach, bach_root):
    (bach_root / "Photos" / "microscopy_ground_truth.csv").write_text("x" * 200_000)
    assert "microscopy_ground_truth.csv in" in refusal(tiny_bach, bach_root)
