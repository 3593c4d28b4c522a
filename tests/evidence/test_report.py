"""What the pages show of files that anybody may have written."""

import csv
import json
from html.parser import HTMLParser

import pytest

from bach_keras.evidence.report import write_report
from bach_keras.evidence.results import write_results

MARKUP = "<script>alert(1)</script>\" onload='x' &lt;"
HOSTILE = "<script>alert(1)</script>\" onload='x' \x1b[31m\u202e\ud83d&lt;"
SCORE = {"accuracy": 0.5, "accuracy_ci95": [0.1, 0.9], "n": HOSTILE}


class Parts(HTMLParser):
    """Gathers what a browser would see."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


def system(**changes):
    return {
        "config": "bisque", "protocol": "patient", "split": "test", "split_notes": [], "chosen_on": 0,
        "confusion_matrix": [[1] * 4] * 4, "nodes": {"carci": SCORE}, **SCORE, "n": 4, **changes,
    }  # fmt: skip


def run_folder(folder, **changes):
    folder.mkdir()
    config = {"node": "carci", "config": "bisque", "protocol": "patient", "init": "none", "recipe": {"lr": None}}
    config |= {"split": {"train": ["a.tif"]}, "trained_on": ["a.tif"]}
    (folder / "config.json").write_text(json.dumps(config | changes))
    (folder / "metrics.json").write_text(json.dumps({"best_epoch": 1, "epochs": 1}))
    with (folder / "history.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["epoch", "loss", "accuracy"], [1, 0.5, 0.5]])
    return folder


def shown(path):
    page = path.read_text(encoding="utf-8")
    assert "\x1b" not in page
    assert "\u202e" not in page
    return Parts(page)


def test_no_field_of_metrics_or_config_becomes_markup_in_the_report(tmp_path):
    run = run_folder(
        tmp_path / "run", config=MARKUP, protocol=MARKUP, init=MARKUP, split_origin={"note": MARKUP},
    )  # fmt: skip
    result = system(config=HOSTILE, protocol=HOSTILE, split=HOSTILE, split_notes=[HOSTILE], chosen_on=HOSTILE)
    write_report(tmp_path / "plain.html", system(), [run_folder(tmp_path / "plain")])
    write_report(tmp_path / "report.html", result | {"n": HOSTILE}, [run])
    plain, found = shown(tmp_path / "plain.html"), shown(tmp_path / "report.html")
    assert found.tags == plain.tags
    assert found.attributes == plain.attributes
    assert found.text.count("<script>alert(1)</script>\" onload='x' \\x1b[31m\\u202e\\ud83d&lt;") >= 6
    assert found.text.count(MARKUP) >= 4


def test_no_field_becomes_markup_in_the_results(tmp_path):
    run = {"node": HOSTILE, "config": HOSTILE, "protocol": HOSTILE, "init": HOSTILE, "run": f"{HOSTILE}/r{HOSTILE}"}
    run |= {"best_epoch": HOSTILE, "epochs": HOSTILE, "seconds": 60, **SCORE}
    tree = {"row": HOSTILE, "protocol": HOSTILE, "seed": HOSTILE}
    score = system(split=HOSTILE, split_notes=[HOSTILE], chosen_on=HOSTILE)
    results = {"config": HOSTILE, "runs": [run], "trees": [tree | {"score": score}]}
    write_results(tmp_path / "results.html", results)
    found = shown(tmp_path / "results.html")
    assert "script" not in found.tags
    assert "onload" not in found.attributes
    assert found.text.count("<script>alert(1)") >= 10


@pytest.mark.parametrize(
    ("config", "learned_from", "words"),
    [
        ("phantom", ["phantom"], "learned from synthetic phantom images"),
        ("bisque", ["bisque", "phantom"], "learned from synthetic phantom images"),
        ("phantom", ["bisque"], "the images that judge here are phantoms"),
        ("bisque", ["bisque"], None),
    ],
)
def test_the_report_says_loudly_and_first_what_is_synthetic(tmp_path, config, learned_from, words):
    write_report(tmp_path / "report.html", system(config=config, member_configs=learned_from), [])
    page = (tmp_path / "report.html").read_text()
    if words:
        assert words in page[: page.index("<h1>")]
        assert "NOTHING about tissue" in page
        assert "class=loud" in page
    else:
        assert "SYNTHETIC" not in page


def test_a_phantom_run_alone_makes_a_system_synthetic(tmp_path):
    write_report(tmp_path / "report.html", system(), [run_folder(tmp_path / "run", config="phantom")])
    assert "SYNTHETIC: this system learned" in (tmp_path / "report.html").read_text()


def test_results_on_phantoms_say_loudly_that_they_are_synthetic(tmp_path):
    run = {"node": "carci", "config": "phantom", "protocol": "patient", "init": "none", "run": "r/c", "best_epoch": 1}
    write_results(tmp_path / "r.html", {"config": "phantom", "trees": [], "runs": [run | {"epochs": 1, "seconds": 6}]})
    page = (tmp_path / "r.html").read_text()
    assert "SYNTHETIC" in page[: page.index("<h1>")]
