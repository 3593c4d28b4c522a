"""Reading what was prepared, with TensorFlow and without."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from datasets import phantom
from datasets.bach_bisque.bach_bisque_dataset_builder import Builder
from datasets.bach_bisque.prepare import prepare_dataset
from datasets.bach_bisque.prepared import Prepared
from datasets.errors import MissingError, UserError
from datasets.labels import LABELS

pytestmark = pytest.mark.usefixtures("tiny_configs")


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
    Builder(config="phantom", data_dir=tmp_path).download_and_prepare(download_config=config)
    assert Prepared("phantom", tmp_path).summary().images == 2
    assert Prepared("phantom", tmp_path).differences() == []


def test_images_are_read_in_one_fixed_order(tmp_path):
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


def test_only_the_named_images_are_read(tmp_path):
    prepare_dataset("phantom", data_dir=tmp_path)
    names = ["phantom-normal-p000-0.png", "phantom-benign-p001-1.png"]
    dataset = Prepared("phantom", tmp_path).load(names)
    assert dataset.cardinality() == 2
    assert {example["filename"].decode() for example in dataset.as_numpy_iterator()} == set(names)
    with pytest.raises(ValueError, match=r"phantom holds no image n001.tif \(1 unknown names\)"):
        Prepared("phantom", tmp_path).load([*names, "n001.tif"])


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


def test_an_earlier_version_is_not_read_and_said_to_be_removable(tmp_path, caplog):
    old = tmp_path / "bach_bisque" / "phantom" / "1.0.0"
    old.mkdir(parents=True)
    (old / "dataset_info.json").write_text("{}")
    assert not Prepared("phantom", tmp_path).is_there
    with pytest.raises(FileNotFoundError, match=r"in version 1.2.0, only in 1.0.0: run"):
        Prepared("phantom", tmp_path).summary()
    prepare_dataset("phantom", data_dir=tmp_path)
    assert caplog.messages == [f"{old} is of an earlier version and no longer read: it can be removed."]
    assert old.exists()


def test_a_version_whose_records_hold_the_same_is_read_until_it_is_prepared_again(tmp_path, caplog):
    summary = prepare_dataset("phantom", data_dir=tmp_path)
    old = summary.path.rename(summary.path.with_name("1.1.0"))
    info = old / "dataset_info.json"
    info.write_text(info.read_text().replace('"version": "1.2.0"', '"version": "1.1.0"'))
    prepared = Prepared("phantom", tmp_path)
    assert (prepared.summary().path, prepared.summary().version) == (old, "1.1.0")
    assert prepared.differences() == []
    assert sum(1 for _ in prepared.load()) == 6
    assert caplog.messages == []
    assert prepare_dataset("phantom", data_dir=tmp_path, overwrite=True).path == summary.path
    assert caplog.messages == [f"{old} is of an earlier version and no longer read: it can be removed."]
    assert Prepared("phantom", tmp_path).summary() == dataclasses.replace(summary, built=False)


@pytest.mark.parametrize("name", ["metadata.json", "dataset_info.json"])
@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: "[" * 100_000, lambda text: "3"])
def test_a_damaged_description_is_reported_and_can_be_overwritten(tmp_path, name, damage):
    path = prepare_dataset("phantom", data_dir=tmp_path).path / name
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=r"phantom/1\.2\.0 is damaged .*: prepare it again with .* --overwrite`\.$"):
        Prepared("phantom", tmp_path).load()
    assert prepare_dataset("phantom", data_dir=tmp_path, overwrite=True).images == 6


def test_a_set_without_its_table_is_not_prepared(tmp_path):
    (prepare_dataset("phantom", data_dir=tmp_path).path / "metadata.json").unlink()
    assert not Prepared("phantom", tmp_path).is_there
    assert prepare_dataset("phantom", data_dir=tmp_path).built


ROW = {"filename": "a.png", "label": "benign", "group": "", "source": "phantom", "sha256": "0"}


@pytest.mark.parametrize(
    "table",
    [
        {}, {"test": []}, {"train": 3}, {"train": []}, {"train": [3]}, [],
        *({"train": [row]} for row in ({"filename": "a.png"}, ROW | {"group": 3}, ROW | {"label": "other"})),
        {"train": [ROW], "test": [{}]},
    ],
)  # fmt: skip
def test_a_table_without_the_labelled_images_is_reported_by_every_reader(tmp_path, table):
    folder = Prepared("phantom", tmp_path).folder
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "metadata.json").write_text(json.dumps(table))
    readers = (
        Prepared.summary, Prepared.load, Prepared.differences,
        *(getattr(Prepared, name).fget for name in ("records", "digests", "is_there")),
    )  # fmt: skip
    for read in readers:
        with pytest.raises(UserError, match=r"is damaged .*: prepare it again .* --overwrite`\.$"):
            read(Prepared("phantom", tmp_path))
    with pytest.raises(UserError, match=r"is damaged .*: prepare it again"):
        prepare_dataset("phantom", data_dir=tmp_path)


def test_a_set_that_is_not_prepared_names_the_command(tmp_path):
    with pytest.raises(MissingError, match=r"data prepare --config bach --source DIR_OR_ZIP"):
        Prepared("bach", tmp_path).load()
    with pytest.raises(MissingError, match=r"data prepare --config phantom` first"):
        Prepared("phantom", tmp_path).summary()


TABLES = """
import sys
from click.testing import CliRunner
from cli import cli

for words in (["info"], ["splits", "--config", "bach"]):
    print(CliRunner().invoke(cli, ["data", *words]).output)
print([name for name in ("tensorflow", "tensorflow_datasets") if name in sys.modules])
"""


def test_the_tables_are_read_without_tensorflow(tmp_path):
    prepare_dataset("phantom", data_dir=tmp_path)
    root, environment = Path(__file__).parents[2], os.environ | {"TFDS_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", TABLES], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert "phantom: 6 images" in done.stdout
    assert "bach, patient, seed 0: 268 train, 132 validation" in done.stdout
    assert done.stdout.endswith("\n[]\n"), done.stderr


def test_the_folder_of_data_sets_is_the_one_of_tfds(tmp_path, monkeypatch):
    for name, data_dir in (("given", tmp_path), ("default", None)):
        builder = Builder(config="phantom", data_dir=data_dir)
        prepared = Prepared("phantom", data_dir)
        assert (name, prepared.root, prepared.folder) == (name, Path(builder.data_dir_root), Path(builder.data_path))
    monkeypatch.setenv("TFDS_DATA_DIR", "~/sets")
    assert Prepared("phantom").root == Path.home() / "sets"
