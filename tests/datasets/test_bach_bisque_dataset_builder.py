import dataclasses
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from datasets import phantom
from datasets.bach_bisque.bach_bisque_dataset_builder import BachBisqueConfig, Builder
from datasets.catalogue import PHANTOM
from datasets.labels import LABELS


class BachBisqueTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks, on a config that holds a few images of all three collections."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 8 + 6 + 3, "test": 3}  # noqa: RUF012 - TFDS names it so

    @pytest.fixture(autouse=True)
    def tiny_config(self, tiny_bach, tiny_bisque, bach_zip, bach_test_root, bisque_root):
        manual = bach_zip.parent
        shutil.move(bach_test_root, manual)
        shutil.move(bisque_root, manual)
        type(self).EXAMPLE_DIR = str(manual)
        tiny_phantom = dataclasses.replace(PHANTOM, records=PHANTOM.records[:3])
        config = BachBisqueConfig(
            name="tiny", collections=(tiny_bach, tiny_bisque, tiny_phantom), instructions="All of them."
        )
        type(self).BUILDER_CONFIG_NAMES_TO_TEST = [config]


def test_what_is_stored_is_what_was_given(tmp_path, tiny_bach, bach_root):
    tiny_phantom = dataclasses.replace(PHANTOM, records=PHANTOM.records[5:6])
    config = BachBisqueConfig(name="tiny", collections=(tiny_bach, tiny_phantom), instructions="BACH.")
    builder = Builder(config=config, data_dir=tmp_path / "data")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=bach_root))
    stored = {row["filename"].decode(): row for row in tfds.as_numpy(builder.as_dataset(split="train"))}
    assert set(stored) == {record.filename for record in (*tiny_bach.records, *tiny_phantom.records)}
    for path in bach_root.rglob("[nbi]*.tif"):
        np.testing.assert_array_equal(stored[path.name]["image"], np.asarray(Image.open(path)))
    drawn = stored["phantom-benign-p001-0.png"]
    np.testing.assert_array_equal(drawn["image"], phantom.draw("benign", 1, 0))
    assert LABELS[drawn["label"]] == "benign"
    assert (drawn["group"], drawn["source"]) == (b"p001", b"phantom")


def test_the_bytes_of_a_record_do_not_depend_on_the_process(tmp_path):
    config = BachBisqueConfig(name="tiny", collections=(dataclasses.replace(PHANTOM, records=PHANTOM.records[:3]),))
    builder = Builder(config=config, data_dir=tmp_path)
    builder.download_and_prepare()
    [path] = builder.info.splits["train"].filepaths
    records = [data.numpy() for data in tf.data.TFRecordDataset(str(path))]
    assert len(records) == 3
    for data in records:
        assert tf.train.Example.FromString(data).SerializeToString(deterministic=True) == data


@pytest.mark.parametrize(
    ("config", "cited", "files"),
    [
        (
            "bach",
            ["aresta2019bach", "marza2025thunder", "kone2018hierarchical"],
            ["ICIAR2018_BACH_Challenge.zip", "TestDataset.zip"],
        ),
        ("bisque", ["gelasca2008evaluation", "kone2018hierarchical"], ["ytma*_ccd.tif"]),
        (
            "bach_bisque",
            ["aresta2019bach", "marza2025thunder", "gelasca2008evaluation", "kone2018hierarchical"],
            ["ICIAR2018_BACH_Challenge.zip", "ytma*_ccd.tif"],
        ),
        ("phantom", ["ruifrok2001quantification", "kone2018hierarchical"], []),
    ],
)
def test_each_config_says_what_to_cite_and_what_to_fetch(tmp_path, config, cited, files):
    builder = Builder(config=config, data_dir=tmp_path)
    assert re.findall(r"^@\w+\{(\w+),", builder.info.citation, re.MULTILINE) == cited
    assert builder.info.citation.count("\n}") == len(cited)
    instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS or ""
    assert bool(instructions) == bool(files)
    assert all(name in instructions for name in files)
    assert builder.builder_config.description
    assert ("CC BY-NC-ND 4.0" in builder.info.redistribution_info.license) == ("bach" in config)
    assert builder.info.supervised_keys == ("image", "label")


def test_an_empty_manual_folder_is_answered_with_the_instructions(tmp_path):
    builder = Builder(config="bisque", data_dir=tmp_path)
    with pytest.raises(AssertionError, match=r"does not exist or is empty(.|\n)*ytma\*_ccd\.tif"):
        builder.download_and_prepare()


def test_a_version_that_holds_the_same_images_is_named(tmp_path):
    (tmp_path / "bach_bisque/bisque/1.1.0").mkdir(parents=True)
    (tmp_path / "bach_bisque/bisque/1.1.0/dataset_info.json").write_text("{}")
    with pytest.raises(
        AssertionError, match=r"load bach_bisque/bisque:1\.1\.0, or make version 1\.2\.0 of it with .*--config bisque`"
    ):
        Builder(config="bisque", data_dir=tmp_path).download_and_prepare()


def test_the_versions_notes_say_what_is_new():
    assert str(Builder.VERSION) in Builder.RELEASE_NOTES


def test_every_label_is_documented(tmp_path):
    label = Builder(config="bach", data_dir=tmp_path).info.features["label"]
    assert tuple(label.names) == LABELS
    assert all(f"{name}: " in label.doc.desc for name in LABELS)
