import dataclasses
import errno
import hashlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from datasets import phantom
from datasets.bach_bisque import bach_bisque_dataset_builder, prepare, replacing
from datasets.bach_bisque.archive import BACH_ARCHIVE
from datasets.catalogue import BACH, PHANTOM
from datasets.labels import LABELS
from tests.datasets.conftest import lay_out_bach


@pytest.fixture(autouse=True)
def tiny_configs(monkeypatch, tiny_bach, tiny_bisque):
    """Give each config a few images, so that a build takes a moment."""
    collections = {
        "bach": (tiny_bach,),
        "bisque": (tiny_bisque,),
        "bach_bisque": (tiny_bach, tiny_bisque),
        "phantom": (dataclasses.replace(PHANTOM, records=PHANTOM.records[:12:2]),),
    }
    for name, tiny in collections.items():
        monkeypatch.setattr(prepare.Builder.builder_configs[name], "collections", tiny)


def test_bisque_is_counted(tmp_path, bisque_root):
    summary = prepare_dataset("bisque", bisque_root, tmp_path / "data")
    assert summary.built
    assert summary.images == 6
    assert summary.labels == {"benign": 3, "malignant": 3}
    assert summary.sources == {"bisque": 6}
    assert summary.groups == 1
    assert summary.path.is_dir()


def test_a_second_time_finds_it_and_says_that_the_source_was_not_read(tmp_path, bach_zip):
    said = []
    first = prepare_dataset("bach", bach_zip, tmp_path, say=said.append)
    assert [line for line in said if "its MD5 was not checked" in line] == said
    assert len(said) == 1
    second = prepare_dataset("bach", bach_zip, tmp_path, say=said.append)
    assert second == dataclasses.replace(first, built=False) == Prepared("bach", tmp_path).summary()
    assert second.groups == 0
    assert said[1:] == [
        f"bach is prepared already, so {bach_zip} was not read: --overwrite prepares it again from there."
    ]
    prepare_dataset("bach", data_dir=tmp_path, say=said.append)
    assert len(said) == 2


def test_a_source_that_is_not_there_is_an_error_also_where_it_would_not_be_read(tmp_path, bach_zip):
    first = prepare_dataset("bach", bach_zip, tmp_path)
    bach_zip.unlink()
    for overwrite in (False, True):
        with pytest.raises(
            FileNotFoundError, match=r"ICIAR2018_BACH_Challenge\.zip, which does not exist: give --source"
        ):
            prepare_dataset("bach", bach_zip, tmp_path, overwrite=overwrite)
    assert Prepared("bach", tmp_path).summary() == dataclasses.replace(first, built=False)


def test_bach_and_bisque_together_come_from_one_folder(tmp_path, bach_root, bisque_root):
    summary = prepare_dataset("bach_bisque", tmp_path, tmp_path / "data")
    assert summary.sources == {"bach": 8, "bisque": 6}


def test_the_manual_folder_is_the_default_source(tmp_path, bisque_root):
    manual = tmp_path / "data" / "downloads" / "manual"
    manual.parent.mkdir(parents=True)
    bisque_root.rename(manual)
    assert prepare_dataset("bisque", data_dir=tmp_path / "data").images == 6


def test_tfds_load_builds_it_as_well(tmp_path, bisque_root):
    config = tfds.download.DownloadConfig(manual_dir=bisque_root)
    dataset = tfds.load(
        "bach_bisque/bisque",
        split="train",
        data_dir=tmp_path / "data",
        as_supervised=True,
        download_and_prepare_kwargs={"download_config": config},
    )
    labels = sorted(LABELS[label] for _, label in tfds.as_numpy(dataset))
    assert labels == ["benign"] * 3 + ["malignant"] * 3
    assert Prepared("bisque", tmp_path / "data").is_there


def test_tfds_load_says_what_to_run_first_and_then_uses_it(tmp_path, bisque_root):
    with pytest.raises(FileNotFoundError) as caught:
        tfds.load("bach_bisque/bisque", split="train", data_dir=tmp_path / "data")
    message = str(caught.value)
    assert f"bisque is not prepared in {tmp_path / 'data'}" in message
    assert "run `python cli.py data prepare --config bisque --source DIR_OR_ZIP` first" in message
    assert "ytma*_ccd.tif" in message
    assert "\n" not in message
    prepare_dataset("bisque", bisque_root, tmp_path / "data")
    assert len(tfds.load("bach_bisque/bisque", split="train", data_dir=tmp_path / "data")) == 6


def test_a_few_images_that_tfds_was_asked_for_are_in_the_table(tmp_path):
    config = tfds.download.DownloadConfig(max_examples_per_split=2)
    prepare.Builder(config="phantom", data_dir=tmp_path).download_and_prepare(download_config=config)
    assert Prepared("phantom", tmp_path).summary().images == 2
    assert Prepared("phantom", tmp_path).differences() == []


def test_load_gives_whole_images_in_one_fixed_order(tmp_path):
    prepare_dataset("phantom", data_dir=tmp_path / "a")
    prepare_dataset("phantom", data_dir=tmp_path / "b")
    dataset = Prepared("phantom", tmp_path / "a").load()
    assert dataset.cardinality() == 6
    examples = list(dataset.as_numpy_iterator())
    again = [example["filename"] for example in Prepared("phantom", tmp_path / "b").load().as_numpy_iterator()]
    assert [example["filename"] for example in examples] == again
    for example in examples:
        name = example["filename"].decode()
        np.testing.assert_array_equal(example["image"], phantom.draw_named(name))
        assert name.split("-")[1] == LABELS[example["label"]]
        assert name.split("-")[2] == example["group"].decode()
        assert example["source"] == b"phantom"
    listed = {record.filename for record in Prepared("phantom", tmp_path / "a").records}
    assert listed == {name.decode() for name in again}


def test_load_gives_the_named_images_alone(tmp_path):
    prepare_dataset("phantom", data_dir=tmp_path)
    names = ["phantom-normal-p000-0.png", "phantom-benign-p001-1.png"]
    dataset = Prepared("phantom", tmp_path).load(names)
    assert dataset.cardinality() == 2
    assert {example["filename"].decode() for example in dataset.as_numpy_iterator()} == set(names)
    with pytest.raises(ValueError, match=r"phantom holds no image n001.tif \(1 unknown names\)"):
        Prepared("phantom", tmp_path).load([*names, "n001.tif"])


def test_a_build_that_fails_leaves_nothing_and_can_be_run_again(tmp_path, bisque_root):
    image = next(bisque_root.rglob("*malignant3_ccd.tif"))
    whole = image.read_bytes()
    os.truncate(image, 900)
    with pytest.raises(ValueError, match=r"malignant3_ccd\.tif cannot be read"):
        prepare_dataset("bisque", bisque_root, tmp_path / "data")
    assert not Prepared("bisque", tmp_path / "data").is_there
    assert not list((tmp_path / "data").rglob("*.tfrecord*"))
    image.write_bytes(whole)
    assert prepare_dataset("bisque", bisque_root, tmp_path / "data").images == 6


def test_what_a_killed_build_left_is_cleared(tmp_path):
    config = tmp_path / "bach_bisque" / "phantom"
    left = [config / ".building" / "bach_bisque", config / "incomplete.ABC123_1.1.0"]
    in_use = config / "incomplete.DEF456_1.1.0"
    two_days_ago = time.time() - 2 * 24 * 3600
    for folder in (*left, in_use):
        folder.mkdir(parents=True)
        (folder / "bach_bisque-train.tfrecord").write_bytes(b"half")
        os.utime(folder, (two_days_ago, two_days_ago))
    os.utime(left[1] / "bach_bisque-train.tfrecord", (two_days_ago, two_days_ago))
    (config / "1.1.0").mkdir()
    assert prepare_dataset("phantom", data_dir=tmp_path).built
    assert not any(folder.exists() for folder in left)
    assert (in_use / "bach_bisque-train.tfrecord").exists()  # tfds.load may be writing it
    assert Prepared("phantom", tmp_path).differences() == []


def test_what_a_killed_build_left_does_not_count_as_used(tmp_path, monkeypatch):
    left = tmp_path / "bach_bisque" / "phantom" / ".building"
    left.mkdir(parents=True)

    def disk_usage(place):
        return shutil._ntuple_diskusage(10**12, 10**12, 0 if left.exists() else 10**12)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    assert prepare_dataset("phantom", data_dir=tmp_path).built


def test_what_is_built_is_cleared_of_leftovers_too(tmp_path):
    summary = prepare_dataset("phantom", data_dir=tmp_path)
    for name in (".building", ".replaced-1.1.0"):
        (summary.path.parent / name).mkdir()
    with replacing.alone(replacing.lock_of(summary.path), "nobody", say=None):
        assert not prepare_dataset("phantom", data_dir=tmp_path).built  # what another one is at work on stays
        assert (summary.path.parent / ".building").exists()
    assert not prepare_dataset("phantom", data_dir=tmp_path).built
    assert sorted(path.name for path in summary.path.parent.iterdir()) == [".prepare.lock", "1.1.0"]


def fingerprint(summary):
    return {path.name: path.read_bytes() for path in summary.path.iterdir()}


def test_the_old_data_set_stays_whole_until_the_new_one_is_complete(tmp_path, bisque_root, monkeypatch):
    data = tmp_path / "data"
    first = prepare_dataset("bisque", bisque_root, data)
    before = fingerprint(first)
    whole = bach_bisque_dataset_builder.sources.read_image
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(bach_bisque_dataset_builder.sources, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset("bisque", bisque_root, data, overwrite=True)
    assert len(calls) == 4
    assert fingerprint(Prepared("bisque", data).summary()) == before
    image = next(bisque_root.rglob(first_name := "ytma10_010704_benign1_ccd.tif"))
    Image.new("RGB", (28, 24), (9, 9, 9)).save(image)
    assert prepare_dataset("bisque", bisque_root, data, overwrite=True).built
    [example] = Prepared("bisque", data).load([first_name]).as_numpy_iterator()
    assert (example["image"] == 9).all()
    assert sorted(path.name for path in first.path.parent.iterdir()) == [".prepare.lock", "1.1.0"]


def test_a_replacement_killed_between_its_two_renames_is_undone(tmp_path):
    summary = prepare_dataset("phantom", data_dir=tmp_path)
    before = fingerprint(summary)
    summary.path.rename(summary.path.with_name(".replaced-1.1.0"))
    assert not prepare_dataset("phantom", data_dir=tmp_path).built
    assert fingerprint(summary) == before


KILLED = """
import dataclasses, os, pathlib, signal, sys
from datasets import phantom
from datasets.bach_bisque import prepare
from datasets.catalogue import PHANTOM

data_dir, moment = sys.argv[1:]
tiny = dataclasses.replace(PHANTOM, records=PHANTOM.records[:12:2])
prepare.Builder.builder_configs["phantom"].collections = (tiny,)
draw, rename = phantom.draw_named, pathlib.Path.rename


def killing_draw(name):
    if moment == "drawing" and name == tiny.records[3].filename:
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(name)


def killing_rename(self, target):
    if moment == "between renames" and ".building" in self.parts:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)


phantom.draw_named, pathlib.Path.rename = killing_draw, killing_rename
prepare_dataset("phantom", data_dir=data_dir, overwrite=True)
"""


@pytest.mark.parametrize("moment", ["drawing", "between renames"])
def test_a_killed_replacement_leaves_the_old_data_set_and_the_next_one_starts_clean(tmp_path, moment):
    summary = prepare_dataset("phantom", data_dir=tmp_path)
    before = fingerprint(summary)
    root = Path(prepare.__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", KILLED, tmp_path, moment], cwd=root, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert (summary.path.parent / ".building").exists()
    assert summary.path.exists() == (moment == "drawing")
    assert Prepared("phantom", tmp_path).is_there
    assert Prepared("phantom", tmp_path).summary() == dataclasses.replace(summary, built=False)
    assert Prepared("phantom", tmp_path).differences() == []
    assert not prepare_dataset("phantom", data_dir=tmp_path).built
    assert fingerprint(summary) == before
    assert sorted(path.name for path in summary.path.parent.iterdir()) == [".prepare.lock", "1.1.0"]


def test_a_set_left_aside_where_nothing_can_be_written_is_named(tmp_path, monkeypatch):
    folder = prepare_dataset("phantom", data_dir=tmp_path).path
    folder.rename(folder.with_name(".replaced-1.1.0"))

    def refuse(self, target):
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(
        OSError, match=r"\.replaced-1\.1\.0 is a set .* left aside, .* \(read-only\): make .* writable\.$"
    ):
        Prepared("phantom", tmp_path).is_there


def test_a_reader_waits_for_a_replacement_that_is_at_work(tmp_path):
    summary = prepare_dataset("phantom", data_dir=tmp_path)
    aside, results = summary.path.with_name(".replaced-1.1.0"), []
    reader = threading.Thread(target=lambda: results.append(Prepared("phantom", tmp_path).is_there))
    with replacing.alone(replacing.lock_of(summary.path), "nobody", say=None):
        summary.path.rename(aside)
        reader.start()
        reader.join(timeout=0.5)
        assert results == []
        assert aside.exists()
        aside.rename(summary.path)
    reader.join(timeout=60)
    assert results == [True]


def test_a_second_preparation_waits_and_finds_it_built(tmp_path):
    builder = prepare._builder("phantom", tmp_path)
    target = Path(builder.data_path)
    said, results = queue.Queue(), []
    second = threading.Thread(
        target=lambda: results.append(prepare_dataset("phantom", data_dir=tmp_path, say=said.put))
    )
    with replacing.alone(replacing.lock_of(target), "nobody", say=None):
        second.start()
        assert said.get(timeout=60) == "Waiting for another preparation of phantom to end."
        prepare._build(builder, target)
        before = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    second.join()
    assert not results[0].built
    assert {path.name: path.stat().st_mtime_ns for path in target.iterdir()} == before


NO_LOCKS = [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.EIO, None]


@pytest.fixture(params=NO_LOCKS, ids=lambda number: errno.errorcode.get(number, "no fcntl"))
def without_locks(request, monkeypatch):
    """Take away the locks, as some network disks and systems do."""
    if request.param is None:
        monkeypatch.setattr(replacing, "fcntl", None)
        return

    def flock(file, operation):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(replacing.fcntl, "flock", flock)


def test_a_disk_without_locks_is_worked_on_without_one_and_that_is_said_once(tmp_path, without_locks):
    said = []
    summary = prepare_dataset("phantom", data_dir=tmp_path, say=said.append)
    assert summary.built
    assert said == [
        f"The disk of {summary.path.parent} has no file locks: this goes on without one, so run another preparation of "
        "phantom only after it."
    ]
    assert not prepare_dataset("phantom", data_dir=tmp_path).built
    assert prepare_dataset("phantom", data_dir=tmp_path, overwrite=True).built
    assert sorted(path.name for path in summary.path.parent.iterdir()) == [".prepare.lock", "1.1.0"]


def test_a_set_left_aside_gets_its_name_back_on_a_disk_without_locks(tmp_path, monkeypatch):
    folder = prepare_dataset("phantom", data_dir=tmp_path).path
    folder.rename(folder.with_name(".replaced-1.1.0"))
    monkeypatch.setattr(replacing, "fcntl", None)
    monkeypatch.setattr(replacing, "_MOMENT", 0.001)
    assert Prepared("phantom", tmp_path).is_there
    assert folder.is_dir()


def test_an_earlier_version_is_not_read_and_said_to_be_removable(tmp_path):
    old = tmp_path / "bach_bisque" / "phantom" / "1.0.0"
    old.mkdir(parents=True)
    (old / "dataset_info.json").write_text("{}")
    assert not Prepared("phantom", tmp_path).is_there
    with pytest.raises(FileNotFoundError, match=r"in version 1.1.0, only in 1.0.0: run"):
        Prepared("phantom", tmp_path).summary()
    said = []
    prepare_dataset("phantom", data_dir=tmp_path, say=said.append)
    assert said == [f"{old} is of an earlier version and no longer read: it can be removed."]
    assert old.exists()


def test_an_incomplete_source_is_refused_before_the_build(tmp_path, bisque_root, monkeypatch):
    next(bisque_root.rglob("*malignant3_ccd.tif")).unlink()
    monkeypatch.setattr(bach_bisque_dataset_builder.sources, "read_image", None)
    with pytest.raises(FileNotFoundError, match=r"5 images of bisque where 6 belong: 1 missing"):
        prepare_dataset("bisque", bisque_root, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_full_disk_is_refused_before_the_build(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 1_000_000))
    with pytest.raises(OSError, match=r"needs 0.0 GB and its disk has 0.0 GB free"):
        prepare_dataset("phantom", data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, "No space left on device"), tf.errors.ResourceExhaustedError(None, None, "a; Full")]
)
def test_a_disk_that_becomes_full_is_told_with_the_path_and_nothing_is_left(tmp_path, monkeypatch, fault):
    before = fingerprint(prepare_dataset("phantom", data_dir=tmp_path))

    def fail(*args, **how):
        raise RuntimeError("TFDS's own words") from fault

    monkeypatch.setattr(prepare.Builder, "download_and_prepare", fail)
    with pytest.raises(OSError, match=r"phantom/1\.1\.0 cannot be written: (No space left on device|Full)\. Nothing"):
        prepare_dataset("phantom", data_dir=tmp_path, overwrite=True)
    summary = Prepared("phantom", tmp_path).summary()
    assert fingerprint(summary) == before
    assert sorted(path.name for path in summary.path.parent.iterdir()) == [".prepare.lock", "1.1.0"]


def test_bachs_test_images_are_a_split_of_their_own(tmp_path, bach_root, bach_test_root):
    data = tmp_path / "data"
    summary = prepare_dataset("bach", bach_root.parent, data)
    assert (summary.images, summary.test_images) == (8, 3)
    assert {record.label for record in Prepared("bach", data).records} == {"normal", "benign", "insitu", "invasive"}
    assert Prepared("bach", data).load().cardinality() == 8
    with pytest.raises(ValueError, match=r"bach holds no image test0.tif"):
        Prepared("bach", data).load(["test0.tif"])
    test = list(tfds.as_numpy(tfds.load("bach_bisque/bach", split="test", data_dir=data)))
    assert sorted(example["filename"] for example in test) == [b"test0.tif", b"test1.tif", b"test2.tif"]
    assert {example["label"] for example in test} == {-1}
    for example in test:
        path = bach_test_root / "Photos" / example["filename"].decode()
        np.testing.assert_array_equal(example["image"], np.asarray(Image.open(path)))
    assert Prepared("bach", data).differences() == []


def test_an_incomplete_set_of_test_images_is_refused_before_the_build(tmp_path, bach_root, bach_test_root):
    next(bach_test_root.rglob("test2.tif")).unlink()
    with pytest.raises(FileNotFoundError, match="2 test images of bach where 3 belong"):
        prepare_dataset("bach", bach_root.parent, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.fixture
def published(monkeypatch, serve, bach_zip):
    """Publish the small zip on this machine's server in place of the official archive; return the server."""
    content = bach_zip.read_bytes()
    server = serve(content)
    archive = dataclasses.replace(
        BACH_ARCHIVE,
        url=server.url(BACH_ARCHIVE.name),
        md5=hashlib.md5(content).hexdigest(),
        sizes=range(len(content), len(content) + 1),
    )
    monkeypatch.setattr(prepare.archive, "BACH_ARCHIVE", archive)
    monkeypatch.setattr(bach_bisque_dataset_builder.sources, "BACH_ARCHIVE", archive)
    return server


def test_bach_is_downloaded_once_and_only_when_asked_for(tmp_path, published):
    data, said = tmp_path / "data", []
    with pytest.raises(FileNotFoundError, match=r"or --download to fetch ICIAR2018_BACH_Challenge.zip \(10.4 GB\)"):
        prepare_dataset("bach", data_dir=data)
    assert published.ranges == []
    assert prepare_dataset("bach", data_dir=data, download=True, say=said.append).images == 8
    assert any("CC BY-NC-ND 4.0" in line for line in said)
    prepare_dataset("bach", data_dir=data, download=True, overwrite=True)
    assert published.ranges == [None]


def test_what_else_is_missing_is_said_before_bach_is_downloaded(tmp_path, published, bisque_root):
    data = tmp_path / "data"
    with pytest.raises(FileNotFoundError, match="No image of bisque"):
        prepare_dataset("bach_bisque", data_dir=data, download=True)
    assert published.ranges == []
    (data / "downloads").mkdir(parents=True)
    bisque_root.rename(data / "downloads" / "manual")
    assert prepare_dataset("bach_bisque", data_dir=data, download=True).images == 14


def test_a_full_disk_is_refused_before_the_download(tmp_path, published, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 20_000))
    with pytest.raises(OSError, match="GB free: make room"):
        prepare_dataset("bach", data_dir=tmp_path / "data", download=True)
    assert published.ranges == []


def test_a_download_does_not_fit_a_source_or_another_config(tmp_path):
    for config, source in (("bisque", None), ("phantom", None), ("bach", tmp_path)):
        with pytest.raises(ValueError, match="give it without --source, for bach or bach_bisque"):
            prepare_dataset(config, source, tmp_path / "data", download=True)


def test_no_connection_is_made_when_all_is_local(tmp_path, bach_zip, monkeypatch):
    tried = []

    def refuse(*args):
        tried.append(args)
        raise OSError("no connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    prepare_dataset("bach", bach_zip, tmp_path / "a")
    config = tfds.download.DownloadConfig(manual_dir=bach_zip.parent)
    dataset = tfds.load(
        "bach_bisque/bach", split="train", data_dir=tmp_path / "b",
        download_and_prepare_kwargs={"download_config": config},
    )  # fmt: skip
    assert len(list(dataset)) == 8
    assert tried == []


@pytest.mark.parametrize(
    "step", [pytest.param(50, id="8 images"), pytest.param(1, id="400 images", marks=pytest.mark.long)]
)
def test_the_official_layout_gives_the_same_bytes_from_a_zip_and_a_folder(tmp_path, monkeypatch, step):
    collection = dataclasses.replace(BACH, records=BACH.records[::step])
    monkeypatch.setattr(prepare.Builder.builder_configs["bach"], "collections", (collection,))
    root = tmp_path / "bach" / "ICIAR2018_BACH_Challenge"
    lay_out_bach(root, collection)
    archive = shutil.make_archive(str(root), "zip", root.parent, root.name)
    from_zip = prepare_dataset("bach", Path(archive), tmp_path / "a")
    from_folder = prepare_dataset("bach", root, tmp_path / "b")
    assert from_zip.images == len(collection.records)
    held = fingerprint(from_zip)
    assert any(".tfrecord" in name for name in held)
    assert fingerprint(from_folder) == held


def test_a_damaged_description_is_told_and_a_lost_table_is_prepared_anew(tmp_path):
    folder = prepare_dataset("phantom", data_dir=tmp_path).path
    (folder / "metadata.json").unlink()
    assert not Prepared("phantom", tmp_path).is_there
    assert prepare_dataset("phantom", data_dir=tmp_path).built
    for name in ("metadata.json", "dataset_info.json"):
        whole = (folder / name).read_text()
        (folder / name).write_text(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=r"is damaged .*: remove the folder bach_bisque/phantom there"):
            Prepared("phantom", tmp_path).summary()
        (folder / name).write_text(whole)


@pytest.mark.parametrize("table", [{}, {"test": []}, {"train": 3}, {"train": [{"filename": "a.png"}]}])
def test_a_table_without_the_labelled_images_is_told_and_can_be_overwritten(tmp_path, table):
    folder = prepare_dataset("phantom", data_dir=tmp_path).path
    (folder / "metadata.json").write_text(json.dumps(table))
    readers = (prepare.describe, prepare.records, prepare.is_prepared, prepare.load, prepare.find_differences)
    for read in readers:
        with pytest.raises(ValueError, match=r"metadata.json is damaged: prepare it again .* --overwrite`\.$"):
            read("phantom", tmp_path)
    with pytest.raises(ValueError, match=r"is damaged: prepare it again"):
        prepare_dataset("phantom", data_dir=tmp_path)
    assert prepare_dataset("phantom", data_dir=tmp_path, overwrite=True).images == 6


def test_nothing_is_printed_to_stdout(tmp_path, capsys):
    prepare_dataset("phantom", data_dir=tmp_path)
    assert capsys.readouterr().out == ""


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no config 'other'"):
        prepare_dataset("other", data_dir=tmp_path)
    with pytest.raises(ValueError, match="leave the source out"):
        prepare_dataset("phantom", tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"downloads/manual, which does not exist: give --source"):
        prepare_dataset("bach", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data prepare --config bach --source DIR_OR_ZIP"):
        Prepared("bach", tmp_path).load()
    with pytest.raises(FileNotFoundError, match=r"data prepare --config phantom` first"):
        Prepared("phantom", tmp_path).summary()
