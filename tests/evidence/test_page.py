import math
import re

import pytest

from bach_keras.evidence import page


def test_a_table_has_headings_for_its_columns_and_its_rows():
    made = page.table(["node", "n"], [["carci", 5]], "Scores")
    assert '<th scope="col">node</th>' in made
    assert '<th scope="row">carci</th><td class="number">5</td>' in made
    assert "<caption>Scores</caption>" in made


def test_a_wide_table_scrolls_in_a_box_that_a_keyboard_reaches_and_that_has_a_name():
    opening = page.table(["node", "n"], [["carci", 5]]).split("<table>")[0]
    assert opening == '<div class="scroll" role="region" aria-label="Table: node, n" tabindex="0">'


@pytest.mark.parametrize(
    ("cells", "style"),
    [
        (["0.5", "-1,000"], "number"),
        (["0.1 to 0.9", "not measured"], "number"),
        (["0.9 → 0.1", ""], "number"),
        (["99 of 100", "5 %"], "number"),
        (["0.5", "carci 0.5"], None),
        (["3.11.15", "none"], None),
    ],
)
def test_a_column_of_numbers_alone_is_set_as_numbers(cells, style):
    found = page.table(["", "x"], [[n, cell] for n, cell in enumerate(cells)])
    assert ('<th class="number" scope="col">x</th>' in found) == (style == "number")


def test_what_is_missing_looks_so():
    assert '<td class="number missing">not measured</td>' in page.table(["", "x"], [["a", page.decimal(None)]])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (None, "not measured"), (math.nan, "not measured"), (7, "7.000"), ("x", "x"), (True, "True")],
)
def test_a_number_has_three_decimals(value, text):
    assert page.decimal(value) == text


def test_an_interval_and_a_share_in_words():
    assert page.interval([0.1234, 1]) == "0.123 to 1.000"
    assert page.interval(None) == "not measured"
    assert page.percent(0.2) == "20 %"
    assert page.percent(None) == "not measured"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1 / 3, "0.333333"),
        (None, "none"),
        (True, "yes"),
        ([1e-5, 10.0], "1e-05, 10"),
        ([], "none"),
        ({"stem": 8}, "stem: 8"),
        ("imagenet", "imagenet"),
    ],
)
def test_a_setting_in_words(value, text):
    assert page.setting(value) == text


@pytest.mark.parametrize(
    "made",
    [
        page.heading(2, "<b>"),
        page.paragraph("<b>"),
        page.items(["<b>"]),
        page.section("x", "<b>", []),
        page.contents({"x": "<b>"}),
        page.details("<b>", ""),
        page.cards({"<b>": ("<b>", "<b>")}),
        page.table(["<b>"], [["<b>"]], "<b>"),
        page.figure("", "<b>", "<b>"),
    ],
)
def test_text_never_becomes_markup(made):
    assert "&lt;b&gt;" in made
    assert "<b>" not in made.replace("<b>&lt;b&gt;</b>", "")


def test_an_image_is_part_of_the_page_and_says_what_it_shows():
    made = page.image(b"\x89PNG", 'a "wrong" one')
    assert made == '<img alt="a &quot;wrong&quot; one" src="data:image/png;base64,iVBORw==">'
    assert "data:image/jpeg;base64," in page.image(b"\xff\xd8", "")


def test_a_page_forbids_what_is_not_in_it(tmp_path):
    page.write_page(tmp_path / "x.html", "A <title>", [page.paragraph("words"), ""])
    made = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in made
    assert "<title>A &lt;title&gt;</title>" in made
    assert "<script" not in made
    assert re.findall(r"https?:|url\(|@import", made) == []
