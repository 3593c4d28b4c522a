import csv
import errno
import itertools
import json

import numpy as np
import pytest

from bach_keras.serving.slide.journal import NAME as JOURNAL
from datasets.errors import WorkError
from tests.serving.slide.conftest import GLASS, painted

FOUR = ["nnbb", "nnbb", "ii v", "ii v"]


def rows_of(folder):
    with (folder / "tiles.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def without_run(folder):
    return {name: value for name, value in summary_of(folder).items() if name != "run"}


def test_each_tile_with_tissue_is_answered_at_its_place(slides, answer, tmp_path):
    [outcome] = answer(slides("a b.tif", painted(FOUR, 100)))
    assert not outcome.error
    rows = rows_of(tmp_path / "out" / "a b")
    assert [(int(row["minx"]), int(row["miny"])) for row in rows[:5]] == [
        (0, 0),
        (100, 0),
        (200, 0),
        (300, 0),
        (0, 100),
    ]
    assert "".join(row["label"][:3] for row in rows) == "nornorbenben" * 2 + "insinsinv" * 2
    assert {(row["width"], row["height"], row["tissue"]) for row in rows} == {("100", "100", "1.000000")}


def test_the_summary_says_scale_field_counts_and_what_made_them(slides, answer, tmp_path):
    answer(slides("a.tif", painted(FOUR, 100)))
    summary = summary_of(tmp_path / "out" / "a")
    assert summary["um_per_pixel"] == {"value": 6.4512, "source": "the test"}
    assert summary["field"]["um"] == 645.12
    assert summary["field"]["pixels"] == 100
    assert summary["tiles"]["all"] == 16
    assert summary["tiles"]["background"] == 2
    assert summary["tiles"]["answered"] == 14
    assert summary["classes"]["invasive"] == {"tiles": 2, "share": 2 / 14}
    assert summary["model"]["configs"] == ["phantom"]


def test_routed_and_soft_leave_a_node_out_or_not(slides, answer, tmp_path):
    path = slides("a.tif", painted(["nv"], 100))
    answer(path)
    assert [row["invis_insitu"] != "" for row in rows_of(tmp_path / "out" / "a")] == [False, True]
    answer(path, routing="soft", overwrites=True)
    assert all(row["invis_insitu"] for row in rows_of(tmp_path / "out" / "a"))


def test_a_finished_slide_is_not_asked_again(slides, answer, model, tmp_path):
    path = slides("a.tif", painted(FOUR, 100))
    answer(path)
    before = {each: each.read_bytes() for each in (tmp_path / "out" / "a").iterdir()}
    asked = model.asked
    [outcome] = answer(path)
    assert outcome.was_finished
    assert model.asked == asked
    assert {each: each.read_bytes() for each in (tmp_path / "out" / "a").iterdir()} == before


def test_a_finished_slide_whose_table_was_changed_is_answered_again(slides, answer, model, tmp_path):
    path = slides("a.tif", painted(FOUR, 100))
    answer(path)
    table = tmp_path / "out" / "a" / "tiles.csv"
    before = table.read_bytes()
    table.write_bytes(before[:-3])
    assert not answer(path)[0].was_finished
    assert table.read_bytes() == before
    assert model.asked == 28


@pytest.mark.parametrize("fails_after", [0, 8, 16, 23])
def test_interrupted_work_continues_and_ends_as_if_it_had_not_been(fails_after, slides, answer, model, tmp_path):
    path = slides("a.tif", painted(["nbiv"] * 8, 100))
    answer(path)
    folder = tmp_path / "out" / "a"
    expected, table = without_run(folder), (folder / "tiles.csv").read_bytes()
    for each in folder.iterdir():
        each.unlink()
    model.asked, model.fails_after = 0, fails_after
    with pytest.raises(KeyboardInterrupt):
        answer(path)
    assert not (folder / "summary.json").exists()
    model.fails_after = None
    answer(path)
    assert model.asked == 32  # none twice
    assert (folder / "tiles.csv").read_bytes() == table
    assert without_run(folder) == expected
    assert summary_of(folder)["run"]["answered_before"] == -(-fails_after // 8) * 8
    assert not (folder / JOURNAL).exists()


@pytest.mark.parametrize("torn", [1, 30, -1, -40])
def test_a_torn_line_of_the_journal_is_dropped_and_its_tiles_are_asked_again(torn, slides, answer, model, tmp_path):
    path = slides("a.tif", painted(["nbiv"] * 8, 100))
    model.fails_after = 24
    with pytest.raises(KeyboardInterrupt):
        answer(path)
    journal = tmp_path / "out" / "a" / JOURNAL
    content = journal.read_bytes()
    journal.write_bytes(content[:torn] if torn < 0 else content[:-200] + b"x" * torn)
    model.fails_after, model.asked = None, 0
    answer(path)
    assert model.asked == 16
    assert len(rows_of(tmp_path / "out" / "a")) == 32


def test_a_journal_of_another_model_is_begun_again_and_said_so(slides, answer, model, caplog):
    path = slides("a.tif", painted(["nbiv"] * 8, 100))
    model.fails_after = 8
    with pytest.raises(KeyboardInterrupt):
        answer(path)
    model.fails_after, model.asked, model.digest = None, 0, "2" * 64
    with caplog.at_level("INFO", "bach_keras"):
        answer(path)
    assert model.asked == 32
    assert "a.tif: starts again, as it was started with other settings (model)" in caplog.text


def test_a_finished_slide_is_replaced_only_when_told_so(slides, answer, model, tmp_path):
    path = slides("a.tif", painted(["nb"], 100))
    answer(path)
    with pytest.raises(ValueError, match=r"answered otherwise \(overlap, tissue\): choose another --out, or replace"):
        answer(path, overlap=0.5, tissue=0.1)
    assert len(rows_of(tmp_path / "out" / "a")) == 2
    answer(path, overlap=0.5, tissue=0.1, overwrites=True)
    assert len(rows_of(tmp_path / "out" / "a")) == 3


def test_a_folder_of_something_else_is_left_alone(slides, answer, tmp_path):
    path = slides("a.tif", painted(["nb"], 100))
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "tiles.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"holds files, but not summary\.json of a slide"):
        answer(path)
    assert (tmp_path / "out" / "a" / "tiles.csv").read_text() == "mine"


def test_a_folder_that_another_process_writes_is_refused(slides, answer, tmp_path):
    from bach_keras.serving.slide.journal import open_journal

    path = slides("a.tif", painted(["nb"], 100))
    (tmp_path / "out" / "a").mkdir(parents=True)
    with open_journal(tmp_path / "out" / "a", {}):
        [outcome] = answer(path)
    assert "Another process writes" in outcome.error
    assert not answer(path)[0].error


def test_tiles_reach_the_edges_and_no_further(slides, answer, tmp_path):
    pixels = np.full((230, 310, 3), (190, 110, 180), np.uint8)
    answer(slides("a.tif", pixels))
    rows = rows_of(tmp_path / "out" / "a")
    assert sorted({int(row["minx"]) for row in rows}) == [0, 100, 200, 210]
    assert sorted({int(row["miny"]) for row in rows}) == [0, 100, 130]


def test_a_damaged_tile_is_a_row_with_its_error_and_the_others_are_answered(slides, answer, tmp_path):
    [outcome] = answer(slides("a.tif", painted(FOUR, 100), damaged=[(150, 50)]))
    rows = rows_of(tmp_path / "out" / "a")
    bad = [row for row in rows if row["error"]]
    assert [(row["minx"], row["miny"], row["label"], row["prob_normal"]) for row in bad] == [("100", "0", "", "")]
    assert "is damaged at 150, 50" in bad[0]["error"]
    assert len(rows) == 14
    assert "1 tile could not be answered; tiles.csv says why" in outcome.error
    assert answer(tmp_path / "a.tif")[0].error == outcome.error  # when it is finished too


def test_a_slide_without_tissue_is_written_and_said_so(slides, answer, model, tmp_path):
    pixels = np.full((300, 300, 3), GLASS, np.uint8)
    [outcome] = answer(slides("a.tif", pixels))
    assert "no tile has 25% tissue, so none was answered" in outcome.error
    assert rows_of(tmp_path / "out" / "a") == []
    assert outcome.summary["classes"]["normal"] == {"tiles": 0, "share": None}
    assert model.asked == 0


def test_one_slide_that_is_refused_does_not_keep_others_from_being_answered(slides, answer, tmp_path):
    good = slides("good.tif", painted(["nb"], 100))
    first, second, third = answer(slides("none.tif", painted(["nb"], 100), None), good, tmp_path / "gone.tif")
    assert "does not say how large its pixels are: give --um-per-pixel" in first.error
    assert not second.error
    assert "is not there" in third.error
    assert not (tmp_path / "out" / "none").exists()


def test_where_all_slides_are_refused_nothing_is_written(slides, answer, tmp_path):
    with pytest.raises(ValueError, match="does not say how large its pixels are"):
        answer(slides("none.tif", painted(["nb"], 100), None))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("blocks", "um_per_pixel", "words"),
    [
        (["nb"], 3.0, "less than the 645.12 that a tile shows"),
        (["nb"], 20.0, None),
        (["nb"] * 2, 19.0, None),
    ],
)
def test_the_size_of_a_slide_in_micrometres_decides(blocks, um_per_pixel, words, slides, answer):
    path = slides("a.tif", painted(blocks, 100), um_per_pixel)
    if words:
        with pytest.raises(ValueError, match=words):
            answer(path)
    else:
        assert answer(path)[0].summary["field"]["pixels"] == round(645.12 / um_per_pixel)


def test_a_slide_that_is_too_coarse_for_the_model_is_refused(slides, answer, model):
    model.side = 64
    with pytest.raises(ValueError, match=r"on 64 pixels, 10\.1 each: the slide is too coarse, or its scale is wrong"):
        answer(slides("a.tif", painted(["nb"], 100), 20.0))


def test_two_slides_of_one_name_are_refused(slides, answer, tmp_path):
    with pytest.raises(ValueError, match="would both be written to the folder a"):
        answer(slides("a.tif", painted(["nb"], 100)), slides("a.svs", painted(["nb"], 100)))


def test_the_files_of_a_series_are_one_slide(slides, answer, tmp_path, caplog):
    paths = [slides(f"{name}.dcm", painted(["nb"], 100)) for name in "abcd"]
    for path in paths[1:]:
        slides.opened[path].series = "1.2.5"
    outcomes = answer(*paths)
    assert [outcome.path.name for outcome in outcomes] == ["a.dcm", "b.dcm"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a", "b"}
    assert f"{paths[1]} and 2 files beside it are one slide, which is answered once." in caplog.text


@pytest.mark.parametrize("name", ["..svs", "...svs"])
def test_a_slide_whose_folder_would_be_another_is_refused(name, slides, answer, tmp_path):
    with pytest.raises(ValueError, match=f"{name} has only dots before its suffix.*: rename it"):
        answer(slides(name, painted(["nb"], 100)))
    assert {path.name for path in tmp_path.iterdir()} == {name}


def test_a_disk_that_fails_stops_the_slide_and_the_next_run_continues(slides, answer, model, tmp_path, monkeypatch):
    path = slides("a.tif", painted(["nbiv"] * 8, 100))
    slide, count = slides.opened[path], itertools.count()
    read = slide.read

    def fails(*window):
        if model.asked and next(count) == 3:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read(*window)

    monkeypatch.setattr(slide, "read", fails)
    reason = rf"^{path}: Input/output error\. What was answered is kept: the same command continues with it\.$"
    with pytest.raises(WorkError, match=reason):
        answer(path)
    folder, asked = tmp_path / "out" / "a", model.asked
    assert (folder / JOURNAL).exists()
    assert not (folder / "summary.json").exists()
    assert not answer(path)[0].error
    assert 0 < asked < model.asked == 32
    assert not any(row["error"] for row in rows_of(folder))


def test_a_disk_that_fails_while_tissue_is_looked_for_stops_the_slide(slides, answer, monkeypatch):
    path = slides("a.tif", painted(["nb"], 100))

    def fails(*window):
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    monkeypatch.setattr(slides.opened[path], "read", fails)
    with pytest.raises(WorkError, match="Stale file handle"):
        answer(path)


def test_every_line_of_the_table_says_the_scale_and_where_it_is_from(slides, answer, tmp_path):
    answer(slides("a.tif", painted(FOUR, 100), damaged=[(150, 50)]))
    rows = rows_of(tmp_path / "out" / "a")
    assert {(row["um_per_pixel"], row["um_per_pixel_source"]) for row in rows} == {("6.4512", "the test")}
    assert list(rows[0])[-2:] == ["um_per_pixel", "um_per_pixel_source"]


def test_a_disk_that_is_full_is_one_sentence_and_nothing_is_lost(slides, answer, model, tmp_path, monkeypatch):
    from bach_keras.serving.slide import journal

    path = slides("a.tif", painted(["nbiv"] * 8, 100))
    count = iter(range(100))

    def full(number):
        if next(count) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal.os, "fsync", full)
    with pytest.raises(WorkError, match="No space left on device"):
        answer(path)
    model.asked = 0
    answer(path)
    assert model.asked == 8
    assert len(rows_of(tmp_path / "out" / "a")) == 32
