import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from datasets import phantom
from datasets.bach_bisque.bach_bisque_dataset_builder import BachBisqueConfig, Builder
from datasets.catalogue import PHANTOM
from datasets.labels import LABELS


class BachBisqueTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks, on a config that holds a few images of all three collections."""

    DATASET_CLASS = Builder
    SPLITS = {"train": 8 + 6 + 3}  # noqa: RUF012 - TFDS names it so

    @pytest.fixture(autouse=True)
    def tiny_config(self, tiny_bach, tiny_bisque, bach_zip, bisque_root):
        manual = bach_zip.parent
        shutil.move(bisque_root, manual)
        type(self).EXAMPLE_DIR = str(manual)
        tiny_phantom = dataclasses.replace(PHANTOM, records=PHANTOM.records[:3])
        config = BachBisqueConfig(name="tiny", collections=(tiny_bach, tiny_bisque, tiny_phantom))
        type(self).BUILDER_CONFIG_NAMES_TO_TEST = [config]


def test_what_is_stored_is_what_was_given(tmp_path, tiny_bach, bach_root):
    tiny_phantom = dataclasses.replace(PHANTOM, records=PHANTOM.records[5:6])
    config = BachBisqueConfig(name="tiny", collections=(tiny_bach, tiny_phantom))
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


def test_every_label_is_documented(tmp_path):
    label = Builder(config="bach", data_dir=tmp_path).info.features["label"]
    assert tuple(label.names) == LABELS
    assert all(f"{name}: " in label.doc.desc for name in LABELS)
