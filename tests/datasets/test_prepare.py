"""Building the data set: what is read, what is refused, what is left when it fails."""

import dataclasses
import errno
import hashlib
import logging
import os
import shutil
import socket
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from datasets.bach_bisque.bach_bisque_dataset_builder import Builder
from datasets.bach_bisque.prepare import prepare_dataset
from datasets.bach_bisque.prepared import Prepared
from datasets.catalogue import BACH, CONFIGS
from datasets.errors import MissingError, UserError, WorkError
from tests.datasets.conftest import fingerprint, lay_out_bach

pytestmark = pytest.mark.usefixtures("tiny_configs")


def test_bisque_is_counted(tmp_path, bisque_root):
    summary = prepare_dataset("bisque", bisque_root, tmp_path / "data")
    assert summary.built
    assert summary.images == 6
    assert summary.labels == {"benign": 3, "malignant": 3}
    assert summary.sources == {"bisque": 6}
    assert summary.groups == 1
    assert summary.path.is_dir()


def test_a_second_time_finds_it_and_says_that_the_source_was_not_read(tmp_path, bach_zip, caplog):
    first = prepare_dataset("bach", bach_zip, tmp_path)
    assert [message.partition(", so")[2] for message in caplog.messages] == [
        " its MD5 was not checked: its images are, one by one."
    ]
    caplog.clear()
    second = prepare_dataset("bach", bach_zip, tmp_path)
    assert second == dataclasses.replace(first, built=False) == Prepared("bach", tmp_path).summary()
    assert (second.groups, second.ungrouped, second.groups_in_words) == (4, 4, "4 patients known, 4 images unknown")
    assert caplog.messages == [
        f"bach is prepared already, so {bach_zip} was not read: --overwrite prepares it again from there."
    ]
    prepare_dataset("bach", data_dir=tmp_path)
    assert len(caplog.messages) == 1


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


def test_a_build_that_fails_leaves_nothing_and_can_be_run_again(tmp_path, bisque_root):
    image = next(bisque_root.rglob("*malignant3_ccd.tif"))
    content = image.read_bytes()
    os.truncate(image, 900)
    with pytest.raises(UserError, match=r"malignant3_ccd\.tif cannot be read"):
        prepare_dataset("bisque", bisque_root, tmp_path / "data")
    assert not Prepared("bisque", tmp_path / "data").is_there
    assert not list((tmp_path / "data").rglob("*.tfrecord*"))
    image.write_bytes(content)
    assert prepare_dataset("bisque", bisque_root, tmp_path / "data").images == 6


def test_an_incomplete_source_is_refused_before_the_build(tmp_path, bisque_root):
    next(bisque_root.rglob("*malignant3_ccd.tif")).unlink()
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
def test_a_disk_that_becomes_full_is_reported_with_the_path_and_nothing_is_left(tmp_path, monkeypatch, fault):
    before = fingerprint(prepare_dataset("phantom", data_dir=tmp_path))

    def fail(*args, **how):
        raise RuntimeError("TFDS's own words") from fault

    monkeypatch.setattr(Builder, "download_and_prepare", fail)
    with pytest.raises(WorkError, match=r"phantom/1\.2\.0 cannot be written: (No space left on device|Full)\. Nothing"):
        prepare_dataset("phantom", data_dir=tmp_path, overwrite=True)
    summary = Prepared("phantom", tmp_path).summary()
    assert fingerprint(summary) == before
    assert sorted(path.name for path in summary.path.parent.iterdir()) == [".prepare.lock", "1.2.0"]


def test_an_incomplete_set_of_test_images_is_refused_before_the_build(tmp_path, bach_root, bach_test_root):
    next(bach_test_root.rglob("test2.tif")).unlink()
    with pytest.raises(FileNotFoundError, match="2 test images of bach where 3 belong"):
        prepare_dataset("bach", bach_root.parent, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.fixture
def published(monkeypatch, serve, bach_zip, tiny_bach, tiny_bisque):
    """Publish the small zip on this machine's server in place of the official archive; return the server."""
    content = bach_zip.read_bytes()
    server = serve(content)
    archive = dataclasses.replace(
        BACH.archive,
        url=server.url(BACH.archive.name),
        md5=hashlib.md5(content).hexdigest(),
        sizes=range(len(content), len(content) + 1),
    )
    published_bach = dataclasses.replace(tiny_bach, archive=archive)
    monkeypatch.setitem(CONFIGS, "bach", (published_bach,))
    monkeypatch.setitem(CONFIGS, "bach_bisque", (published_bach, tiny_bisque))
    return server


def test_bach_is_downloaded_once_and_only_when_asked_for(tmp_path, published, caplog):
    caplog.set_level(logging.INFO)
    data = tmp_path / "data"
    with pytest.raises(FileNotFoundError, match=r"or --download to fetch ICIAR2018_BACH_Challenge.zip \(10.4 GB\)"):
        prepare_dataset("bach", data_dir=data)
    assert published.ranges == []
    assert prepare_dataset("bach", data_dir=data, download=True).images == 8
    assert any("CC BY-NC-ND 4.0" in line for line in caplog.messages)
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
    monkeypatch.setitem(CONFIGS, "bach", (collection,))
    root = tmp_path / "bach" / "ICIAR2018_BACH_Challenge"
    lay_out_bach(root, collection)
    archive = shutil.make_archive(str(root), "zip", root.parent, root.name)
    from_zip = prepare_dataset("bach", Path(archive), tmp_path / "a")
    from_folder = prepare_dataset("bach", root, tmp_path / "b")
    assert from_zip.images == len(collection.records)
    held = fingerprint(from_zip)
    assert any(".tfrecord" in name for name in held)
    assert fingerprint(from_folder) == held


def test_nothing_is_printed_to_stdout(tmp_path, capsys):
    prepare_dataset("phantom", data_dir=tmp_path)
    assert capsys.readouterr().out == ""


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(UserError, match="no config 'other'"):
        prepare_dataset("other", data_dir=tmp_path)
    with pytest.raises(UserError, match="leave the source out"):
        prepare_dataset("phantom", tmp_path, tmp_path)
    with pytest.raises(MissingError, match=r"downloads/manual, which does not exist: give --source"):
        prepare_dataset("bach", data_dir=tmp_path)
