import dataclasses
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets import phantom
from datasets.bach_bisque import bach_bisque_dataset_builder, prepare
from datasets.catalogue import PHANTOM
from datasets.labels import LABELS


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
    summary = prepare.prepare("bisque", bisque_root, tmp_path / "data")
    assert summary.built
    assert summary.images == 6
    assert summary.labels == {"benign": 3, "malignant": 3}
    assert summary.sources == {"bisque": 6}
    assert summary.groups == 1
    assert summary.path.is_dir()


def test_a_second_time_finds_it_even_when_the_source_is_gone(tmp_path, bach_zip):
    first = prepare.prepare("bach", bach_zip, tmp_path)
    bach_zip.unlink()
    second = prepare.prepare("bach", bach_zip, tmp_path)
    assert second == dataclasses.replace(first, built=False) == prepare.describe("bach", tmp_path)
    assert second.groups == 0


def test_bach_and_bisque_together_come_from_one_folder(tmp_path, bach_root, bisque_root):
    summary = prepare.prepare("bach_bisque", tmp_path, tmp_path / "data")
    assert summary.sources == {"bach": 8, "bisque": 6}


def test_the_manual_folder_is_the_default_source(tmp_path, bisque_root):
    manual = tmp_path / "data" / "downloads" / "manual"
    manual.parent.mkdir(parents=True)
    bisque_root.rename(manual)
    assert prepare.prepare("bisque", data_dir=tmp_path / "data").images == 6


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
    assert prepare.is_prepared("bisque", tmp_path / "data")


def test_load_gives_whole_images_in_one_fixed_order(tmp_path):
    prepare.prepare("phantom", data_dir=tmp_path / "a")
    prepare.prepare("phantom", data_dir=tmp_path / "b")
    dataset = prepare.load("phantom", tmp_path / "a")
    assert dataset.cardinality() == 6
    examples = list(dataset.as_numpy_iterator())
    again = [example["filename"] for example in prepare.load("phantom", tmp_path / "b").as_numpy_iterator()]
    assert [example["filename"] for example in examples] == again
    for example in examples:
        name = example["filename"].decode()
        np.testing.assert_array_equal(example["image"], phantom.draw_named(name))
        assert name.split("-")[1] == LABELS[example["label"]]
        assert name.split("-")[2] == example["group"].decode()
        assert example["source"] == b"phantom"
    listed = {record.filename for record in prepare.records("phantom", tmp_path / "a")}
    assert listed == {name.decode() for name in again}


def test_load_gives_the_named_images_alone(tmp_path):
    prepare.prepare("phantom", data_dir=tmp_path)
    names = ["phantom-normal-p000-0.png", "phantom-benign-p001-1.png"]
    dataset = prepare.load("phantom", tmp_path, names)
    assert dataset.cardinality() == 2
    assert {example["filename"].decode() for example in dataset.as_numpy_iterator()} == set(names)
    with pytest.raises(ValueError, match=r"phantom holds no image n001.tif \(1 unknown names\)"):
        prepare.load("phantom", tmp_path, [*names, "n001.tif"])


def test_a_build_that_fails_leaves_nothing_and_can_be_run_again(tmp_path, bisque_root):
    image = next(bisque_root.rglob("*malignant3_ccd.tif"))
    whole = image.read_bytes()
    os.truncate(image, 900)
    with pytest.raises(ValueError, match=r"malignant3_ccd\.tif cannot be read"):
        prepare.prepare("bisque", bisque_root, tmp_path / "data")
    assert not prepare.is_prepared("bisque", tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.tfrecord*"))
    image.write_bytes(whole)
    assert prepare.prepare("bisque", bisque_root, tmp_path / "data").images == 6


def test_what_a_killed_build_left_is_cleared(tmp_path):
    left = tmp_path / "bach_bisque" / "phantom" / "incomplete.ABC123_1.0.0"
    left.mkdir(parents=True)
    (left / "bach_bisque-train.tfrecord").write_bytes(b"half")
    (left.parent / "1.0.0").mkdir()
    assert prepare.prepare("phantom", data_dir=tmp_path).built
    assert not left.exists()
    assert prepare.is_prepared("phantom", tmp_path)


def test_an_incomplete_source_is_refused_before_the_build(tmp_path, bisque_root, monkeypatch):
    next(bisque_root.rglob("*malignant3_ccd.tif")).unlink()
    monkeypatch.setattr(bach_bisque_dataset_builder.sources, "read_image", None)
    with pytest.raises(FileNotFoundError, match=r"5 images of bisque where 6 belong: 1 missing"):
        prepare.prepare("bisque", bisque_root, tmp_path / "data")


def test_nothing_is_printed_to_stdout(tmp_path, capsys):
    prepare.prepare("phantom", data_dir=tmp_path)
    assert capsys.readouterr().out == ""


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no config 'other'"):
        prepare.prepare("other", data_dir=tmp_path)
    with pytest.raises(ValueError, match="leave the source out"):
        prepare.prepare("phantom", tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"downloads/manual to read bach from: give --source"):
        prepare.prepare("bach", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data prepare --config bach --source DIR_OR_ZIP"):
        prepare.load("bach", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data prepare --config phantom` first"):
        prepare.describe("phantom", tmp_path)
