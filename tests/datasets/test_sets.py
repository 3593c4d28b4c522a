"""Sets of one's own and joins of sets, as every command opens them."""

import numpy as np
import pytest

from datasets.bach_bisque.prepare import prepare_dataset
from datasets.bach_bisque.prepared import Prepared, own_sets
from datasets.catalogue import BACH, BISQUE, SCALES
from datasets.errors import MissingError, UserError
from datasets.sets import note_on_patients, open_parts, open_set, patients_in_common
from datasets.split_data import data_of_run, split_data
from tests.datasets.a_set import own_records, write_set

FOUR = {"normal": 4, "benign": 4, "insitu": 4, "invasive": 4}


@pytest.fixture
def two(tmp_path):
    """Two prepared sets of a user's own, of which the second has two labels, and BISQUE."""
    write_set(tmp_path, "own-a", own_records("a", FOUR), um_per_pixel={"own-a/normal/0-0.png": 0.5})
    write_set(tmp_path, "own-b", own_records("b", {"benign": 4, "malignant": 4}))
    return write_set(tmp_path, "bisque", list(BISQUE.records))


def test_a_join_holds_what_its_parts_hold_and_its_split_is_the_union_of_theirs(two):
    joined = split_data("own-b+bisque+own-a", "patient", data_dir=two)
    parts = [split_data(config, "patient", data_dir=two) for config in ("bisque", "own-a", "own-b")]
    assert joined.config == "bisque+own-a+own-b"
    for side in ("train", "validation", "test"):
        assert joined.files[side] == sorted(name for part in parts for name in part.files[side])
    assert joined.labels == {name: label for part in parts for name, label in part.labels.items()}
    assert joined.prepared.summary().images == len(joined.prepared.records) == 58 + 32 + 16
    assert joined.origin["note"].startswith(parts[0].origin["note"])
    joined.check_copies()


def test_patients_of_two_sets_that_are_called_alike_are_two(two):
    groups = split_data("own-a+own-b", "patient", data_dir=two).groups
    assert groups["own-a/benign/0-0.png"] == "own-a/benign0"
    assert groups["own-b/benign/0-0.png"] == "own-b/benign0"
    assert split_data("own-a", "patient", data_dir=two).groups["own-a/benign/0-0.png"] == "benign0"
    assert (
        split_data("bisque+own-a", "patient", data_dir=two).groups["ytma55_030603_benign6_ccd.tif"] == "ytma55_030603"
    )


def test_patients_that_two_sets_name_are_found_as_far_as_the_sets_are_here(two):
    trained = ["own-a/benign/0-0.png", "own-a/benign/1-0.png", "own-a/normal/0-0.png", "own-gone/x.png", "b001.tif"]
    judging = ["own-b/benign/1-1.png", "own-b/benign/2-0.png", "own-b/malignant/0-0.png"]
    assert patients_in_common(trained, judging, two) == ["benign1"]
    assert "1 name of patients, such as benign1, too: if they are the same" in note_on_patients(["benign1"])
    assert patients_in_common(trained, ["own-a/benign/1-1.png"], two) == []  # of one set, where patients are one
    assert patients_in_common(judging, ["own-gone/x.png"], two) == []
    (Prepared("own-b", two).folder / "metadata.json").write_text("{")
    assert patients_in_common(trained, judging, two) == []
    assert note_on_patients([]) == ""


def test_the_patients_of_unknown_images_stay_unknown_in_a_join(tmp_path):
    for name in "ab":
        write_set(tmp_path, f"own-{name}", own_records(name, FOUR, patients=False))
    data = split_data("own-a+own-b", "patient", data_dir=tmp_path)
    assert set(data.groups.values()) == {""}
    assert data.prepared.summary().groups_in_words == "0 patients known, 64 images unknown"


@pytest.fixture
def copies(tmp_path):
    """Return a function that prepares own-a and own-b, of which the second has copies: its images by own-a's sides."""
    records = own_records("b", FOUR)
    write_set(tmp_path, "own-a", own_records("a", FOUR))
    write_set(tmp_path / "other", "own-b", records)
    first, second = (
        split_data(config, "patient", data_dir=root).files
        for config, root in (("own-a", tmp_path), ("own-b", tmp_path / "other"))
    )

    def write(*sides):
        names = [(second[there].pop(), first[here].pop()) for here, there in sides]
        write_set(tmp_path, "own-b", records, sha256=dict(names))
        return names

    return write


@pytest.mark.parametrize("sides", [("train", "validation"), ("validation", "train"), ("validation", "validation")])
def test_the_same_pixels_in_two_sets_are_refused_by_both_names_unless_both_train(copies, tmp_path, sides):
    ((there, here),) = copies(sides)
    data = split_data("own-a+own-b", "patient", data_dir=tmp_path)
    with pytest.raises(UserError, match=r"^own-a\+own-b joins sets that share 1 image, ") as caught:
        data.check_copies()
    assert f"{here} ({sides[0]}) and {there} ({sides[1]})" in str(caught.value)
    split_data("own-b", "patient", data_dir=tmp_path).check_copies()


def test_the_same_pixels_that_train_twice_are_said(copies, tmp_path, caplog):
    ((there, here),) = copies(("train", "train"))
    split_data("own-a+own-b", "patient", data_dir=tmp_path).check_copies()
    assert caplog.messages == [
        f"own-a+own-b joins sets that share 1 image, which train twice, such as {here} and {there}."
    ]


def test_copies_that_were_added_since_a_run_was_split_do_not_concern_it(copies, tmp_path):
    ((there, _),) = copies(("train", "validation"))
    data = split_data("own-a+own-b", "patient", data_dir=tmp_path)
    files = {side: [name for name in names if name != there] for side, names in data.files.items()}
    data_of_run({"config": data.config, "protocol": "patient", "split": files}, tmp_path).check_copies()


def test_names_of_patients_that_two_sets_have_are_said_where_patients_count(two):
    note = split_data("own-a+own-b", "patient", data_dir=two).origin["note"]
    assert note.startswith("In several sets of own-a+own-b: 4 names of patients, such as benign0, taken for different")
    assert "several sets" not in split_data("own-a+own-b", "all", data_dir=two).origin["note"]
    assert "several sets" not in split_data("bisque+own-b", "patient", data_dir=two).origin["note"]


def test_a_part_that_is_not_prepared_is_named(two):
    with pytest.raises(MissingError, match=r"own-c is not prepared in .*--name c .*own images there is own-a, own-b\."):
        split_data("bisque+own-c", "patient", data_dir=two)
    with pytest.raises(MissingError, match="bach is not prepared"):
        open_set("bach+own-a", two).summary()
    assert not open_set("bach+own-a", two).is_there
    assert open_set("bisque+own-a", two).is_there


def test_each_image_has_the_scale_that_is_known_of_it(two):
    scales = open_set("bisque+own-a", two).scales
    assert scales["own-a/normal/0-0.png"] == 0.5
    assert scales["own-a/normal/0-1.png"] is None
    assert scales["ytma55_030603_benign6_ccd.tif"] is SCALES["bisque"] is None


@pytest.mark.parametrize("value", ["0.5", -1, 0, [0.5], float("inf"), float("nan")])
def test_a_scale_that_is_none_is_a_damaged_table(tmp_path, value):
    write_set(tmp_path, "own-a", own_records("a", FOUR), um_per_pixel={"own-a/normal/0-0.png": value})
    with pytest.raises(UserError, match=r"is damaged .*--name a .*--overwrite"):
        split_data("own-a", "patient", data_dir=tmp_path)


def test_a_run_on_a_join_finds_its_images_again(two):
    data = split_data("own-a+own-b", "kfold:2/1", data_dir=two)
    run = {"config": data.config, "protocol": data.protocol, "split": data.files, "split_origin": data.origin}
    again = data_of_run(run, two)
    assert (again.files, again.labels, again.digest(again.files["train"])) == (
        data.files, data.labels, data.digest(data.files["train"])
    )  # fmt: skip
    with pytest.raises(UserError, match=r"own-a\+own-b holds no image x\.png"):
        again.prepared.check_names(["x.png"])


def test_a_sheet_of_bachs_patients_is_about_bach_alone(two, tmp_path):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("".join(f"{record.filename},{number // 4}\n" for number, record in enumerate(BACH.records)))
    joined = split_data("bach+own-a", "kfold:4/1", data_dir=two, patients=sheet)
    assert set(split_data("own-a", "kfold:4/1", data_dir=two).files["validation"]) < set(joined.files["validation"])
    with pytest.raises(UserError, match="A sheet of BACH's patients changes nothing"):
        split_data("own-a+own-b", "kfold:4/1", data_dir=two, patients=sheet)


def test_own_sets_are_found_and_each_part_is_opened_once(two):
    assert own_sets(two) == ["own-a", "own-b"]
    assert own_sets(two / "nowhere") == []
    opened = open_parts(["own-a+own-b", "bisque+own-a", "bisque"], two)
    assert [prepared.config for prepared in opened] == ["bisque", "own-a", "own-b"]
    assert isinstance(open_set("own-a", two), Prepared)


@pytest.mark.usefixtures("tiny_configs")
def test_the_images_of_a_join_are_read_one_part_after_another(tmp_path, bach_root, bisque_root):
    for config, source in (("bach", bach_root), ("bisque", bisque_root)):
        prepare_dataset(config, source, tmp_path / "data")
    joined = open_set("bisque+bach", tmp_path / "data")
    parts = [list(Prepared(config, tmp_path / "data").load().as_numpy_iterator()) for config in ("bach", "bisque")]
    read = list(joined.load().as_numpy_iterator())
    assert [record["filename"] for record in read] == [record["filename"] for part in parts for record in part]
    for record, expected in zip(read, (record for part in parts for record in part), strict=True):
        np.testing.assert_array_equal(record["image"], expected["image"])
    assert len(joined.load()) == 14
    names = ["ytma10_010704_benign1_ccd.tif", "n001.tif"]
    assert {record["filename"].decode() for record in joined.load(names).as_numpy_iterator()} == set(names)
    assert len(joined.load(names)) == 2
    assert list(joined.load([])) == []
