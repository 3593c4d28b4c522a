"""A folder or zip as files: nothing is read without end, whatever bears the name of an image."""

import contextlib
import os
import socket
import struct
import zipfile

import pytest

from datasets.bach_bisque.places import open_folder, open_zip
from datasets.errors import UserError


@pytest.fixture
def stack():
    with contextlib.ExitStack() as opened:
        yield opened


def zipped(path, content, **how):
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def test_a_folder_and_a_zip_give_the_same_files(tmp_path, stack):
    content = {"a.tif": b"a", "b/c.tif": b"c", "__MACOSX/._a.tif": b"-", "b/.hidden/d.tif": b"-", "@eaDir/e.tif": b"-"}
    for name, data in content.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    folder = open_folder(tmp_path / "folder")
    archive = open_zip(zipped(tmp_path / "set.zip", content), stack)
    for place in (folder, archive):
        assert {name: read() for name, read in place.files.items()} == {"a.tif": b"a", "b/c.tif": b"c"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_method_that_python_has_is_read(tmp_path, stack, method):
    place = open_zip(zipped(tmp_path / "set.zip", {"a.tif": b"ab" * 50_000}, compression=method), stack)
    assert place.files["a.tif"]() == b"ab" * 50_000


def test_folders_parted_by_backslashes_in_a_zip_are_folders(tmp_path, stack):
    place = open_zip(zipped(tmp_path / "set.zip", {"Photos\\Normal\\": b"", "Photos\\Normal\\n001.tif": b"n"}), stack)
    assert {name: read() for name, read in place.files.items()} == {"Photos/Normal/n001.tif": b"n"}


def test_one_name_parted_in_two_ways_is_there_twice(tmp_path, stack):
    path = zipped(tmp_path / "set.zip", {"a\\n001.tif": b"1", "a/n001.tif": b"2"})
    with pytest.raises(UserError, match=r"holds a/n001\.tif twice under one name"):
        open_zip(path, stack)


@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "link to a device"])
def test_what_is_no_file_is_refused_without_opening_it(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if kind == "pipe":
        os.mkfifo("a.tif")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("a.tif")
    elif kind == "device":
        try:
            os.mknod("a.tif", 0o20600, os.makedev(1, 5))
        except OSError:
            pytest.skip("only root makes devices")
    else:
        os.symlink("/dev/zero", "a.tif")
    entry = open_folder(tmp_path).files["a.tif"]
    with pytest.raises(UserError, match=r"a\.tif is a pipe, a device or a socket under the name of an image"):
        entry.check()
    with pytest.raises(UserError, match="is a pipe, a device or a socket"):
        entry()
    with pytest.raises((ValueError, OSError), match=r"a\.tif"):  # also where it became one since
        entry.open()


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "a.tif").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match=r"a\.tif cannot be read: No such file or directory\.$"):
        open_folder(tmp_path).files["a.tif"].check()


def test_a_file_beyond_the_bound_is_refused_by_its_size(tmp_path):
    with (tmp_path / "a.tif").open("wb") as file:
        file.truncate(40 << 30)  # a hole: it takes no room
    with pytest.raises(UserError, match=r"a\.tif has 42,949,672,960 bytes; no image of this data set has more than"):
        open_folder(tmp_path).files["a.tif"]()


def claim(path, size):
    """Let the one entry of a zip claim another size than it has."""
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        struct.pack_into("<I", content, content.index(mark) + place, size)
    path.write_bytes(content)


def test_an_entry_beyond_the_bound_is_refused_by_what_it_claims(tmp_path, stack):
    path = zipped(tmp_path / "set.zip", {"a.tif": bytes(1001)}, compression=zipfile.ZIP_DEFLATED)
    claim(path, 200_000_000)
    with pytest.raises(UserError, match=r"set\.zip: a\.tif has 200,000,000 bytes; no image of this data set has more"):
        open_zip(path, stack).files["a.tif"]()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_entry_that_inflates_to_more_than_it_claims_is_not_read_further(tmp_path, stack, method):
    path = zipped(tmp_path / "set.zip", {"a.tif": bytes(50_000_000)}, compression=method)
    claim(path, 1000)
    with pytest.raises(UserError, match=r"a\.tif cannot be read \(Bad CRC-32 .*\): fetch it again"):
        open_zip(path, stack).files["a.tif"]()


def test_an_encrypted_zip_and_one_of_another_method_say_what_to_do(tmp_path, stack):
    for place, value, reason in ((8, 1, "is encrypted: unpack"), (10, 9, "in a way that Python cannot undo: unpack")):
        path = zipped(tmp_path / f"{place}.zip", {"a.tif": b"a"})
        content = bytearray(path.read_bytes())
        struct.pack_into("<H", content, content.index(b"PK\x01\x02") + place, value)
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"a\.tif {reason}|a\.tif is compressed {reason}"):
            open_zip(path, stack).files["a.tif"].check()
