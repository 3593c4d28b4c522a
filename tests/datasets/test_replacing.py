"""A preparation that is killed, repeated, or run twice at a time."""

import dataclasses
import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from datasets import locked
from datasets.bach_bisque import replacing, sources
from datasets.bach_bisque.prepare import prepare_dataset
from datasets.bach_bisque.prepared import Prepared
from tests.datasets.conftest import fingerprint

pytestmark = pytest.mark.usefixtures("tiny_configs")


def test_what_a_killed_build_left_is_cleared(tmp_path):
    config = tmp_path / "bach_bisque" / "phantom"
    left = [config / ".building" / "bach_bisque", config / "incomplete.ABC123_1.2.0"]
    in_use = config / "incomplete.DEF456_1.2.0"
    two_days_ago = time.time() - 2 * 24 * 3600
    for folder in (*left, in_use):
        folder.mkdir(parents=True)
        (folder / "bach_bisque-train.tfrecord").write_bytes(b"half")
        os.utime(folder, (two_days_ago, two_days_ago))
    os.utime(left[1] / "bach_bisque-train.tfrecord", (two_days_ago, two_days_ago))
    (config / "1.2.0").mkdir()
    assert prepare_dataset("phantom", data_dir=tmp_path).built
    assert not any(folder.exists() for folder in left)
    assert (in_use / "bach_bisque-train.tfrecord").exists()  # tfds.load may be writing it
    assert Prepared("phantom", tmp_path).differences() == []


def test_what_a_killed_build_left_is_removed_before_the_free_space_is_measured(tmp_path, monkeypatch):
    left = tmp_path / "bach_bisque" / "phantom" / ".building"
    left.mkdir(parents=True)

    def disk_usage(place):
        return shutil._ntuple_diskusage(10**12, 10**12, 0 if left.exists() else 10**12)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    assert prepare_dataset("phantom", data_dir=tmp_path).built


def test_leftovers_next_to_a_set_that_is_built_are_removed_unless_another_process_is_at_work(tmp_path):
    summary = prepare_dataset("phantom", data_dir=tmp_path)
    for name in (".building", ".replaced-1.2.0"):
        (summary.path.parent / name).mkdir()
    with replacing.alone(replacing.lock_of(summary.path), "nobody"):
        assert not prepare_dataset("phantom", data_dir=tmp_path).built
        assert (summary.path.parent / ".building").exists()
    assert not prepare_dataset("phantom", data_dir=tmp_path).built
    assert sorted(path.name for path in summary.path.parent.iterdir()) == [".prepare.lock", "1.2.0"]


def test_the_old_data_set_stays_until_the_new_one_is_complete(tmp_path, bisque_root, monkeypatch):
    data = tmp_path / "data"
    first = prepare_dataset("bisque", bisque_root, data)
    before = fingerprint(first)
    read_image = sources.read_image
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return read_image(*args)

    monkeypatch.setattr(sources, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset("bisque", bisque_root, data, overwrite=True)
    assert len(calls) >= 4  # threads read ahead
    assert fingerprint(Prepared("bisque", data).summary()) == before
    image = next(bisque_root.rglob(first_name := "ytma10_010704_benign1_ccd.tif"))
    Image.new("RGB", (28, 24), (9, 9, 9)).save(image)
    assert prepare_dataset("bisque", bisque_root, data, overwrite=True).built
    [example] = Prepared("bisque", data).load([first_name]).as_numpy_iterator()
    assert (example["image"] == 9).all()
    assert sorted(path.name for path in first.path.parent.iterdir()) == [".prepare.lock", "1.2.0"]


def test_a_replacement_killed_between_its_two_renames_is_undone(tmp_path):
    summary = prepare_dataset("phantom", data_dir=tmp_path)
    before = fingerprint(summary)
    summary.path.rename(summary.path.with_name(".replaced-1.2.0"))
    assert not prepare_dataset("phantom", data_dir=tmp_path).built
    assert fingerprint(summary) == before


KILLED = """
import dataclasses, os, pathlib, signal, sys
from datasets.bach_bisque import sources
from datasets.bach_bisque.prepare import prepare_dataset
from datasets.catalogue import CONFIGS, PHANTOM

data_dir, moment = sys.argv[1:]
tiny = dataclasses.replace(PHANTOM, records=PHANTOM.records[:12:2])
CONFIGS["phantom"] = (tiny,)
digest, rename = sources.pixel_digest, pathlib.Path.rename
drawn = []


def killing_digest(image):
    drawn.append(image)
    if moment == "drawing" and len(drawn) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return digest(image)


def killing_rename(self, target):
    if moment == "between renames" and ".building" in self.parts:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)


sources.pixel_digest, pathlib.Path.rename = killing_digest, killing_rename
prepare_dataset("phantom", data_dir=data_dir, overwrite=True)
"""


@pytest.mark.parametrize("moment", ["drawing", "between renames"])
def test_a_killed_replacement_leaves_the_old_data_set_and_the_next_one_starts_clean(tmp_path, moment):
    summary = prepare_dataset("phantom", data_dir=tmp_path)
    before = fingerprint(summary)
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", KILLED, tmp_path, moment], cwd=root, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert (summary.path.parent / ".building").exists()
    assert summary.path.exists() == (moment == "drawing")
    assert Prepared("phantom", tmp_path).is_there
    assert Prepared("phantom", tmp_path).summary() == dataclasses.replace(summary, built=False)
    assert Prepared("phantom", tmp_path).differences() == []
    assert not prepare_dataset("phantom", data_dir=tmp_path).built
    assert fingerprint(summary) == before
    assert sorted(path.name for path in summary.path.parent.iterdir()) == [".prepare.lock", "1.2.0"]


def test_a_set_left_aside_where_nothing_can_be_written_is_named(tmp_path, monkeypatch):
    folder = prepare_dataset("phantom", data_dir=tmp_path).path
    folder.rename(folder.with_name(".replaced-1.2.0"))

    def refuse(self, target):
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(
        OSError, match=r"\.replaced-1\.2\.0 is a set .* left aside, .* \(read-only\): make .* writable\.$"
    ):
        Prepared("phantom", tmp_path).summary()


def test_a_reader_waits_for_a_replacement_that_is_at_work(tmp_path):
    summary = prepare_dataset("phantom", data_dir=tmp_path)
    aside, results = summary.path.with_name(".replaced-1.2.0"), []
    reader = threading.Thread(target=lambda: results.append(Prepared("phantom", tmp_path).is_there))
    with replacing.alone(replacing.lock_of(summary.path), "nobody"):
        summary.path.rename(aside)
        reader.start()
        reader.join(timeout=0.5)
        assert results == []
        assert aside.exists()
        aside.rename(summary.path)
    reader.join(timeout=60)
    assert results == [True]


def test_a_second_preparation_waits_and_finds_it_built(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    built = prepare_dataset("phantom", data_dir=tmp_path / "elsewhere").path
    target = Prepared("phantom", tmp_path).folder
    results = []
    second = threading.Thread(target=lambda: results.append(prepare_dataset("phantom", data_dir=tmp_path)))
    with replacing.alone(replacing.lock_of(target), "nobody"):
        second.start()
        deadline = time.monotonic() + 60
        while "Waiting for another preparation of phantom to end." not in caplog.messages:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        built.rename(target)
    second.join()
    assert not results[0].built
    assert results[0].path == target


NO_LOCKS = [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EIO, None]


@pytest.fixture(params=NO_LOCKS, ids=lambda number: errno.errorcode.get(number, "no fcntl"))
def without_locks(request, monkeypatch):
    """Take away the locks, as some network disks and systems do."""
    if request.param is None:
        monkeypatch.setattr(locked, "fcntl", None)
        return

    def flock(file, operation):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(locked.fcntl, "flock", flock)


def test_a_disk_without_locks_is_used_with_a_warning(tmp_path, without_locks, caplog):
    summary = prepare_dataset("phantom", data_dir=tmp_path)
    assert summary.built
    assert caplog.messages == [
        f"The disk of {summary.path.parent} has no file locks, so this continues without one: run another preparation "
        "of phantom only after it."
    ]
    assert not prepare_dataset("phantom", data_dir=tmp_path).built
    assert prepare_dataset("phantom", data_dir=tmp_path, overwrite=True).built
    assert sorted(path.name for path in summary.path.parent.iterdir()) == [".prepare.lock", "1.2.0"]


def test_a_set_left_aside_gets_its_name_back_on_a_disk_without_locks(tmp_path, monkeypatch):
    folder = prepare_dataset("phantom", data_dir=tmp_path).path
    folder.rename(folder.with_name(".replaced-1.2.0"))
    monkeypatch.setattr(locked, "fcntl", None)
    assert Prepared("phantom", tmp_path).is_there
    assert folder.is_dir()
