"""What verification finds: damage of each part of a record file, and records that are not those prepared."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets.bach_bisque.prepare import prepare_dataset
from datasets.bach_bisque.prepared import Prepared

FRAME = 12  # bytes of a record's length and its checksum


@pytest.fixture
def prepared(tmp_path, four_phantoms):
    """Return a data folder with four prepared phantoms, and their record file."""
    [path] = prepare_dataset("phantom", data_dir=tmp_path).path.glob("*.tfrecord*")
    return tmp_path, path


def names(path):
    examples = [tf.train.Example.FromString(data.numpy()) for data in tf.data.TFRecordDataset(str(path))]
    return [example.features.feature["filename"].bytes_list.value[0].decode() for example in examples]


def flip(path, number, where):
    """Change one byte of a record."""
    content = bytearray(path.read_bytes())
    begin = 0
    for _ in range(number):
        begin += FRAME + int.from_bytes(content[begin : begin + 8], "little") + 4
    length = int.from_bytes(content[begin : begin + 8], "little")
    place = {"length": 5, "pixels": FRAME + length // 2, "fields": FRAME + 1, "checksum": FRAME + length + 1}
    content[begin + place[where]] ^= 1
    path.write_bytes(content)


def rewrite(path, change):
    """Write the records again, with right checksums, after changing the first one's features."""
    records = [data.numpy() for data in tf.data.TFRecordDataset(str(path))]
    example = tf.train.Example.FromString(records[0])
    change(example.features.feature)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for data in [example.SerializeToString(), *records[1:]]:
            writer.write(data)


def test_what_was_prepared_is_found_again(prepared):
    assert Prepared("phantom", prepared[0]).differences() == []


def test_each_image_whose_pixels_changed_is_named(prepared):
    data_dir, path = prepared
    held = names(path)
    flip(path, 0, "pixels")
    flip(path, 2, "pixels")
    assert Prepared("phantom", data_dir).differences() == [
        f"{held[number]}: its pixels are not those that were prepared." for number in (0, 2)
    ]


def test_a_record_whose_fields_cannot_be_read_is_counted_and_its_image_named(prepared):
    data_dir, path = prepared
    held = names(path)
    flip(path, 1, "fields")
    assert Prepared("phantom", data_dir).differences() == [
        f"{path}: record 1 is damaged.",
        f"train has no readable record of {held[1]}.",
    ]


def test_all_that_follows_a_damaged_length_is_named(prepared):
    data_dir, path = prepared
    held = names(path)
    flip(path, 2, "length")
    found = Prepared("phantom", data_dir).differences()
    assert found == [
        f"{path}: record 2 is damaged.",
        *(f"train has no readable record of {name}." for name in sorted(held[2:])),
    ]


def test_a_file_cut_short_is_named(prepared):
    data_dir, path = prepared
    last = names(path)[-1]
    path.write_bytes(path.read_bytes()[:-1000])
    found = Prepared("phantom", data_dir).differences()
    assert f"{path}: record 3 is damaged." in found
    assert f"train has no readable record of {last}." in found


def test_a_wrong_checksum_is_reported_even_where_all_else_is_right(prepared):
    data_dir, path = prepared
    flip(path, 1, "checksum")
    [found] = Prepared("phantom", data_dir).differences()
    assert found == f"{path} holds what was prepared, but a wrong checksum, so that TensorFlow will not read it."


def test_a_file_that_is_gone_is_named(prepared):
    data_dir, path = prepared
    path.unlink()
    found = Prepared("phantom", data_dir).differences()
    assert found[0] == f"{path} is missing."
    assert len(found) == 5


@pytest.mark.parametrize(
    ("field", "sentence"),
    [("label", "its label is 'malignant', and 'normal' was prepared"), ("group", "its group is 'p999', and 'p000'")],
)
def test_another_label_or_group_is_named(prepared, field, sentence):
    data_dir, path = prepared

    def change(features):
        if field == "label":
            features["label"].int64_list.value[0] = 4
        else:
            features["group"].bytes_list.value[0] = b"p999"

    rewrite(path, change)
    [found] = Prepared("phantom", data_dir).differences()
    assert sentence in found


def test_a_record_that_was_not_prepared_is_named(prepared):
    data_dir, path = prepared
    first = names(path)[0]

    def change(features):
        features["filename"].bytes_list.value[0] = b"other.png"

    rewrite(path, change)
    assert Prepared("phantom", data_dir).differences() == [
        f"{path} holds other.png, which was not prepared, or holds it twice.",
        f"train has no readable record of {first}.",
    ]


def test_a_record_with_the_large_colour_profile_of_earlier_versions_is_read(prepared):
    data_dir, path = prepared

    def profiled(features):
        image = Image.open(io.BytesIO(features["image"].bytes_list.value[0]))
        png = io.BytesIO()
        image.save(png, "PNG", icc_profile=np.random.default_rng(0).bytes(2_000_000))
        features["image"].bytes_list.value[0] = png.getvalue()

    rewrite(path, profiled)
    assert Prepared("phantom", data_dir).differences() == []
    assert len(list(Prepared("phantom", data_dir).load())) == 4
