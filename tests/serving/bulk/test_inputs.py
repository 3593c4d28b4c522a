import itertools
import os
from pathlib import Path

import pytest
from PIL import Image

from bach_keras.serving.bulk.inputs import names_between, warnings_of, write_inputs
from datasets.errors import UserError
from datasets.images.folder import find_images


def names_of(inputs):
    offsets = inputs.offsets(inputs.count)
    return names_between(inputs.path, offsets[0], offsets[-1])


@pytest.fixture
def listed(tmp_path):
    """Return a function that writes a list of these bytes, and what ``write_inputs`` makes of it."""

    def made(content):
        (tmp_path / "list.txt").write_bytes(content)
        return write_inputs(str(tmp_path / "list.txt"), tmp_path / "inputs")

    return made


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux has a file that cannot be read")
def test_a_list_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "list").symlink_to("/proc/self/mem")
    with pytest.raises(UserError, match="list cannot be read: Input/output error"):
        write_inputs(str(tmp_path / "list"), tmp_path / "inputs")


def test_a_list_may_come_from_windows_and_have_blank_lines_and_no_last_line_end(listed):
    inputs = listed("\ufeff/a b.png\r\n\r\n  \n./c/ü.png\n/d.png".encode())
    assert names_of(inputs) == ["/a b.png", "c/ü.png", "/d.png"]


def test_doubles_are_named_and_answered_once(listed):
    inputs = listed(b"a.png\nb.png\n./a.png\nb.png\nb.png\na.png\ns3://x//a.png\n")
    assert names_of(inputs) == ["a.png", "b.png", "s3://x//a.png"]
    (sentence,) = warnings_of(inputs)
    assert sentence == "4 paths of the input were there before and will be answered once: a.png, b.png, b.png, ..."


def test_a_relative_path_and_the_same_in_full_are_doubles(listed):
    assert names_of(listed(f"a.png\n{os.getcwd()}/a.png\n".encode())) == ["a.png"]


def test_names_keep_bytes_that_are_not_text(listed):
    assert os.fsencode(names_of(listed(b"/\xff\xe9.png\n"))[0]) == b"/\xff\xe9.png"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no path"),
        (b"\n \r\n", "holds no path"),
        (b"\x89PNG\r\n\x1a\n", "is an image, not a list"),
        ("a.png\n".encode("utf-16"), "is text in UTF-16"),
        (b"a.png\nb\0.png\n", "line 2 is not text"),
        (b"a" * 10_000, "line 1 is not text"),
    ],
)
def test_what_is_not_a_list_is_refused_and_leaves_nothing(listed, tmp_path, content, reason):
    with pytest.raises(UserError, match=reason):
        listed(content)
    assert os.listdir(tmp_path) == ["list.txt"]


def test_a_source_that_is_missing_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not there: name a folder"):
        write_inputs(str(tmp_path / "none"), tmp_path / "inputs")


def test_a_folder_is_walked_as_predict_walks_it(tmp_path):
    folder = tmp_path / "images"
    for name in ("b.png", "a/c.tif", "line\nend.png", ".hidden.png", "notes.txt", "d.webp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name, "PNG")
    inputs = write_inputs(str(folder), tmp_path / "inputs")
    assert list(map(Path, names_of(inputs))) == find_images([folder])
    assert inputs.folder is None


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_a_list_is_cut_into_shards_of_a_size(listed, size):
    inputs = listed("".join(f"/{number}.png\n" for number in range(12)).encode())
    offsets = inputs.offsets(size)
    shards = [names_between(inputs.path, *pair) for pair in itertools.pairwise(offsets)]
    assert [name for shard in shards for name in shard] == names_of(inputs)
    assert {len(shard) for shard in shards} == {min(size, 12)}


def test_the_folder_of_relative_paths_is_kept(listed):
    assert listed(b"/a.png\nb.png\n").folder == os.getcwd()
    assert listed(b"/a.png\n").folder is None
