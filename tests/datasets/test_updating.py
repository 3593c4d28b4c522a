"""Bringing a set of an earlier version up to date from its own records."""

import json
import shutil

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from datasets.bach_bisque import replacing
from datasets.bach_bisque.bach_bisque_dataset_builder import Builder
from datasets.bach_bisque.prepare import prepare_dataset
from datasets.bach_bisque.prepared import Prepared
from datasets.catalogue import BACH_PATIENTS, VERSION
from datasets.errors import UserError, WorkError
from tests.datasets.conftest import fingerprint

pytestmark = pytest.mark.usefixtures("tiny_configs")

OLDER = ("1.1.1", "1.1.0")
KNOWN = ("n051.tif", "b051.tif", "is051.tif", "iv051.tif")  # the images of the small BACH whose patients are known


def make_older(summary, version, change=lambda features: None):
    """Turn a set into what an earlier version prepared: no group of BACH's is known; 1.1.0 encoded otherwise."""
    for path in summary.path.glob("*.tfrecord*"):
        examples = [tf.train.Example.FromString(data.numpy()) for data in tf.data.TFRecordDataset(str(path))]
        with tf.io.TFRecordWriter(str(path)) as writer:
            for example in examples:
                features = example.features.feature
                if features["source"].bytes_list.value[0] == b"bach":
                    features["group"].bytes_list.value[0] = b""
                if version == "1.1.0":
                    pixels = tf.io.decode_png(features["image"].bytes_list.value[0])
                    features["image"].bytes_list.value[0] = tf.io.encode_png(pixels).numpy()
                change(features)
                writer.write(example.SerializeToString(deterministic=True))
    table = summary.path / "metadata.json"
    rows = json.loads(table.read_text())
    for row in (row for split in rows.values() for row in split if row["source"] == "bach"):
        row["group"] = ""
    table.write_text(json.dumps(rows))
    info = summary.path / "dataset_info.json"
    info.write_text(info.read_text().replace(f'"version": "{VERSION}"', f'"version": "{version}"'))
    return summary.path.rename(summary.path.with_name(version))


@pytest.fixture
def fresh(tmp_path, bach_root, bach_test_root):
    """A small BACH with its test images, as this version prepares it."""
    return prepare_dataset("bach", bach_root.parent, tmp_path / "fresh")


@pytest.fixture(params=OLDER)
def older(request, tmp_path, fresh):
    """The folder of data sets that holds the same as an earlier version prepared it."""
    copy = shutil.copytree(tmp_path / "fresh", tmp_path / "older")
    make_older(Prepared("bach", copy).summary(), request.param)
    return copy


def test_an_older_set_has_the_patients_that_are_known_today(older):
    prepared = Prepared("bach", older)
    assert prepared.is_older
    groups = {record.filename: record.group for record in prepared.records}
    assert {name: group for name, group in groups.items() if group} == {name: BACH_PATIENTS[name] for name in KNOWN}
    assert {e["filename"].decode(): e["group"].decode() for e in prepared.load().as_numpy_iterator()} == groups
    assert (prepared.summary().groups, prepared.summary().ungrouped) == (4, 4)
    assert prepared.differences() == []


def test_an_update_gives_the_files_of_a_fresh_build_and_keeps_the_older_ones(older, fresh, caplog):
    before = Prepared("bach", older).summary()
    held = fingerprint(before)
    summary = prepare_dataset("bach", data_dir=older)
    assert (summary.version, summary.updated_from, summary.built) == (VERSION, before.version, False)
    assert fingerprint(summary) == fingerprint(fresh)
    assert (summary.groups, summary.ungrouped, summary.test_images) == (4, 4, 3)
    assert Prepared("bach", older).differences() == []
    assert fingerprint(before) == held
    assert caplog.messages == [f"{before.path} is of an earlier version and no longer read: it can be removed."]
    assert prepare_dataset("bach", data_dir=older).updated_from == ""


def test_an_interrupted_update_leaves_what_was_there_and_can_be_run_again(older, fresh, monkeypatch):
    before = Prepared("bach", older).summary()
    held = fingerprint(before)
    with monkeypatch.context() as patch:
        patch.setattr(replacing, "replace", lambda target, new: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare_dataset("bach", data_dir=older)
    assert Prepared("bach", older).summary() == before
    assert fingerprint(before) == held
    assert sorted(path.name for path in before.path.parent.iterdir()) == [".prepare.lock", before.version]
    assert fingerprint(prepare_dataset("bach", data_dir=older)) == fingerprint(fresh)


def test_a_full_disk_leaves_the_older_set(older, monkeypatch):
    def fail(*args, **how):
        raise tf.errors.ResourceExhaustedError(None, None, "a; No space left on device")

    monkeypatch.setattr(Builder, "download_and_prepare", fail)
    before = Prepared("bach", older).summary()
    with pytest.raises(WorkError, match=r"bach/1\.2\.0 cannot be written: No space left"):
        prepare_dataset("bach", data_dir=older)
    assert Prepared("bach", older).summary() == before


def test_a_source_is_not_read_for_an_update(older, tmp_path, caplog):
    assert prepare_dataset("bach", tmp_path, older).updated_from
    assert "so " + str(tmp_path) + " was not read: --overwrite" in caplog.messages[0]


def black(features):
    features["image"].bytes_list.value[0] = tf.io.encode_png(tf.zeros((24, 32, 3), tf.uint8)).numpy()


def of_one_name(features):
    features["filename"].bytes_list.value[0] = b"phantom-normal-p000-0.png"


def of_no_name(features):
    del features["filename"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (black, "its image phantom-.*png is not the one that was prepared"),
        (of_one_name, "(not the one that was prepared|twice)"),
        (of_no_name, "list index"),
        (lambda features: features["filename"].bytes_list.value.__setitem__(0, b"x.png"), "it holds x.png, which was"),
    ],
)
def test_a_damaged_set_is_not_copied(tmp_path, change, reason):
    old = make_older(prepare_dataset("phantom", data_dir=tmp_path), "1.1.1", change)
    with pytest.raises(
        UserError, match=rf"phantom/1\.1\.1 is damaged \(.*{reason}.*prepare it again with .*--overwrite"
    ):
        prepare_dataset("phantom", data_dir=tmp_path)
    assert sorted(path.name for path in old.parent.iterdir()) == [".prepare.lock", "1.1.1"]


def test_a_set_with_missing_records_or_wrong_checksums_is_not_copied(tmp_path):
    old = make_older(prepare_dataset("phantom", data_dir=tmp_path), "1.1.1")
    [path] = old.glob("*.tfrecord*")
    first = next(iter(tf.data.TFRecordDataset(str(path)))).numpy()
    whole = path.read_bytes()
    for content, reason in (
        (whole[: len(first) + 16], "5 of its images are missing"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "corrupted record"),
        (whole[: len(first) + 16] * 2, "twice"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"is damaged \(.*{reason}"):
            prepare_dataset("phantom", data_dir=tmp_path)


def test_phantoms_of_an_earlier_version_are_brought_up_to_date_too(tmp_path):
    fresh = prepare_dataset("phantom", data_dir=tmp_path)
    held = fingerprint(fresh)
    make_older(fresh, "1.1.0")
    assert fingerprint(prepare_dataset("phantom", data_dir=tmp_path)) == held


def test_a_part_of_a_set_stays_a_part(tmp_path):
    config = tfds.download.DownloadConfig(max_examples_per_split=2)
    Builder(config="phantom", data_dir=tmp_path).download_and_prepare(download_config=config)
    make_older(Prepared("phantom", tmp_path).summary(), "1.1.1")
    assert prepare_dataset("phantom", data_dir=tmp_path).images == 2
