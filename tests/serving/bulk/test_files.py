import contextlib
import os
from types import SimpleNamespace

import pytest
from PIL import Image

from bach_keras.serving.bulk import decoder, files
from datasets import phantom
from datasets.errors import UserError, WorkError


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A folder that stands for the bucket `kept` of an object store."""
    from pyarrow import fs

    folder = tmp_path / "kept"
    for name in ("b.png", "a/c.tif", "a/.hidden.png", "notes.txt", "d e.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(phantom.draw("benign", 901, 0)).save(folder / name, "PNG")
    system = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(files, "_file_system", lambda scheme, bucket, query: (system, bucket))
    return folder


def test_a_folder_of_objects_is_listed_as_one_of_files(store):
    wanted = ["s3://kept/a/c.tif", "s3://kept/b.png", "s3://kept/d e.jpg"]
    assert files.images_below("s3://kept") == files.images_below("s3://kept/") == wanted
    assert files.images_below("s3://kept/a?region=x") == ["s3://kept/a/c.tif?region=x"]
    assert files.images_below("s3://kept/b.png") == ["s3://kept/b.png"]


def test_an_object_is_read_as_the_file_is(store):
    found, wanted = decoder.look("s3://kept/b.png"), decoder.look(str(store / "b.png"))
    assert (found.pop("pixels") == wanted.pop("pixels")).all()
    assert found == wanted


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none.png", "is not there"), ("a", "is a folder, not an image"), ("notes", "is not there")],
)
def test_an_object_that_cannot_be_read_is_named_by_its_url(store, name, reason):
    assert decoder.look(f"s3://kept/{name}") == {"error": f"s3://kept/{name} {reason}."}


def test_a_damaged_object_is_named_by_its_url(store):
    (store / "b.png").write_bytes(b"\x89PNG")
    assert decoder.look("s3://kept/b.png")["error"].startswith("s3://kept/b.png is damaged")


def test_nothing_is_left_of_what_was_fetched(store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    decoder.look("s3://kept/b.png")
    assert os.listdir(tmp_path / "temporary") == []


def test_a_url_of_a_file_is_that_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    assert decoder.look(f"file://{tmp_path}/a.png")["error"] == f"file://{tmp_path}/a.png is empty."
    assert files.images_below(f"file://{tmp_path}") == [f"file://{tmp_path}/a.png"]


def test_a_url_of_nothing_known_is_refused():
    with pytest.raises(UserError, match=r"^nfs4://host/a cannot be opened: "):
        files.images_below("nfs4://host/a")


def test_an_object_is_not_fetched_where_its_name_or_its_size_says_that_it_is_not_read(store, monkeypatch):
    monkeypatch.setattr(files, "_parts", None)
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    (store / "slide.SVS").write_bytes(b"II*\0")
    assert decoder.look("s3://kept/slide.SVS") == {
        "error": "s3://kept/slide.SVS is not fetched, as .SVS is not read: save it as PNG or TIFF of 8-bit RGB."
    }
    size = (store / "b.png").stat().st_size
    assert decoder.look("s3://kept/b.png") == {
        "error": f"s3://kept/b.png is not fetched, as it has {size:,} bytes or more; at most 100 are."
    }


def test_an_object_of_which_no_size_is_known_is_fetched_no_further_than_one_may_have(store, monkeypatch):
    from pyarrow import fs

    system, _ = files._opened("s3://kept/b.png")
    info = SimpleNamespace(type=fs.FileType.File, size=None, mtime_ns=None)
    stands_in = SimpleNamespace(get_file_info=lambda path: info, open_input_stream=system.open_input_stream)
    monkeypatch.setattr(files, "_file_system", lambda scheme, bucket, query: (stands_in, bucket))
    monkeypatch.setattr(files, "MAX_BYTES", 2000)
    monkeypatch.setattr(files, "_PART", 1000)
    assert decoder.look("s3://kept/b.png")["error"].startswith("s3://kept/b.png is not fetched, as it has 3,000 bytes")


@pytest.mark.parametrize("size", [10, 2**21])
def test_a_full_disk_stops_the_work_and_is_no_error_of_the_object(store, tmp_path, monkeypatch, size):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    (store / "b.png").write_bytes(bytes(size))
    (tmp_path / "image").symlink_to("/dev/full")
    monkeypatch.setattr("tempfile.TemporaryDirectory", lambda **how: contextlib.nullcontext(tmp_path))
    with pytest.raises(WorkError, match=r"on machine .* cannot be written \(No space left on device\): make room"):
        decoder.look("s3://kept/b.png")


@pytest.mark.parametrize("name", ["c?", "c?d=e", "c??"])
def test_an_object_with_a_question_mark_in_its_name_is_listed_and_read(store, name):
    (store / "x").mkdir()
    name = f"{name}.png"
    (store / "b.png").rename(store / "x" / name)
    for folder in ("s3://kept/x", "s3://kept/x?region=y"):
        [url] = files.images_below(folder)
        assert url.startswith(f"s3://kept/x/{name}")
        assert decoder.look(url)["pixels"].shape == (288, 384, 3)
    [url] = files.images_below(f"file://{store}/x")
    assert decoder.look(url)["pixels"].shape == (288, 384, 3)
