"""The campaign of hostile inputs in short: a sample at the doors that cost little, and what would be noticed."""

import contextlib
import os
import random
import zlib

import pytest

from bach_keras.network import inspection
from bach_keras.serving import exported as exported_room
from benchmarks.hostile import folder_doors, folders, image_doors, mutations, pictures, places
from benchmarks.hostile.answer import ANSWERED, CRASHED, REFUSED, of_refusal
from benchmarks.hostile.file_doors import inspect
from benchmarks.hostile.streams import bare_zeros, zeros
from benchmarks.hostile.texts import ELEMENT, TEXTS
from benchmarks.hostile.tree import Tree
from benchmarks.hostile.watch import MARK, Canaries, faults_of
from tests.network import hostile_weight_files, layout_files


@pytest.fixture
def place(tmp_path):
    for name in ("out", "inputs", "work"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def tree(exported, tree_of_runs, tmp_path):
    """The tree of the other tests, where the campaign looks for its own."""
    (tmp_path / "tree" / "tree").mkdir(parents=True)
    os.symlink(exported, tmp_path / "tree" / "tree" / "1")
    (tmp_path / "tree" / "runs").mkdir()
    for node, folder in tree_of_runs.items():
        os.symlink(folder, tmp_path / "tree" / "runs" / node)
    return Tree(tmp_path / "tree")


@pytest.fixture
def canaries(place):
    return Canaries(place)


def images(folder):
    """Write a sample of hostile images, and return their names."""
    draw, names = random.Random(1), []
    good = pictures.good()
    for name in ("rgb.png", "plain.jpg", "lzw.tif", "rgb.bmp"):
        for how, data in draw.sample(list(mutations.damaged(good[name], 8, draw)), 8):
            (folder / f"{how} {name}").write_bytes(data)
            names.append(f"{how} {name}")
    for name, data in [*pictures.others(), *pictures.with_text(draw.sample(TEXTS, 4))]:
        (folder / name).write_bytes(data)
        names.append(name)
    return [
        *names,
        *places.special(folder),
        *draw.sample(list(places.named(folder, good["rgb.png"], TEXTS, (".png", " none.png"))), 40),
    ]


def good_image(place):
    (place / "good.png").write_bytes(pictures.good()["rgb.png"])
    return place / "good.png"


def asked(door, folder, names, good) -> list:
    """Give a door its inputs; none of them may crash it, or come out as more than text, and a good one is answered."""
    answer = door(1, good)  # the first is asked for more than these models can answer
    assert (answer.kind, answer.faults) == (ANSWERED, []), answer.words
    answers = [door(number, folder / name) for number, name in enumerate(names)]
    assert REFUSED in {answer.kind for answer in answers}
    for name, answer in zip(names, answers, strict=True):
        assert answer.kind != CRASHED, (name, answer.words)
        assert not answer.faults, (name, answer.faults)
    return answers


def test_bulk_answers_or_refuses_each_image_in_a_row(place, tree, canaries):
    names = images(place / "inputs")
    door = image_doors.bulk(tree, place)
    with contextlib.closing(door):
        asked(door, place / "inputs", names, good_image(place))
    assert canaries.touched() == []


def test_predict_answers_or_refuses_each_image_in_a_row(place, tree, canaries, monkeypatch):
    monkeypatch.setattr(exported_room, "Export", exported_room.Export)  # the door changes it
    names = images(place / "inputs")
    answers = asked(image_doors.predict(tree, place), place / "inputs", names, good_image(place))
    assert sum(answer.kind == REFUSED for answer in answers) > len(names) / 3
    assert canaries.touched() == []


def test_an_export_decodes_or_refuses_each_file_and_the_image_beside_it_does_not_suffer(place, tree):
    folder = place / "inputs"
    names = [name for name in images(folder) if (folder / name).is_file() and not (folder / name).is_symlink()]
    names = [name for name in names if (folder / name).stat().st_size < 2**30]
    asked(image_doors.decoding(tree, place), folder, names, good_image(place))


def test_runs_lists_each_folder_or_says_what_is_damaged(place, tree, tree_of_runs, canaries):
    made = folders.Changed(tree_of_runs["carci"], place / "inputs")
    draw = random.Random(2)
    names = [*draw.sample(list(made.linked((".json", ".csv"))), 12), *made.said(12, draw, "config.json")]
    names += [*made.said(12, draw, "metrics.json"), *draw.sample(list(made.called()), 12)]
    asked(folder_doors.runs(tree, place), place / "inputs", names, tree_of_runs["carci"])
    assert canaries.touched() == []


def test_weights_inspect_says_what_each_file_is(place, tree, canaries, monkeypatch):
    monkeypatch.setattr(inspection, "resnext50", inspection.resnext50)  # the door changes it
    folder = place / "inputs"
    hostile_weight_files.write_headers(folder)
    hostile_weight_files.write_h5s(folder, place / "canary" / "secret.h5", place / "canary" / "secret.raw")
    names = sorted(path.name for path in folder.iterdir())
    for name, data in hostile_weight_files.plain(place / "work").items():
        for how, damaged in mutations.cut(data):
            (folder / f"{how} {name}").write_bytes(damaged)
            names.append(f"{how} {name}")
    good = layout_files.write(place / "good.pth", layout_files.trained())
    asked(inspect(tree, place), folder, names, good)
    assert canaries.touched() == []


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("terminal", "a\x1b[2J"), ("terminal", "a\rb"), ("terminal", "\u202egnp"), ("terminal", MARK),
        ("csv", 'path\n"=1+1"'), ("csv", "a,@x"), ("csv", "a\x1b[2J"), ("json", f'{{"a": "{MARK}"}}'),
        ("html", f"<b><{ELEMENT}>"), ("html", '<a onhostile="1">'), ("html", '<a href="javascript:1">'),
        ("html", "\x1b"), ("json", '"\x9b"'), ("json file", '{\n"a": "\x9b"}'),
    ],
)  # fmt: skip
def test_what_acts_on_the_reader_of_an_output_is_noticed(form, text):
    assert faults_of(form, text)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("terminal", "a\\x1b[2J\nb"),
        ("csv", "a,-0.5,'=1"),
        ("json", '{"a": "\\u001b"}\n{}'),
        ("html", "<b>&lt;x&gt;</b>"),
    ],
)
def test_what_was_made_harmless_is_none(form, text):
    assert faults_of(form, text) == []


def test_a_canary_that_is_opened_is_noticed(canaries):
    assert canaries.touched() == []
    (canaries.folder / "secret.txt").read_text()
    (canaries.folder / "ran").touch()
    assert {"secret.txt opened", "secret.txt read", "ran made"} <= set(canaries.touched())
    assert canaries.touched() == []


def test_a_refusal_is_a_short_sentence():
    assert of_refusal("a.png is empty.").faults == []
    assert of_refusal("").faults
    assert of_refusal("x" * 10_000).faults
    assert of_refusal("Traceback (most recent call last):").faults


def test_a_bomb_is_what_it_says():
    for count in (0, 5, 2**20, 2**22 + 77):
        assert zlib.decompress(zeros(count)) == bytes(count)
        assert zlib.decompress(bare_zeros(count), -15) == bytes(count)
