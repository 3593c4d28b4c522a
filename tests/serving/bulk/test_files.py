import os

import pytest
from PIL import Image

from bach_keras.serving.bulk import decoder, files
from datasets import phantom
from datasets.errors import UserError


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
