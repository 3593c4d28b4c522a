from collections import Counter

import pytest

from datasets.catalogue import BACH, BACH_PATIENTS, BISQUE, CONFIGS, GROUPS, PHANTOM, UNLABELLED, get_collections
from datasets.labels import LABELS


def labels(collection):
    return Counter(record.label for record in collection.records)


def test_counts_are_the_published_ones():
    assert labels(BACH) == {"normal": 100, "benign": 100, "insitu": 100, "invasive": 100}
    assert labels(BISQUE) == {"benign": 32, "malignant": 26}
    assert len({record.group for record in BISQUE.records}) == 10


def test_the_patients_of_145_images_of_bach_are_known_as_their_list_writes_them():
    groups = {record.filename: record.group for record in BACH.records if record.group}
    assert groups == BACH_PATIENTS
    assert (len(groups), len(set(groups.values()))) == (145, 29)
    assert (groups["b032.tif"], groups["iv051.tif"]) == ("11", "31")
    assert Counter(groups.values()).most_common(3) == [("14", 36), ("17", 18), ("23", 14)]


def test_the_groups_of_every_collection_have_a_name():
    assert set(GROUPS) == {collection.name for config in CONFIGS for collection in get_collections(config)}


def test_names_follow_each_collections_pattern():
    assert [record.filename for record in BACH.records[99:101]] == ["n100.tif", "b001.tif"]
    assert {"is001.tif", "iv100.tif"} <= {record.filename for record in BACH.records}
    assert "ytma55_030603_benign6_ccd.tif" in {record.filename for record in BISQUE.records}
    assert PHANTOM.records[0].key == "normal/phantom-normal-p000-0.png"


@pytest.mark.parametrize("config", CONFIGS)
def test_file_names_are_unique_in_every_config(config):
    collections = get_collections(config)
    names = [record.filename for each in collections for record in (*each.records, *each.unlabelled)]
    assert len(names) == len(set(names))


def test_only_bach_has_unlabelled_images_and_their_label_is_none_of_ours():
    assert [record.filename for record in BACH.unlabelled][::33] == [
        "test0.tif",
        "test33.tif",
        "test66.tif",
        "test99.tif",
    ]
    assert {record.label for record in BACH.unlabelled} == {UNLABELLED}
    assert UNLABELLED not in LABELS
    assert BISQUE.unlabelled == PHANTOM.unlabelled == ()


def test_each_phantom_patient_has_one_class():
    classes = {(record.group, record.label) for record in PHANTOM.records}
    assert len(classes) == len({group for group, _ in classes})


def test_unknown_config_is_named_with_the_choices():
    with pytest.raises(ValueError, match=r"no config 'bisc'.*bach, bisque, bach_bisque, phantom"):
        get_collections("bisc")
