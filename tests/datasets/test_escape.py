import csv
import html
import io
from xml.etree import ElementTree

import pytest

from datasets.escape import csv_line, for_csv, for_html, for_markdown, for_terminal, for_xml

HOSTILE = {
    "a colour": "\x1b[31mred\x1b[0m.png",
    "a cleared screen": "a\x1b[2J\x1b[H.png",
    "an upper control": "a\x9b31m.png",
    "the upper control as a byte": "a\udc9b31m.png",
    "a bell and a backspace": "a\x07\x08.png",
    "a forged row": "a.png\nnormal    0.999  b.png",
    "a carriage return": "a.png\rnormal",
    "a line separator": "a\u2028b\u2029c\x85d\x0be\x0cf",
    "a turned round ending": "invoice\u202egnp.exe",
    "an isolate": "a\u2066b\u2069",
    "half a character": "a\ud83d.png",
    "nothing": "\x00",
}
HARMLESS = ["slide 7.png", "Gewebe größer.tif", "組織.png", "😀 👩‍🔬.png", "a\\b", "100 %", "'quoted'", '"quoted"']


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_terminal_gets_one_line_of_printable_text(text):
    shown = for_terminal(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) == 1
    assert "\\" in shown


@pytest.mark.parametrize("text", HARMLESS)
def test_a_terminal_gets_any_scripts_text_as_it_is(text):
    assert for_terminal(text) == text


def test_different_names_stay_different():
    names = ["a\n", "a\r", "a\x1b", "a\x9b", "a\u202e", "a\udcff", "a\udcfe", "a"]
    assert len({for_terminal(name) for name in names}) == len(names)


def test_a_byte_that_is_no_text_goes_out_as_it_was():
    assert for_terminal("a\udcff.png").encode(errors="surrogateescape") == b"a\xff.png"
    assert csv_line(["a\udcff.png"]).encode(errors="surrogateescape") == b"a\xff.png"


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_a_cell_begins_no_formula(begins):
    cell = f'{begins}HYPERLINK("http://x")'
    assert for_csv(cell) == f"'{cell}"


@pytest.mark.parametrize("number", [-0.5, 0, 3, None, True])
def test_a_number_is_no_formula(number):
    assert for_csv(number) is number


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_cell_is_read_back_as_one_cell_of_one_row(text):
    line = csv_line([text, -0.5, "", None, 'a,"b"']) + "\n"
    (row,) = csv.reader(io.StringIO(line, newline=""))
    assert row[1:] == ["-0.5", "", "", 'a,"b"']
    assert row[0] == for_csv(text)
    if not {"\r", "\n"} & set(text):
        assert row[0].isprintable()


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\r\nb"])
def test_a_line_break_in_a_cell_is_kept_and_quoted(text):
    assert csv_line([text, 1]) == f'"{text}",1'


@pytest.mark.parametrize("text", [*HOSTILE.values(), "<script>alert(1)</script>", "a\" onload='x'", "&lt;", "</td>"])
def test_html_gets_text_and_no_markup(text):
    shown = for_html(text)
    assert not set("<>\"'") & set(shown)
    assert html.unescape(shown).isprintable()
    assert shown.encode()


@pytest.mark.parametrize("text", [*HOSTILE.values(), "a\ufffeb\uffff", "<b>&amp;"])
def test_xml_gets_nothing_that_it_cannot_hold(text):
    element = ElementTree.Element("name")
    element.text = for_xml(text)
    read = ElementTree.fromstring(ElementTree.tostring(element))
    assert read.text == for_xml(text)
    assert for_xml(text).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("bach_bisque-carci", r"bach\_bisque-carci"),
        ("a|b", r"a\|b"),
        ("a`b`", r"a\`b\`"),
        ("[x](y)", r"\[x\](y)"),
        ("![x](y)", r"!\[x\](y)"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("**a** ~~b~~", r"\*\*a\*\* \~\~b\~\~"),
        ("a\nb", r"a\\nb"),
        ("# a", r"\# a"),
        ("- a", r"\- a"),
        ("1. a", r"1\. a"),
        ("0.500 (0.4)", "0.500 (0.4)"),
        ("a\\|b", r"a\\\|b"),
        ("http://x.y", r"http\://x.y"),
        ("www.x.y", r"www\.x.y"),
        ("a@b.c", "a&#64;b.c"),
        ("\ud83d", r"\\ud83d"),
    ],
)
def test_markdown_gets_text_and_no_markup(text, shown):
    assert for_markdown(text) == shown
