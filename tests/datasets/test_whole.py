"""A file is written completely or not at all, and the error says which one could not be."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datasets import audit, publish_splits, splits
from datasets import whole as module
from datasets.errors import UserError
from datasets.processes import MACHINE
from datasets.whole import exchange, unfinished, whole, whole_folder
from tests.full_disk import fill_the_disk

WRITERS = {
    "split": lambda path: splits.write_split(path, {"a.tif": "train"}),
    "pairs": lambda path: audit.write_pairs(path, []),
}


def test_what_is_written_gets_its_name_at_the_end(tmp_path):
    path = tmp_path / ("n" * 250 + ".csv")
    with whole(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_two_files_of_one_folder_may_be_written_at_once(tmp_path):
    with whole(tmp_path / "a") as first, whole(tmp_path / "b") as second:
        first.write_text("a")
        second.write_text("b")
    assert [(tmp_path / name).read_text() for name in "ab"] == ["a", "b"]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_what_fails_half_way_leaves_what_was_there(tmp_path, fault):
    path = tmp_path / "a.csv"
    path.write_text("old")

    def fail():
        with whole(path) as partial:
            partial.write_text("half")
            raise fault

    with pytest.raises(fault):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_is_reported_with_the_path_and_leaves_nothing(tmp_path, write):
    path = tmp_path / "a.csv"
    path.write_text("old")
    fill_the_disk(path)
    with pytest.raises(OSError, match=r"a\.csv cannot be written: No space left on device\.$"):
        write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_published_page_is_not_lost_to_a_full_disk(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("old")
    fill_the_disk(page)
    with pytest.raises(OSError, match=r"README\.md cannot be written"):
        publish_splits.write_page(page)
    assert page.read_text() == "old"
    assert list(tmp_path.iterdir()) == [page]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match=r"a\.csv cannot be written: Not a directory"),
        whole(tmp_path / "file" / "a.csv") as p,
    ):
        p.write_text("")


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match=r"pipe is a pipe, a device or a socket: name a file\.$"), whole(pipe):
        raise AssertionError
    assert list(tmp_path.iterdir()) == [pipe]
    assert pipe.is_fifo()


def test_a_folder_that_cannot_be_made_is_named_and_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    with (
        pytest.raises(OSError, match=r"taken cannot be made: Directory not empty\.$"),
        whole_folder(tmp_path / "taken"),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


KILLED = """
import os, pathlib, sys
from datasets.whole import whole, whole_folder
with whole(pathlib.Path("a.csv")) as file, whole_folder(pathlib.Path("run")) as folder:
    file.write_text("half")
    (folder / "config.json").write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_goes_with_the_next_file_in_its_folder(tmp_path):
    root = str(Path(module.__file__).parents[1])
    subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=os.environ | {"PYTHONPATH": root}, check=False)
    assert len(unfinished(tmp_path)) == 2
    with whole(tmp_path / "b.csv") as partial:
        partial.touch()
    assert [path.name for path in tmp_path.iterdir()] == ["b.csv"]


def test_what_is_not_of_this_project_stays_however_old_it_is(tmp_path):
    others = [tmp_path / name for name in (".film.mkv.part", ".my.partners", ".1.part-time", ".abcdef.1.part")]
    others[1].mkdir()
    two_days_ago = time.time() - 2 * 24 * 3600
    for path in others:
        path.touch()
        os.utime(path, (two_days_ago, two_days_ago))
    with whole(tmp_path / "b.csv") as partial:
        partial.touch()
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "b.csv"])


def test_what_another_process_or_machine_may_still_write_stays(tmp_path):
    ours = tmp_path / f".{MACHINE}.{os.getppid()}-0.part.csv"
    other, old = tmp_path / ".abcdef.1-0.part.csv", tmp_path / ".abcdef.1-1.part.csv"
    for path in (ours, other, old):
        path.touch()
    two_days_ago = time.time() - 2 * 24 * 3600
    for path in (ours, old):
        os.utime(path, (two_days_ago, two_days_ago))
    with whole(tmp_path / "b.csv") as partial:
        partial.touch()
    assert sorted(tmp_path.iterdir()) == sorted([ours, other, tmp_path / "b.csv"])


def test_what_cannot_be_removed_keeps_nothing_else(tmp_path, monkeypatch):
    number = subprocess.Popen(["true"])
    number.wait()
    left = [tmp_path / f".{MACHINE}.{number.pid}-{count}.part" for count in range(4)]
    (tmp_path / "kept").mkdir()
    left[0].symlink_to("nowhere")
    left[1].symlink_to(tmp_path / "kept")
    for path in left[2:]:
        path.touch()
    unlink = Path.unlink

    def refuse(path, **how):
        if path == left[2]:
            raise PermissionError
        unlink(path, **how)

    monkeypatch.setattr(Path, "unlink", refuse)
    with whole(tmp_path / "b.csv") as partial:
        partial.touch()
    assert sorted(tmp_path.iterdir()) == sorted([left[2], tmp_path / "b.csv", tmp_path / "kept"])


def test_folders_that_cannot_change_names_are_said_to(tmp_path):
    (tmp_path / "a").mkdir()
    assert not exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").is_dir()


def test_room_that_is_not_there_is_said_before_anything_is_written(tmp_path):
    held = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, held[1]))
    try:
        with (
            pytest.raises(OSError, match=r"a\.h5 cannot be written: File too large\.$"),
            whole(tmp_path / "a.h5", room=100_001),
        ):
            raise AssertionError
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, held)
    assert list(tmp_path.iterdir()) == []
