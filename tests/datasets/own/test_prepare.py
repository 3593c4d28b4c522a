"""A user's own images as a data set: what becomes of them, and what is said of them."""

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image, ImageOps

from bach_keras.preprocess import View
from bach_keras.training.batches import cache_images
from datasets import phantom
from datasets.bach_bisque.prepare import prepare_dataset
from datasets.bach_bisque.prepared import Prepared
from datasets.catalogue import BISQUE, CONFIGS
from datasets.errors import UserError
from datasets.images.read import read_rgb
from datasets.labels import LABELS
from datasets.own import near
from datasets.own.prepare import prepare_own
from datasets.split_data import split_data
from datasets.splits import make_split
from tests.datasets.a_set import own_records, write_set
from tests.datasets.conftest import _write_images, fingerprint
from tests.datasets.own.own_images import folders, noise, sheet, write
from tests.few_phantoms import NO_SWEEP
from tests.trainings import history, job, trained, weights

ROOT = Path(__file__).parents[3]


def loaded(config, data_dir):
    return {record["filename"].decode(): record for record in Prepared(config, data_dir).load().as_numpy_iterator()}


def test_a_folder_for_each_label_becomes_a_config(tmp_path):
    source = folders(tmp_path / "images", ("Normal", "INVASIVE"))
    write(source / "INVASIVE" / "deeper" / "x.tif", 50)
    summary = prepare_own("clinic-a", source, tmp_path / "data")
    assert summary.built
    assert summary.config == "own-clinic-a"
    assert summary.labels == {"normal": 4, "invasive": 5}
    assert summary.groups_in_words == "0 patients known, 9 images unknown"
    held = loaded("own-clinic-a", tmp_path / "data")
    assert set(held) == {f"own-clinic-a/{path.relative_to(source).as_posix()}" for path in source.rglob("*.*")}
    record = held["own-clinic-a/INVASIVE/deeper/x.tif"]
    np.testing.assert_array_equal(record["image"], noise(50))
    assert (LABELS[record["label"]], record["source"], record["group"]) == ("invasive", b"own-clinic-a", b"")
    assert Prepared("own-clinic-a", tmp_path / "data").differences() == []


def test_tfds_loads_it_with_and_without_the_builder(tmp_path):
    prepare_own("a", folders(tmp_path / "images"), tmp_path / "data")
    load = (
        "import tensorflow_datasets as tfds; print(len(tfds.load('bach_bisque/own-a', split='train', data_dir='{}')))"
    )
    code = load.format(tmp_path / "data")
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.stdout == "8\n", process.stderr
    assert len(tfds.load("bach_bisque/own-a", split="train", data_dir=tmp_path / "data")) == 8


def test_tfds_says_what_to_run_where_it_is_not_prepared(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"prepare --config own --name none --source DIR` first"):
        tfds.load("bach_bisque/own-none", data_dir=tmp_path)
    with pytest.raises(UserError, match=r"prepare --config own --name none --source DIR` first"):
        Prepared("own-none", tmp_path).summary()


def test_every_format_gives_the_pixels_that_predict_sees(tmp_path):
    source = tmp_path / "images"
    names = [f"benign/{number}{ending}" for number, ending in enumerate((".png", ".jpg", ".bmp", ".tif", ".TIFF"))]
    for number, name in enumerate(names):
        write(source / name, number, (40 + number, 36))
    prepare_own("mix", source, tmp_path)
    held = loaded("own-mix", tmp_path)
    for name in names:
        np.testing.assert_array_equal(held[f"own-mix/{name}"]["image"], read_rgb(source / name))


@pytest.fixture(scope="module")
def bisque_in_two_forms(tmp_path_factory):
    """BISQUE with small images: as itself, and as a folder of PNGs with a CSV file of its arrays."""
    root = tmp_path_factory.mktemp("two-forms")
    small = dataclasses.replace(BISQUE, size=(40, 36))
    _write_images(small, lambda record: root / "bisque")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(CONFIGS, "bisque", (small,))
        prepare_dataset("bisque", root / "bisque", root / "data")
    lines = []
    for record in reversed(small.records):
        path = root / "png" / "some" / f"{record.filename.removesuffix('.tif')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(read_rgb(root / "bisque" / record.filename)).save(path)
        lines.append(f"some/{path.name},{record.label},{record.group}")
    prepare_own("png", sheet(root / "png", lines), root / "data")
    return root / "data"


def bare(name: str) -> str:
    return Path(name).with_suffix(".tif").name


@pytest.mark.parametrize("protocol", ["patient", "paper", "kfold:5/2", "all"])
@pytest.mark.parametrize("seed", [0, 3])
def test_bisque_as_a_folder_of_pngs_is_split_as_bisque_is(bisque_in_two_forms, protocol, seed):
    its, own = (split_data(config, protocol, seed, bisque_in_two_forms).files for config in ("bisque", "own-png"))
    assert {split: sorted(map(bare, names)) for split, names in own.items()} == its
    assert sum(map(len, its.values())) == 58


def test_bisque_as_a_folder_of_pngs_is_read_in_the_order_of_bisque(bisque_in_two_forms):
    its, own = (
        list(Prepared(config, bisque_in_two_forms).load().as_numpy_iterator()) for config in ("bisque", "own-png")
    )
    assert [bare(record["filename"].decode()) for record in own] == [record["filename"].decode() for record in its]
    for mine, bisques in zip(own, its, strict=True):
        np.testing.assert_array_equal(mine["image"], bisques["image"])
        assert (mine["label"], mine["group"]) == (bisques["label"], bisques["group"])


def test_bisque_as_a_folder_of_pngs_gives_the_cache_of_bisque(bisque_in_two_forms):
    data = [split_data(config, "patient", 0, bisque_in_two_forms) for config in ("bisque", "own-png")]
    answers = {LABELS.index("benign"): 0, LABELS.index("malignant"): 1}
    its, own = (cache_images(each.images(each.files["train"]), answers, View(32)) for each in data)
    assert [bare(name) for name in own.filenames] == list(its.filenames)
    np.testing.assert_array_equal(own.places, its.places)
    np.testing.assert_array_equal(own.targets, its.targets)
    for mine, bisques in zip(own.stacks, its.stacks, strict=True):
        np.testing.assert_array_equal(mine, bisques)


def test_bisque_as_a_folder_of_pngs_trains_the_weights_of_bisque_bit_for_bit(bisque_in_two_forms, tmp_path):
    one_epoch = dataclasses.replace(NO_SWEEP, head_epochs=0, cycles=1)
    for config in ("bisque", "own-png"):
        data = split_data(config, "patient", 0, bisque_in_two_forms)
        trained(job(tmp_path / config, recipe=one_epoch, data=data))
    its, own = (weights(tmp_path / config) for config in ("bisque", "own-png"))
    for mine, bisques in zip(own, its, strict=True):
        np.testing.assert_array_equal(mine, bisques)
    assert history(tmp_path / "own-png") == history(tmp_path / "bisque")


def test_an_image_of_another_set_is_named_with_its_set(bisque_in_two_forms):
    folder = Prepared("own-png", bisque_in_two_forms).folder
    same = dict(json.loads((folder / "own.json").read_text())["copies_elsewhere"])
    assert same["own-png/some/ytma10_010704_benign1_ccd.png"] == "bisque/ytma10_010704_benign1_ccd.tif"
    assert len(same) == 58


def test_two_preparations_give_the_same_bytes(tmp_path):
    source = folders(tmp_path / "images")
    first = prepare_own("a", source, tmp_path / "one")
    second = prepare_own("a", source, tmp_path / "two")
    assert fingerprint(first) == fingerprint(second)


def test_copies_are_named_drawn_together_and_kept(tmp_path, caplog):
    source = folders(tmp_path / "images", count=12)
    for number in range(6):
        write(source / "benign" / f"copy{number}.bmp", number)  # of normal images
    prepare_own("a", source, tmp_path / "data")
    assert "Of the same pixels: 6 pictures under several names" in caplog.text
    assert "Of each of these one label is wrong: 6 pictures: own-a/benign/copy0.bmp (benign) = " in caplog.text
    facts = json.loads((Prepared("own-a", tmp_path / "data").folder / "own.json").read_text())
    assert facts["copies"][0] == ["own-a/benign/copy0.bmp", "own-a/normal/n0.png"]
    for seed in range(5):
        for protocol in ("patient", "paper", "kfold:3/1"):
            data = split_data("own-a", protocol, seed, tmp_path / "data")
            sides = {name: split for split, names in data.files.items() for name in names}
            assert all(sides[first] == sides[second] for first, second in facts["copies"])


def test_copies_of_other_prepared_sets_are_named(tmp_path, caplog):
    first = folders(tmp_path / "first")
    prepare_own("first", first, tmp_path / "data")
    write(folders(tmp_path / "second", count=2) / "benign" / "other.tif", 3)
    for number in range(2):
        for label, start in (("normal", 50), ("benign", 60)):
            write(tmp_path / "second" / label / f"{label[0]}{number}.png", start + number)
    prepare_own("second", tmp_path / "second", tmp_path / "data")
    assert "Of the same pixels as an image of another prepared set: 1 image: " in caplog.text
    assert "own-second/benign/other.tif = own-first/normal/n3.png" in caplog.text


def test_another_set_that_is_damaged_ends_nothing(tmp_path, caplog):
    other = prepare_own("other", folders(tmp_path / "other", count=2), tmp_path / "data")
    records = next(other.path.glob("*.tfrecord*"))
    content = bytearray(records.read_bytes())
    content[200] ^= 255
    records.write_bytes(content)
    assert prepare_own("a", folders(tmp_path / "images", count=3), tmp_path / "data").built
    assert "own-other is damaged, so not all of its images were looked at" in caplog.text
    (other.path / "metadata.json").write_text("{")
    write(tmp_path / "images" / "benign" / "new.png", 9)
    assert prepare_own("a", tmp_path / "images", tmp_path / "data", overwrite=True).built
    assert "Copies of images of own-other are not looked for" in caplog.text


def test_copies_that_are_turned_cut_and_scaled_are_named_and_kept(tmp_path, caplog):
    drawn = [Image.fromarray(phantom.draw(label, 0, 0)) for label in ("normal", "benign", "insitu", "invasive")]
    for number, image in enumerate(drawn[:3]):
        path = tmp_path / "first" / "benign" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    prepare_own("first", tmp_path / "first", tmp_path / "data")
    (tmp_path / "second" / "benign").mkdir(parents=True)
    drawn[2].rotate(20, Image.Resampling.BICUBIC, expand=False).crop((60, 40, 330, 250)).save(
        tmp_path / "second" / "benign" / "turned.jpg", quality=85
    )
    drawn[3].save(tmp_path / "second" / "benign" / "another.png")
    ImageOps.mirror(drawn[3]).resize((300, 225)).save(tmp_path / "second" / "benign" / "small.png")
    summary = prepare_own("second", tmp_path / "second", tmp_path / "data")
    facts = json.loads((summary.path / "own.json").read_text())
    assert {frozenset((pair["first"], pair["second"])) for pair in facts["near_copies"]} == {
        frozenset(("own-first/benign/2.png", "own-second/benign/turned.jpg")),
        frozenset(("own-second/benign/another.png", "own-second/benign/small.png")),
    }
    assert facts["near_copies_found"] == 2
    assert "Of the same tissue, as far as a comparison tells: 2 pairs of images: own-second/benign/" in caplog.text
    assert facts["copies"] == facts["copies_elsewhere"] == []


def test_the_search_for_near_copies_needs_no_room_but_beside_the_set_and_few_threads(tmp_path, monkeypatch):
    prepare_own("a", folders(tmp_path / "images", count=2), tmp_path / "data")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nothing"))
    threads, ahead = [], near.ahead
    monkeypatch.setattr("datasets.ahead.processors", lambda: 64)
    monkeypatch.setattr(near, "ahead", lambda work, items, count: threads.append(count) or ahead(work, items, count))
    assert near.find_near(Prepared("own-a", tmp_path / "data"), []) == near.Near([], 0)
    assert threads == [8]


def test_of_very_many_pairs_those_most_alike_are_kept_and_all_are_counted(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(near, "_KEPT", 4)
    whole = Image.fromarray(phantom.draw("benign", 0, 0))
    (tmp_path / "images" / "benign").mkdir(parents=True)
    for left in (0, 20, 40, 60):
        whole.crop((left, 0, left + 300, 256)).save(tmp_path / "images" / "benign" / f"{left}.png")
    summary = prepare_own("alike", tmp_path / "images", tmp_path / "data")
    facts = json.loads((summary.path / "own.json").read_text())
    assert facts["near_copies_found"] == 6
    kept = facts["near_copies"]
    assert len(kept) == 4
    assert kept[0]["correlation"] >= kept[3]["correlation"]
    assert "6 pairs of images: " in caplog.text
    assert "; and 3 more" in caplog.text


def test_the_table_of_a_set_is_asked_for_as_often_however_many_images_it_holds(tmp_path, monkeypatch):
    asked = []
    whole = Prepared.digests.fget
    monkeypatch.setattr(Prepared, "digests", property(lambda self: asked.append(self.config) or whole(self)))
    counts = []
    for number in (2, 20):
        write_set(tmp_path / str(number), "own-a", own_records("a", {"benign": number}))
        monkeypatch.setattr(near, "_images", lambda prepared, names: ())
        asked.clear()
        near.find_near(Prepared("own-a", tmp_path / str(number)), [])
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_a_second_time_finds_it_and_a_changed_source_is_asked_about(tmp_path):
    source = folders(tmp_path / "images")
    first = prepare_own("a", source, tmp_path / "data")
    assert prepare_own("a", source, tmp_path / "data") == dataclasses.replace(first, built=False)
    (source / "normal" / "n0.png").touch()  # the same bytes
    assert not prepare_own("a", source, tmp_path / "data").built
    write(source / "normal" / "n1.png", 77)
    write(source / "normal" / "new.png", 78)
    (source / "benign" / "b0.png").rename(source / "normal" / "b0.png")
    with pytest.raises(UserError, match=r"own-a is prepared already, from other images") as refused:
        prepare_own("a", source, tmp_path / "data")
    assert "2 new (own-a/normal/b0.png), 1 gone (own-a/benign/b0.png), 1 changed (own-a/normal/n1.png)" in str(
        refused.value
    )
    assert prepare_own("a", source, tmp_path / "data", overwrite=True).labels == {"benign": 3, "normal": 6}


def test_a_scale_is_the_csv_files_else_the_images_own(tmp_path):
    root = tmp_path / "images"
    for name in ("said.png", "both.png", "none.png"):
        write(root / name, len(name))
    for name in ("said.png", "both.png"):
        Image.fromarray(noise(len(name) + (name == "both.png"))).save(root / name, dpi=(50800, 50800))
    sheet(
        root,
        ["said.png,benign,", "both.png,normal,0.25", "none.png,normal,NA"],
        header="path,label,um_per_pixel",
    )
    prepare_own("a", root, tmp_path / "data")
    scales = {row["filename"]: row["um_per_pixel"] for row in Prepared("own-a", tmp_path / "data").tables["train"]}
    assert scales == {
        "own-a/said.png": pytest.approx(0.5, 0.001),
        "own-a/both.png": 0.25,
        "own-a/none.png": None,
    }


def test_a_scale_that_the_csv_file_no_longer_says_is_a_change(tmp_path):
    root = folders(tmp_path / "images", count=1)
    header = "path,label,um_per_pixel"
    prepare_own("a", sheet(root, ["normal/n0.png,normal,0.5", "benign/b0.png,benign,"], header=header), tmp_path)
    changed = sheet(root, ["normal/n0.png,normal,", "benign/b0.png,benign,"], header=header)
    with pytest.raises(UserError, match=r"holds now: 1 of another scale \(own-a/normal/n0.png\)"):
        prepare_own("a", changed, tmp_path)


def test_spellings_of_a_patient_are_one_and_a_patient_may_have_two_labels(tmp_path, caplog):
    caplog.set_level("INFO")
    root = folders(tmp_path / "images", count=2)
    sheet(root, ["normal/n0.png,normal,P1", "normal/n1.png,normal,?", "benign/b0.png,benign,p 01"])
    summary = prepare_own("a", root, tmp_path / "data")
    assert (summary.images, summary.groups, summary.ungrouped) == (3, 1, 1)
    assert "each of these lists being one: P1 = p 01" in caplog.text
    assert "With images of several labels, which is allowed: 1 patient (P1)" in caplog.text


def test_a_split_says_what_is_not_known_of_patients(tmp_path):
    root = folders(tmp_path / "images", count=4)
    prepare_own("a", root, tmp_path / "data")
    data = split_data("own-a", "patient", 0, tmp_path / "data")
    assert "The patients of 8 of own-a's 8 images are not known" in data.origin["note"]
    known = [f"{path.relative_to(root).as_posix()},{path.parent.name},{path.stem}" for path in root.rglob("*.png")]
    prepare_own("b", sheet(root, known), tmp_path / "data")
    assert split_data("own-b", "patient", 0, tmp_path / "data").origin["note"] == ""


def test_a_protocol_that_leaves_training_without_a_label_is_refused(tmp_path):
    prepare_own("a", sheet(folders(tmp_path / "images", count=1), [], name="x.csv").parent, tmp_path / "data")
    with pytest.raises(UserError, match=r"leaves a validation set without|leaves a training set without"):
        split_data("own-a", "patient", 0, tmp_path / "data")


@pytest.mark.parametrize("protocol", ["patient", "kfold:3/1"])
def test_a_protocol_that_two_patients_of_each_label_are_too_few_for_names_the_one_that_works(tmp_path, protocol):
    write_set(tmp_path, "own-a", own_records("a", {"benign": 2, "invasive": 2}))
    with pytest.raises(UserError, match=r"too few patients .* known for it; kfold:2/1 works\."):
        split_data("own-a", protocol, 0, tmp_path)
    assert {len(names) for names in split_data("own-a", "kfold:2/1", 0, tmp_path).files.values()} == {4, 0}
    write_set(tmp_path, "own-b", own_records("b", {"benign": 2, "invasive": 1}))
    with pytest.raises(UserError, match=r"too few patients or microarrays are known for it\."):
        split_data("own-b", protocol, 0, tmp_path)


def test_fast_draws_are_those_of_looking_at_every_group():
    from collections import Counter

    from datasets import splits
    from datasets.catalogue import Record

    def slow(groups, parts):
        labels = {name: Counter(record.label for record in members) for name, members in groups.items()}
        total, held, chosen = sum(labels.values(), Counter()), Counter(), []

        def change(name):
            return sum(n * (2 * (parts * held[label] - total[label]) + parts * n) for label, n in labels[name].items())

        while labels:
            best = min(labels, key=change)
            if change(best) >= 0:
                break
            chosen.append(best)
            held += labels.pop(best)
        return chosen

    rng = np.random.default_rng(0)
    for _ in range(50):
        groups = {
            str(number): [Record(f"{number}-{i}", str(rng.choice(LABELS)), "", "x") for i in range(rng.integers(1, 5))]
            for number in range(rng.integers(1, 40))
        }
        for parts in (2, 4, 5):
            assert splits._share(groups, parts) == slow(groups, parts)


def test_the_draw_of_fixed_sets_does_not_join_what_it_knows_nothing_of():
    split = make_split(BISQUE.records, "bisque", "patient", 0)
    assert len(split) == 58
