import dataclasses
from collections import Counter

import pytest

from datasets import splits
from datasets.catalogue import BACH, BISQUE, CONFIGS, PHANTOM, get_collections
from datasets.splits import get_split, make_split, published_path, read_split, write_split


def all_records(config):
    return [record for collection in get_collections(config) for record in collection.records]


def count(collection, split, part):
    return Counter(record.label for record in collection.records if split[record.filename] == part)


def groups_of(collection, split, part):
    return {record.group for record in collection.records if split[record.filename] == part}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("protocol", splits.PROTOCOLS)
def test_published_files_are_what_the_code_makes(config, protocol):
    records = all_records(config)
    split = make_split(records, config, protocol)
    assert read_split(published_path(config, protocol)) == split
    assert get_split(config, protocol) == split
    assert set(split) == {record.filename for record in records}


def test_nothing_else_is_published():
    expected = {published_path(config, protocol) for config in CONFIGS for protocol in splits.PROTOCOLS}
    assert set(splits.PUBLISHED.iterdir()) == expected


@pytest.mark.parametrize("protocol", splits.PROTOCOLS)
def test_the_order_of_the_records_does_not_matter(protocol):
    records = all_records("bach_bisque")
    assert make_split(records[::-1], "bach_bisque", protocol) == make_split(records, "bach_bisque", protocol)


@pytest.mark.parametrize("protocol", splits.PROTOCOLS)
def test_bach_bisque_is_the_union_of_its_parts(protocol):
    parts = get_split("bach", protocol, seed=5) | get_split("bisque", protocol, seed=5)
    assert get_split("bach_bisque", protocol, seed=5) == parts


@pytest.mark.parametrize("seed", [0, 1])
def test_paper_takes_a_quarter_of_each_class(seed):
    split = get_split("bach_bisque", "paper", seed)
    assert count(BACH, split, "validation") == {"normal": 25, "benign": 25, "insitu": 25, "invasive": 25}
    assert count(BISQUE, split, "validation") == {"benign": 8, "malignant": 6}


def test_the_seed_changes_what_is_drawn():
    assert get_split("bach", "paper", 0) != get_split("bach", "paper", 1)
    assert get_split("bisque", "patient", 0) != get_split("bisque", "patient", 1)
    assert get_split("phantom", "patient", 0) != get_split("phantom", "patient", 1)


def test_bach_by_patient_is_the_known_one():
    split = get_split("bach", "patient")
    assert Counter(split.values()) == {"train": 268, "validation": 132}
    assert count(BACH, split, "validation") == {"benign": 48, "insitu": 30, "invasive": 31, "normal": 23}
    # The ends of the first range: 41 to 59 are Benign's files 042 to 059.
    edges = ["b041.tif", "b042.tif", "b059.tif", "b060.tif", "b061.tif", "n045.tif", "n046.tif"]
    assert [split[name] for name in edges] == [
        "train", "validation", "validation", "train", "validation", "train", "validation",
    ]  # fmt: skip
    assert get_split("bach", "patient", seed=9) == split


@pytest.mark.parametrize("seed", range(8))
def test_bisque_by_patient_keeps_arrays_whole_and_both_labels_on_both_sides(seed):
    split = get_split("bisque", "patient", seed)
    assert groups_of(BISQUE, split, "train").isdisjoint(groups_of(BISQUE, split, "validation"))
    assert "ytma55_030603" in groups_of(BISQUE, split, "train")
    assert set(count(BISQUE, split, "train")) == set(count(BISQUE, split, "validation"))
    assert 10 <= sum(count(BISQUE, split, "validation").values()) <= 16


@pytest.mark.parametrize("seed", [0, 1])
def test_phantom_by_patient_is_three_ways_and_stratified(seed):
    split = get_split("phantom", "patient", seed)
    parts = [groups_of(PHANTOM, split, part) for part in splits.SPLITS]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 224
    for part, images in (("train", 175), ("validation", 55), ("test", 50)):
        assert set(count(PHANTOM, split, part).values()) == {images}


def test_phantom_test_is_the_same_for_every_protocol_and_seed():
    tests = [
        {name for name, part in get_split("phantom", protocol, seed).items() if part == "test"}
        for protocol in splits.PROTOCOLS
        for seed in (0, 1)
    ]
    assert len(tests[0]) == 200
    assert all(names == tests[0] for names in tests)


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match=r"no protocol 'patients'.*paper, patient"):
        get_split("bach", "patients")
    with pytest.raises(ValueError, match=r"no config 'bac'"):
        get_split("bac", "paper")
    stray = dataclasses.replace(BISQUE.records[0], source="elsewhere")
    with pytest.raises(ValueError, match=r"ytma10_010704_benign1_ccd.tif is of 'elsewhere'"):
        make_split([stray], "bisque", "paper")


def test_a_written_split_reads_back_sorted_and_leaves_nothing_beside_it(tmp_path):
    out = tmp_path / "new" / "split.csv"
    split = get_split("bisque", "paper", seed=3, out=out)
    assert read_split(out) == split
    lines = out.read_text().splitlines()
    assert lines[0] == "filename,split"
    assert lines[1:] == sorted(lines[1:])
    assert list(out.parent.iterdir()) == [out]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    out = tmp_path / "split.csv"
    write_split(out, {"a.tif": "train"})
    with pytest.raises(TypeError):
        write_split(out, {"b.tif": "train", 3: "train"})
    assert read_split(out) == {"a.tif": "train"}
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "does not begin with"),
        ("name,split\na.tif,train\n", "does not begin with"),
        ("filename,split\na.tif,training\n", "line 2: 'a.tif,training' is not"),
        ("filename,split\na.tif\n", "line 2"),
        ("filename,split\n,train\n", "line 2"),
        ("filename,split\na.tif,train\na.tif,test\n", "line 3: a.tif is there twice"),
    ],
)
def test_a_bad_split_file_is_refused(tmp_path, text, complaint):
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_split(path)


def test_a_missing_split_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no split file .*none\.csv"):
        read_split(tmp_path / "none.csv")
