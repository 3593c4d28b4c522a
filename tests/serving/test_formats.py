import csv
import io
import json

import pytest

from bach_keras.serving.card import as_markdown
from bach_keras.serving.formats import as_csv, as_json, as_table
from datasets.labels import CLASSES

NAMES = [
    "a.png", "a.png\nnormal    normal 0.999  b.png", "a\rb.png", "\x1b[2J\x1b[31mred.png", "a\u202egnp.exe",
    "a\u2028b.png", "=HYPERLINK(1).png", "-1+1.png", "@a.png", "+a.png", 'a",b.png', "a\ud83d.png", "a\x9b1m.png", "",
]  # fmt: skip


def rows():
    answer = {"label": "benign", "probabilities": dict(zip(CLASSES, (0.1, 0.7, 0.1, 0.1), strict=True))}
    return [*({"path": name, **answer} for name in NAMES), *({"path": "b.png", "error": name} for name in NAMES)]


def test_each_file_is_one_printable_row_of_the_table():
    lines = [line for _, line in as_table(rows())]
    assert len(lines) == 2 * len(NAMES)
    for line in lines:
        assert line.isprintable()
        assert line.startswith(("benign ", "error "))


def test_a_servers_label_is_text_too():
    row = {**rows()[0], "label": "benign\x1b[0m\nnormal"}
    ((_, line),) = as_table([row])
    assert line.isprintable()


def test_each_file_is_one_row_of_csv_without_a_formula():
    text = "\n".join(line for _, line in as_csv(rows())) + "\n"
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(found) == 2 * len(NAMES)
    for row in found:
        assert float(row["benign"] or 0.7) == 0.7
        assert not any((cell or "").startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values())
    assert [row["path"] for row in found[1:3]] == NAMES[1:3]
    assert "\x1b" not in text


def test_json_gives_every_name_back_as_it_is():
    for row, line in as_json(rows()):
        assert line.isascii()
        assert len(line.splitlines()) == 1
        assert json.loads(line) == row


@pytest.mark.parametrize("name", ["a|b", "`x`", "a\nb | c |", "<script>", "[x](javascript:y)", "# a", "\x1b[1m\u202e"])
def test_a_name_is_text_in_the_model_card(name):
    page, plain = as_markdown(card_of(name)), as_markdown(card_of("name"))
    assert len(page.splitlines()) == len(plain.splitlines())
    assert not {"<", "`", "\x1b", "\u202e"} & set(page.replace("\\`", "").replace("`assets/model_card.json`", ""))
    (row,) = [line for line in page.splitlines() if line.startswith("| carci")]
    assert row.replace("\\|", "").count("|") == 7


def card_of(name):
    metrics = {"accuracy": 0.5, "accuracy_ci95": [0, 1], "n": 4, "split": name}
    member = {"node": "carci", "source": name, "weight": 1, "temperature": 1, "protocol": name, "metrics": metrics}
    return {
        "name": name, "classes": [name], "image_size": name, "limits": [name], "data": {name: name}, "trained_on": [],
        "chosen_on": [], "members": [member], "licence": name,
    }  # fmt: skip
