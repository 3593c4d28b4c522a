import dataclasses
import hashlib
import json

import pytest

from bach_keras.run_folder import Run
from datasets.catalogue import BACH, BACH_PATIENTS, get_collections
from datasets.errors import UserError
from datasets.split_data import SplitData, data_of_run, split_data
from datasets.splits import get_split, leak_note


@pytest.fixture
def sheet(tmp_path):
    """A sheet of patients that leaves out a fifth of BACH."""
    path = tmp_path / "sheet.csv"
    named = [(record.filename, number // 4) for number, record in enumerate(BACH.records) if number % 100 < 80]
    path.write_text("".join(f"{filename},{patient}\n" for filename, patient in named))
    return path


def test_a_split_needs_no_images(tmp_path):
    data = split_data("bach", "patient", data_dir=tmp_path)
    assert {name: len(files) for name, files in data.files.items()} == {"train": 268, "validation": 132, "test": 0}
    assert data.origin == {"seed": 0, "patients_sha256": None, "note": leak_note("bach", "patient")}
    assert data.held_out == "validation"
    with pytest.raises(FileNotFoundError, match="bach is not prepared"):
        split_data("bach", "patient", data_dir=tmp_path).prepared.summary()


def test_a_sheet_of_patients_is_known_by_its_content(sheet):
    data = split_data("bach", "kfold:4/2", seed=3, patients=sheet)
    assert data.origin["seed"] == 3
    assert data.origin["patients_sha256"] == hashlib.sha256(sheet.read_bytes()).hexdigest()
    assert "leaves out 80 of BACH's 400" in data.origin["note"]
    assert len(data.files["validation"]) == 80
    without = split_data("bach", "kfold:4/2", seed=3)
    assert "cannot exclude leaks" in without.origin["note"]
    assert without.files != data.files


@pytest.fixture
def bach(tmp_path):
    """A prepared BACH as an earlier version left it, without pixels and without groups; and BISQUE with it."""
    records = [record for collection in get_collections("bach_bisque") for record in collection.records]
    rows = [
        dataclasses.asdict(record) | {"group": "" if record.source == "bach" else record.group, "sha256": "0"}
        for record in records
    ]
    folder = tmp_path / "bach_bisque" / "bach_bisque" / "1.1.0"
    folder.mkdir(parents=True)
    for name, content in (("dataset_info.json", {}), ("metadata.json", {"train": rows})):
        (folder / name).write_text(json.dumps(content))
    return tmp_path


def test_the_groups_are_the_known_patients_and_arrays(bach):
    groups = split_data("bach_bisque", "patient", data_dir=bach).groups
    assert len(groups) == 458
    assert {name: group for name, group in groups.items() if group and not name.startswith("ytma")} == BACH_PATIENTS
    assert groups["ytma55_030603_benign6_ccd.tif"] == "ytma55_030603"
    assert groups["n001.tif"] == ""


def test_the_groups_of_a_split_by_a_sheet_are_the_sheets_and_a_run_keeps_them(bach, sheet, caplog):
    data = split_data("bach_bisque", "patient", data_dir=bach, patients=sheet)
    caplog.clear()  # of what such a sheet contradicts
    assert (data.groups["n001.tif"], data.groups["b051.tif"], data.groups["n090.tif"]) == ("0", "37", "")
    assert data.groups["ytma55_030603_benign6_ccd.tif"] == "ytma55_030603"
    config = {"config": "bach_bisque", "protocol": "patient", "split": data.files, "split_origin": data.origin}
    assert data_of_run(json.loads(json.dumps(config)), bach).groups == data.groups
    assert caplog.messages == []
    del config["split_origin"]["patients"]  # as runs of earlier versions have it
    older = data_of_run(config, bach)
    assert older.groups["b051.tif"] == BACH_PATIENTS["b051.tif"]
    assert older.groups is older.groups
    assert [line for line in caplog.messages if "kept only the digest" in line] == caplog.messages
    assert len(caplog.messages) == 1


def test_phantoms_are_judged_on_their_own_test_images_under_every_protocol():
    for protocol in ("paper", "patient", "kfold:3/1", "all"):
        assert split_data("phantom", protocol).held_out == "test"


def test_a_run_holds_its_split_and_where_it_came_from(tree_of_runs, few_phantoms):
    config = Run.open(tree_of_runs["norbe"]).settings
    assert config["split_origin"] == few_phantoms.origin
    data = data_of_run(json.loads(json.dumps(config)))
    assert isinstance(data, SplitData)
    assert (data.config, data.protocol, data.files) == ("phantom", "patient", few_phantoms.files)


def test_a_resumed_run_keeps_its_own_split_whatever_is_published_now():
    split = get_split("bisque", "patient", seed=9)
    files = {"train": sorted(n for n, p in split.items() if p == "train"), "validation": ["x.tif"], "test": []}
    config = {"config": "bisque", "protocol": "patient", "split": files}
    data = data_of_run(config)
    assert (data.config, data.protocol, data.files, data.origin) == ("bisque", "patient", files, {})


@pytest.fixture
def prepared(tmp_path):
    """A prepared set of two images, without their pixels."""
    folder = tmp_path / "bach_bisque" / "bisque" / "1.2.0"
    folder.mkdir(parents=True)
    rows = [
        {"filename": name, "label": "benign", "group": "", "source": "bisque", "sha256": digit}
        for name, digit in (("a.tif", "0"), ("b.tif", "1"))
    ]
    for name, content in (("dataset_info.json", {}), ("metadata.json", {"train": rows})):
        (folder / name).write_text(json.dumps(content))
    return tmp_path


def data_of(prepared, *names):
    return data_of_run({"config": "bisque", "protocol": "all", "split": {"train": list(names)}}, prepared)


def test_a_run_on_images_that_the_set_does_not_hold_is_refused(prepared):
    data = data_of(prepared, "a.tif", "x.tif")
    assert data.labels == {"a.tif": "benign", "b.tif": "benign"}
    with pytest.raises(UserError, match=r"bisque holds no image x\.tif \(1 unknown names\)"):
        data.digest(data.files["train"])


def test_a_digest_is_of_the_names_in_any_order_and_of_whatever_iterates_over_them(prepared):
    data = data_of(prepared, "a.tif", "b.tif")
    digest = data.digest(["a.tif", "b.tif"])
    assert digest == data.digest(name for name in ("b.tif", "a.tif"))
    assert digest not in (data.digest(["a.tif"]), data.digest([]))
