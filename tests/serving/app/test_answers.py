"""What the page answers, without a browser."""

import dataclasses
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import gradio
import numpy as np
import pytest

from bach_keras.serving.app import batch, page, tree_picture
from bach_keras.serving.app.answers import MOST, Answer, Answers, Visit
from bach_keras.serving.app.detail import detail
from bach_keras.serving.exported import Export
from bach_keras.serving.formats import lines
from bach_keras.serving.judgement import Judgement
from bach_keras.serving.metadata import ColourProfile, PixelSize
from bach_keras.serving.predict import predict_files
from datasets.errors import WorkError
from datasets.labels import CLASSES

HOSTILE = '<img src=x onerror=alert(1)>"\u202e{{7*7}}${7*7}.png'
TAKEN = {"normal.png", "benign.png", "insitu.tif", "invasive.png", "dot.png", "white.png", "black.png", "long.png"}


def test_the_page_answers_as_predict_does(export, answered, folder):
    sizes = PixelSize()
    files, extras = sorted(folder.iterdir()), [sizes, ColourProfile(), Judgement(export.ranges, sizes.of)]
    rows = [row | {"path": Path(row["path"]).name} for row in predict_files(export, files, extras=extras)]
    assert [answer.row for answer in answered.values()] == [
        row if "error" not in row else row | {"error": answered[row["path"]].row["error"]} for row in rows
    ]


def test_what_is_not_an_image_is_an_error_that_names_the_file_as_the_visitor_does(answered, folder):
    wrong = {name: answer for name, answer in answered.items() if "error" in answer.row}
    assert set(answered) - set(wrong) == TAKEN
    assert all(answer.row["error"].startswith(f"{name} ") for name, answer in wrong.items())
    assert all(str(folder) not in answer.row["error"] and answer.shown is None for answer in wrong.values())


def test_every_image_has_a_picture_and_a_map_of_each_node_on_its_path(answered):
    for name in TAKEN:
        row, shown = answered[name].row, answered[name].shown
        assert shown.picture.startswith(b"\xff\xd8")
        assert len(shown.maps) == 2
        assert "carci" in shown.maps
        assert all(row["nodes"][node] for node in shown.maps)


def test_a_file_that_was_dropped_twice_is_answered_twice(answers, folder):
    path = folder / "benign.png"
    (first, second) = next(answers.answer([(path, "a"), (path, "b")]))
    assert (first.name, second.name) == ("a", "b")
    assert first.row == second.row | {"path": "a"}


def test_a_visitor_is_answered_while_another_waits_for_many(answers, folder):
    many = answers.answer([(folder / "benign.png", str(number)) for number in range(9)])
    assert len(next(many)) == 8
    assert len(next(answers.answer([(folder / "normal.png", "mine")]))) == 1
    assert len(next(many)) == 1


def test_a_server_that_is_gone_gives_rows_of_errors(export, folder):
    class Gone:
        outputs, side, warnings, card, ranges = export.outputs, export.side, (), None, None
        prepared = export.prepared

        def classify(self, images, routing):
            raise OSError("http://127.0.0.1:9 does not answer.")

    answers = Answers(Gone())
    (answer,) = next(answers.answer([(folder / "benign.png", "a.png")]))
    assert answer.row == {"path": "a.png", "error": "http://127.0.0.1:9 does not answer."}
    assert "needs an export" in page._absent(answers)
    assert "no model card" in page._card(None)


def test_a_server_that_is_lost_is_not_asked_again_until_images_are_dropped_again(export, folder):
    asked = []

    class Lost:
        outputs, side, warnings, card, ranges = export.outputs, export.side, (), None, None
        prepared = export.prepared

        def classify(self, images, routing):
            asked.append(len(images))
            raise OSError("no answer")

    answers = Answers(Lost())
    rows = [answer.row for each in answers.answer([(folder / "benign.png", "a.png")] * 20) for answer in each]
    assert asked == [8]
    assert [row["error"] for row in rows[7:9]] == [
        "no answer", "Not asked, as the server was lost before: no answer",
    ]  # fmt: skip
    next(answers.answer([(folder / "benign.png", "a.png")]))
    assert asked == [8, 1]


def test_a_model_that_fails_gives_rows_of_errors(answers, export, folder, monkeypatch):
    def fail(images):
        raise WorkError("m/1 fails when it answers.")

    monkeypatch.setattr(export, "explain", fail)
    rows = [
        answer.row for answer in next(answers.answer([(folder / "benign.png", "a.png"), (folder / "cut.png", "b")]))
    ]
    assert [row["error"] for row in rows] == ["m/1 fails when it answers."] * 2


def test_an_export_without_the_file_that_names_its_training_images_is_shown_without_them(knowing, tmp_path, folder):
    shutil.copytree(knowing, tmp_path / "1")
    (tmp_path / "1" / "assets.extra" / "training_images.npz").unlink()
    answers = Answers(Export(tmp_path / "1"))
    assert "The training images that an image resembles are not shown: " in page._absent(answers)
    (answer,) = next(answers.answer([(folder / "benign.png", "a.png")]))
    assert "neighbours" not in answer.row
    assert answer.row["warnings"] is not None


def test_near_a_tie_the_path_to_the_label_and_carcis_own_are_told_apart(answered, export):
    nodes = {
        "carci": {"noncarcinoma": 0.45, "carcinoma": 0.55}, "norbe": {"normal": 0.9, "benign": 0.1},
        "invis": {"insitu": 0.5, "invasive": 0.5},
    }  # fmt: skip
    shares = dict(zip(CLASSES, (0.405, 0.045, 0.275, 0.275), strict=True))
    row = answered["benign.png"].row | {"label": "normal", "probabilities": shares, "nodes": nodes}
    assert tree_picture.in_words(row) == (
        "Carci says carcinoma (0.550), but of all classes the likeliest is normal: noncarcinoma (0.450), then NorBe "
        "says normal (0.900)."
    )
    maps = {"carci": np.ones((3, 3), np.float32), "invis": np.ones((3, 3), np.float32)}
    shown = dataclasses.replace(answered["benign.png"].shown, maps=maps)
    said = detail(Answer("a", row, shown), export.side)
    assert "NorBe is not drawn: the pictures follow the answer of Carci, which is nearly a tie here." in said
    assert "is not drawn" not in detail(answered["benign.png"], export.side)


def test_what_is_not_known_of_an_image_is_said(answered, export):
    row = answered["benign.png"].row | {"warnings": None, "um_per_pixel": None}
    said = detail(Answer("a", row, answered["benign.png"].shown), export.side)
    assert "does not know whether the image is unlike those that trained it" in said
    assert "does not say its micrometres per pixel, so its scale was not judged" in said


def test_a_label_that_changes_when_an_image_is_turned_is_a_warning_where_that_is_wanted(export, folder):
    (answer,) = next(Answers(export, symmetries=True).answer([(folder / "benign.png", "a.png")]))
    assert answer.row["symmetry"] in [each / 8 for each in range(1, 9)]
    assert len(answer.shown.maps) == 2


def test_a_map_that_is_all_0_is_said_to_show_nothing(answered, export):
    maps = {"carci": np.zeros((3, 3), np.float32), "norbe": np.ones((3, 3), np.float32)}
    shown = dataclasses.replace(answered["benign.png"].shown, maps=maps)
    page_of = detail(dataclasses.replace(answered["benign.png"], shown=shown), export.side)
    assert page_of.count("but no place speaks for it (") == 1


def test_a_model_without_maps_shows_the_image_alone(answered, export):
    shown = dataclasses.replace(answered["benign.png"].shown, maps={})
    said = detail(dataclasses.replace(answered["benign.png"], shown=shown), export.side)
    assert "Where it looked" not in said
    assert said.count("<img") == 1


def test_the_path_to_the_label_is_lit_and_said(answered):
    for name in TAKEN:
        row = answered[name].row
        picture = tree_picture.svg(row)
        assert picture.count('class="edge lit"') == 2
        assert picture.count('class="edge"') == 4
        assert re.search(rf'<g class="leaf lit">.*?>{row["label"]}</text>', picture)
        assert f"{row['label']} (" in tree_picture.in_words(row)


def test_a_node_by_itself_is_a_tree_of_one_node():
    row = {"label": "carcinoma", "probabilities": {"noncarcinoma": 0.25, "carcinoma": 0.75}}
    row["nodes"] = {"carci": row["probabilities"], "norbe": None, "invis": None}
    assert tree_picture.in_words(row) == "Carci says carcinoma (0.750)."
    assert tree_picture.svg(row).count("<rect") == 3


def test_names_of_files_are_text(answered, export):
    hostile = Answer(HOSTILE, answered["benign.png"].row | {"path": HOSTILE}, answered["benign.png"].shown)
    wrong = Answer(HOSTILE, {"path": HOSTILE, "error": f"{HOSTILE} is empty."})
    for said in (batch.table([hostile, wrong], CLASSES, 0), detail(hostile, export.side), detail(wrong, export.side)):
        assert "&lt;img src=x onerror=alert(1)&gt;" in said
        assert "<img src=x" not in said
        assert "\u202e" not in said


def test_the_csv_is_that_of_predict(answered):
    link = batch.csv_link(list(answered.values()), CLASSES)
    text = "".join(line + "\n" for _, line in lines("csv", (answer.row for answer in answered.values()), CLASSES))
    assert batch.data_url(text.encode(), "text/csv;charset=utf-8") in link


def test_warnings_are_shown_with_their_numbers_and_the_range(answered, export):
    row = answered["benign.png"].row | {
        "warnings": [{"name": "scale", "value": 1.3, "range": [0.4, 0.45], "source": "TIFF tags"}],
        "um_per_pixel": {"value": 1.3, "source": "TIFF tags"}, "icc": {"profile": "Scanner <1>", "applied": False},
    }  # fmt: skip
    said = detail(Answer("a", row, answered["benign.png"].shown), export.side)
    assert "scale: 1.3 (TIFF tags); training images have 0.4 to 0.45" in said
    assert "1.3 micrometres per pixel, from TIFF tags" in said
    assert "Scanner &lt;1&gt;, not applied" in said
    assert "<td>scale</td>" in batch.table([Answer("a", row)], CLASSES, 0)


def test_the_training_images_that_it_resembles_are_shown_with_their_pictures(answered, export):
    near = {"name": "n1<b>.tif", "label": "benign", "distance": 1.25, "percentile": 97.5}
    row = answered["benign.png"].row | {"neighbours": [near | {"thumbnail": None}, near | {"thumbnail": "data:,a"}]}
    said = detail(Answer("a", row, answered["benign.png"].shown), export.side)
    assert said.count("n1&lt;b&gt;.tif, distance 1.250, percentile 97.5") == 2
    assert said.count('src="data:,a"') == 1


def dropped(folder, *names):
    return [{"path": str(folder / name), "orig_name": name} for name in names]


def test_no_image_and_too_many_images_are_said(answers, folder):
    answer = page.answering(answers, folder)
    assert "No image" in next(answer(None, Visit()))[1]
    many = dropped(folder, *["benign.png"] * (MOST + 1))
    assert [f"{MOST + 1} images are more" in said[1] for said in answer(many, Visit())] == [True]


def test_images_that_are_dropped_later_take_the_place_of_earlier_ones(answers, folder):
    visit, answer = Visit(), page.answering(answers, folder)
    early = answer(dropped(folder, *["benign.png"] * 9), visit)
    assert "0 of 9 images" in next(early)[1]
    assert "1 image done" in list(answer(dropped(folder, "normal.png"), visit))[-1][1]
    assert list(early) == []
    assert [each.name for each in visit.answers] == ["normal.png"]


def test_the_first_image_is_shown_until_another_is_chosen(answers, export, folder):
    visit = Visit()
    shown = [
        said[3] for said in page.answering(answers, folder)(dropped(folder, *["benign.png"] * 8, "normal.png"), visit)
    ]
    assert "benign.png</h2>" in shown[1]
    assert shown[2] == gradio.skip()
    choose = page.choosing(answers)
    assert "normal.png</h2>" in choose(visit, SimpleNamespace(row=8))
    assert visit.chosen == 8
    assert "not held any more" in choose(visit, SimpleNamespace(row=9))
    assert "not held any more" in choose(visit, SimpleNamespace(row="0"))


def test_the_card_and_the_warning_of_phantoms_are_on_the_page(answers):
    assert "SYNTHETIC images" in page._card(answers.export.card)
    assert 'class="loud">WARNING: this model learned from synthetic' in page._banner(answers.export.warnings)


def test_a_layer_of_zeros_is_clear(answered, export):
    shown = answered["benign.png"].shown
    clear = dataclasses.replace(shown, maps={"carci": np.zeros_like(shown.maps["carci"])})
    layer, (left, top, width, height) = clear.layer("carci", export.side)
    assert layer.startswith(b"\x89PNG")
    assert 0 <= left < left + width <= 1
    assert 0 <= top < top + height <= 1


@pytest.mark.parametrize(("unsure", "words"), [(True, "unsure"), (False, "sure"), (None, "not known")])
def test_the_table_says_whether_an_answer_is_sure(answered, unsure, words):
    row = answered["benign.png"].row | {"unsure": unsure}
    assert f"<td>{words}</td>" in batch.table([Answer("a", row)], CLASSES, 0)


def test_a_file_without_an_answer_does_not_count_as_answered(answered):
    done = [answered["benign.png"], answered["cut.png"]]
    assert batch.status(done[1:], 1) == "1 image done: 1 cannot be answered."
    assert batch.status(done, 3).startswith("2 of 3 images done: ")
