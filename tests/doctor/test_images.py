"""Data sets and the patient table: what is damaged, altered or changed since it was verified is named."""

import os

import pytest
import tensorflow as tf

from bach_keras.doctor import images, inside, tried
from bach_keras.doctor.finding import FAIL, PASS, WARN, Asked
from datasets.bach_bisque.prepared import Prepared
from datasets.bach_bisque.verified import record_verification
from datasets.catalogue import PHANTOM
from tests.datasets.a_set import write_set
from tests.doctor.said import Said


@pytest.fixture
def asked(tmp_path):
    write_set(tmp_path, "phantom", PHANTOM.records[:3])
    file = Prepared("phantom", tmp_path).folder / "bach_bisque-train.tfrecord-00000-of-00001"
    with tf.io.TFRecordWriter(str(file)) as writer:
        for number in range(3):
            writer.write(bytes([number]) * 100)
    return Asked(tmp_path)


def records(asked):
    files = {each.config: images.record_files(each) for each in images.prepared_sets(asked)}
    [found] = tried.records(asked, Said(records=inside.records({"sets": files})))
    return found


def test_a_prepared_set_is_described(asked):
    [found] = images.sets(asked)
    assert (found.name, found.status) == ("data phantom", PASS)
    assert found.value.startswith("3 images, version 1.2.0, never verified")
    assert records(asked).value == "all 3 can be read, and their checksums are right"


def test_records_are_found_from_the_folder_that_the_user_is_in(asked, monkeypatch):
    monkeypatch.chdir(asked.data_dir.parent)
    near = Asked(asked.data_dir.relative_to(asked.data_dir.parent))
    [file] = images.record_files(Prepared("phantom", near.data_dir))
    assert os.path.isabs(file)
    assert os.path.samefile(file, images.record_files(Prepared("phantom", asked.data_dir))[0])


def test_when_a_set_was_verified_is_said_until_a_file_changes(asked):
    prepared = Prepared("phantom", asked.data_dir)
    record_verification(prepared)
    [found] = images.sets(asked)
    assert found.status == PASS
    assert "verified on 20" in found.value
    [file] = images.record_files(prepared)
    os.utime(file, ns=(0, 0))
    [found] = images.sets(asked)
    assert found.status == WARN
    assert f"{os.path.basename(file)} has another size or time than when it was verified on 20" in found.value
    assert found.fix == "`python cli.py data verify --config phantom`"


def test_a_corrupt_record_is_named(asked):
    [file] = images.record_files(Prepared("phantom", asked.data_dir))
    with open(file, "r+b") as changed:
        changed.seek(-6, os.SEEK_END)
        changed.write(b"?")
    found = records(asked)
    assert found.status == FAIL
    place = "bach_bisque-train.tfrecord-00000-of-00001 (corrupted record at 244)"
    assert found.value == f"{place}, after 2 that are whole"
    assert "data verify --config phantom" in found.fix


def test_a_missing_record_file_is_counted(asked):
    [file] = images.record_files(Prepared("phantom", asked.data_dir))
    os.unlink(file)
    found = records(asked)
    assert (found.status, found.value) == (FAIL, "0 are there, and 3 were prepared")


def test_reading_ends_when_its_time_is_over(asked, monkeypatch):
    monkeypatch.setattr(inside, "READING", -1.0)
    found = records(asked)
    assert found.status == PASS
    assert found.value.startswith("the first 1 of 3 can be read")


def test_damaged_tables_are_named_with_how_to_prepare_them_again(asked):
    (Prepared("phantom", asked.data_dir).folder / "metadata.json").write_text("{")
    [found] = images.sets(asked)
    assert found.status == FAIL
    assert "damaged" in found.value
    assert found.fix == "`python cli.py data prepare --config phantom --overwrite`"
    assert tried.records(asked, Said(records={"sets": {}})) == []


def test_no_set_at_all_is_well(tmp_path):
    [found] = images.sets(Asked(tmp_path))
    assert (found.status, found.name) == (PASS, "data sets")
    assert tried.records(Asked(tmp_path), Said("not tried")) == []


def test_an_altered_patient_table_is_named(tmp_path, monkeypatch):
    assert images.patients(Asked()).value == "145 images of 29 patients"
    table = tmp_path / "bach_patients.csv"
    published = images.PATIENTS.read_text()
    monkeypatch.setattr(images, "PATIENTS", table)
    table.write_bytes(published.replace("\n", "\r\n").encode())  # as git may write it on Windows
    assert images.patients(Asked()).status == PASS
    for altered in (published.replace(",", ",9", 2), published.rpartition("\n")[0][:-5], ""):
        table.write_text(altered)
        found = images.patients(Asked())
        assert found.status == FAIL
        assert found.fix == "`git checkout -- datasets/bach_patients.csv`"
    table.unlink()
    assert "cannot be read (FileNotFoundError" in images.patients(Asked()).value
