import dataclasses
from collections import Counter

import pytest

from datasets import publish_splits, splits
from datasets.catalogue import BACH, BACH_PATIENTS, BISQUE, BISQUE_ARRAYS, CONFIGS, PHANTOM, Record, get_collections
from datasets.errors import UserError
from datasets.labels import LABELS
from datasets.splits import get_split, leak_note, make_split, published_path, read_split, write_split

PROTOCOLS = ("paper", "patient", "kfold:3/2", "all")
# What the challenge's sheet could be like: four neighbours are of one patient, and the last of a class are left out.
PATIENTS = {
    record.filename: f"{record.label} {number % 100 // 4}"
    for number, record in enumerate(BACH.records)
    if number % 100 < 80
}


def all_records(config):
    return [record for collection in get_collections(config) for record in collection.records]


def count(collection, split, part):
    return Counter(record.label for record in collection.records if split[record.filename] == part)


def groups_of(collection, split, part):
    return {record.group for record in collection.records if split[record.filename] == part}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("protocol", splits.PUBLISHED_PROTOCOLS)
def test_published_files_are_what_the_code_makes(config, protocol):
    records = all_records(config)
    split = make_split(records, config, protocol)
    assert read_split(published_path(config, protocol)) == split
    assert get_split(config, protocol) == split
    assert set(split) == {record.filename for record in records}


def test_nothing_else_is_published():
    expected = {published_path(config, protocol) for config in CONFIGS for protocol in splits.PUBLISHED_PROTOCOLS}
    assert set(splits.PUBLISHED.iterdir()) == {*expected, publish_splits.PAGE}


def test_the_published_page_counts_what_the_files_hold():
    page = publish_splits.PAGE.read_text()
    assert page == publish_splits.page()
    split = read_split(published_path("bach", "patient"))
    held = Counter(split.values())
    labels = count(BACH, split, "validation")
    cells = [held["train"], held["validation"], 0, *(labels[label] for label in LABELS)]
    assert f"| bach | [`patient`](bach-patient.csv) [2] | {' | '.join(map(str, cells))} |" in page
    assert f"- [2] {leak_note('bach', 'patient')}" in page
    assert "cannot exclude leaks" in page


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_order_of_the_records_does_not_matter(protocol):
    records = all_records("bach_bisque")
    assert make_split(records[::-1], "bach_bisque", protocol) == make_split(records, "bach_bisque", protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
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
def test_bisque_by_patient_keeps_arrays_together_and_both_labels_on_both_sides(seed):
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
        for protocol in PROTOCOLS
        for seed in (0, 1)
    ]
    assert len(tests[0]) == 200
    assert all(names == tests[0] for names in tests)


@pytest.mark.parametrize(("config", "seed", "patients"), [
    ("bach", 0, None), ("bach", 3, PATIENTS), ("bisque", 0, None), ("bisque", 2, None), ("phantom", 1, None),
])  # fmt: skip
def test_folds_split_the_images_and_keep_groups_together(config, seed, patients):
    (collection,) = get_collections(config)
    usable = {r.filename for r in collection.records if r.group not in collection.test_groups}
    group = {r.filename: r.group or r.filename for r in collection.records} | (patients or {})
    if patients:  # others than the known ones, none of which the sheet leaves out where they validate
        group |= {r.filename: r.filename for r in collection.records if r.filename not in patients}
    validated = []
    for fold in range(1, 6):
        split = get_split(config, f"kfold:5/{fold}", seed, patients=patients)
        validation = [name for name, part in split.items() if part == "validation"]
        train = {name for name, part in split.items() if part == "train"}
        assert train | set(validation) == usable
        assert {group[name] for name in train}.isdisjoint(group[name] for name in validation)
        assert len(validation) == pytest.approx(len(patients or usable) / 5, abs=16)
        assert {r.label for r in collection.records if r.filename in train} == {
            r.label for r in collection.records if split[r.filename] == "validation"
        }
        validated += validation
    assert sorted(validated) == sorted(patients or usable)


def test_folds_without_groups_are_stratified_exactly():
    alone = [dataclasses.replace(record, group="") for record in BACH.records]
    for fold in range(1, 6):
        split = make_split(alone, "bach", f"kfold:5/{fold}", seed=7)
        assert set(count(BACH, split, "validation").values()) == {20}


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("folds", [3, 5])
def test_folds_of_bach_keep_its_known_patients_whole(folds, seed):
    for fold in range(1, folds + 1):
        split = get_split("bach", f"kfold:{folds}/{fold}", seed)
        assert groups_of(BACH, split, "train") & groups_of(BACH, split, "validation") == {""}
        # A fold with the patient of 36 images, 21 of them benign, has a few images more.
        assert all(abs(n - 100 / folds) <= 6 for n in count(BACH, split, "validation").values())


def test_no_patient_is_on_both_sides_of_the_published_split_by_patient():
    split = read_split(published_path("bach", "patient"))
    validation = [BACH_PATIENTS[name] for name, part in split.items() if part == "validation"]  # all are named
    assert (len(validation), len(set(validation))) == (132, 24)
    train = {BACH_PATIENTS.get(name) for name, part in split.items() if part == "train"}
    assert len(train - {None}) == 5
    assert train.isdisjoint(validation)


def test_a_share_is_the_nearest_that_undivided_groups_can_make():
    # Of 12 benign and 8 malignant images a quarter is 3 and 2: b comes nearest, and nothing then brings it nearer.
    sizes = {"a": (8, 0), "b": (3, 3), "c": (1, 5)}
    groups = {
        name: [Record("", label, name, "") for label in ["benign"] * benign + ["malignant"] * malignant]
        for name, (benign, malignant) in sizes.items()
    }
    assert splits._share(groups, 4) == ["b"]
    # A half is 6 and 4: b is nearest again, and is nearer alone than with a or c.
    assert splits._share(groups, 2) == ["b"]


@pytest.mark.parametrize("seed", [0, 1])
def test_with_a_sheet_patients_stay_together_and_unnamed_images_train(seed):
    split = get_split("bach_bisque", "patient", seed, patients=PATIENTS)
    train, validation = (
        {PATIENTS[name] for name in PATIENTS if split[name] == part} for part in ("train", "validation")
    )
    assert train.isdisjoint(validation)
    assert {split[r.filename] for r in BACH.records if r.filename not in PATIENTS} == {"train"}
    assert set(count(BACH, split, "validation").values()) == {20}
    bisque = get_split("bisque", "patient", seed)
    assert {name: split[name] for name in bisque} == bisque


def test_the_seed_draws_among_patients():
    assert get_split("bach", "patient", 0, patients=PATIENTS) != get_split("bach", "patient", 1, patients=PATIENTS)


def test_all_keeps_nothing_to_validate():
    assert set(get_split("bach_bisque", "all").values()) == {"train"}
    assert Counter(get_split("phantom", "all").values()) == {"train": 920, "test": 200}


def test_what_a_split_cannot_exclude_is_said():
    assert "both sides" in leak_note("bisque", "paper")
    for config in ("bach", "bach_bisque"):
        note = leak_note(config, "kfold:5/2")
        assert "The patients of 255 of BACH's 400 images are not known: kfold:5/2 keeps the 29 known patients" in note
        assert "the others' images one by one, so it cannot exclude leaks among those" in note
        assert "not known; all of them train" in leak_note(config, "patient")
        assert "leaves out 80 of BACH's 400" in leak_note(config, "kfold:5/2", PATIENTS)
    whole = {record.filename: "1" for record in BACH.records}
    quiet = [("phantom", "kfold:5/1", None), ("bach", "patient", whole), ("bach", "all", None),
             ("bisque", "all", None), ("bach", "kfold:5/1", whole)]  # fmt: skip
    assert [leak_note(*asked) for asked in quiet] == [""] * len(quiet)


@pytest.mark.parametrize("protocol", ["patient", "kfold:5/1"])
def test_the_dates_of_one_array_are_said_to_count_as_groups(protocol):
    arrays = Counter(group.partition("_")[0] for group in BISQUE_ARRAYS)
    assert [(array, count) for array, count in arrays.items() if count > 1] == [("ytma49", 6)]
    note = leak_note("bisque", protocol)
    assert note == (
        "BISQUE's slides of array 49 bear six dates and count as six groups: whether they share patients is not known."
    )
    assert leak_note("bach_bisque", protocol) == " ".join(filter(None, [leak_note("bach", protocol), note]))
    assert note in leak_note("bach_bisque", protocol, PATIENTS)
    assert note not in leak_note("bach", protocol, PATIENTS)


@pytest.mark.parametrize(
    ("config", "protocol", "patients", "complaint"),
    [
        ("bach", "patients", None, r"no protocol 'patients': choose paper, patient, all or kfold:K/i"),
        ("bach", "kfold:5", None, "no protocol 'kfold:5'"),
        ("bach", "kfold:5/01", None, "no protocol 'kfold:5/01'"),
        ("bach", "../bach-paper", None, "no protocol"),
        ("bach", "kfold:5/0", None, "no fold 'kfold:5/0'"),
        ("bach", "kfold:5/6", None, "i goes from 1 to K"),
        ("bach", "kfold:1/1", None, "K is at least 2"),
        ("bisque", "kfold:10/1", None, "kfold:10/1 on bisque leaves a validation set without malignant images"),
        ("bach", "kfold:9999/1", None, r"cannot split bach into 9999: it has 284 patients.*Choose a smaller K"),
        ("bach", "kfold:101/1", None, "without benign images"),
        ("bach", "patient", {"b001.tif": "1"}, "without benign, insitu, invasive, normal images"),
        ("bach", "paper", PATIENTS, "changes nothing for protocol paper on bach"),
        ("bisque", "patient", PATIENTS, "changes nothing for protocol patient on bisque"),
    ],
)
def test_a_split_that_cannot_be_is_refused(config, protocol, patients, complaint):
    with pytest.raises(UserError, match=complaint):
        get_split(config, protocol, patients=patients)


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match=r"no config 'bac'"):
        get_split("bac", "paper")
    stray = dataclasses.replace(BISQUE.records[0], source="elsewhere")
    with pytest.raises(ValueError, match=r"ytma10_010704_benign1_ccd.tif is of 'elsewhere'"):
        make_split([stray], "bisque", "paper")


def test_a_written_split_reads_back_sorted_and_leaves_nothing_else(tmp_path):
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
    with pytest.raises(UnicodeEncodeError):
        write_split(out, {"b.tif": "train", "\udcff.tif": "train"})
    assert read_split(out) == {"a.tif": "train"}
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(UserError, match="is a folder: name a CSV file"):
        write_split(tmp_path, {"a.tif": "train"})


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
