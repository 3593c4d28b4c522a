"""What the pages show, of a realistic evaluation and of files that anybody may have written."""

import csv
import itertools
import json
import re
from html.parser import HTMLParser

import pytest

from bach_keras.evidence.page import interval
from bach_keras.evidence.report import PARTS, sections, write_report
from bach_keras.evidence.results import write_results
from bach_keras.evidence.score_sections import beside_paper
from bach_keras.run_folder import Run
from bach_keras.tree import NODES
from datasets.errors import UserError
from tests.evidence import an_evaluation

MARKUP = "<script>alert(1)</script>\" onload='x' &lt;"
HOSTILE = "<script>alert(1)</script>\" onload='x' \x1b[31m\u202e\ud83d&lt;"
SCORE = {"accuracy": 0.5, "accuracy_ci95": [0.1, 0.9], "n": HOSTILE}


class Parts(HTMLParser):
    """Gathers what a browser would see."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text, self.headings = set(), set(), "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data):
        self.text += f"{data} "


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


def written(folder, result, rows=(), runs=()):
    write_report(folder / "report.html", result, list(rows), runs, {})
    return (folder / "report.html").read_text(encoding="utf-8")


def shown(path):
    page = path.read_text(encoding="utf-8")
    assert "\x1b" not in page
    assert "\u202e" not in page
    return Parts(page)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """Return the page, the result and the rows of a realistic evaluation."""
    path, result, rows = an_evaluation.write(tmp_path_factory.mktemp("evaluation"))
    return path.read_text(encoding="utf-8"), result, rows


def test_every_part_that_shows_figures_stands_in_the_page_as_it_is_made_again(evaluation):
    page, result, rows = evaluation
    read_again = json.loads(json.dumps(result))
    parts = sections(read_again, rows)
    assert len(parts) == len(PARTS) + 4 + len(result["errors"]["paths"])
    assert all(part in page for part in parts)


def test_a_figure_that_was_changed_makes_other_parts(evaluation):
    page, result, rows = evaluation
    assert any(part not in page for part in sections(result | {"accuracy": 0.99}, rows))
    assert any(part not in page for part in sections(result, rows[1:]))


def test_the_page_is_the_same_every_time(evaluation, tmp_path):
    assert an_evaluation.write(tmp_path)[0].read_text(encoding="utf-8") == evaluation[0]


def test_headings_come_in_order_and_every_link_leads_somewhere(evaluation):
    page = evaluation[0]
    levels = Parts(page).headings
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    targets = re.findall(r'href="#(\w+)"', page)
    assert len(targets) == len(PARTS) + 4
    assert targets == re.findall(r'<section id="(\w+)"', page)


def test_numbers_have_the_digits_that_can_be_read(evaluation):
    _, result, rows = evaluation
    assert re.findall(r"\d\.\d{4,}", Parts("".join(sections(result, rows))).text) == []


def test_each_figure_and_each_picture_says_in_words_what_it_shows(evaluation):
    page, result, _ = evaluation
    assert page.count("<img ") == page.count("<img alt=") == len(result["errors"]["paths"])
    charts = page.count("<svg ") - page.count('<svg aria-hidden="true"')
    assert charts == page.count('<svg role="img" aria-label="') == 3 + 4 + 5 + 4 + 3 * 4


def test_the_papers_figures_stand_beside_ours(evaluation):
    table = evaluation[0].split("<caption>Table 1 of the paper")[1].split("</table>")[0]
    ends = evaluation[1]["nodes"]["carci"]["accuracy_ci95"]
    (carci,) = re.findall(r'<th scope="row">Carci</th>(.*?)</tr>', table)
    assert re.findall(r">([^<>]+)</td>", carci) == ["0.879", interval(ends), "1.000", "0.980"]
    assert "104 of 108" in evaluation[0]


@pytest.mark.parametrize(("config", "is_said"), [("bach_bisque", False), ("own-lab", True), ("bach+own-lab", True)])
def test_beside_the_papers_figures_it_is_said_that_the_images_are_the_users_own(evaluation, config, is_said):
    section = "".join(beside_paper({**evaluation[1], "config": config}, []))
    assert ("The images here are the user" in section) == is_said


def test_each_wrong_image_is_shown_with_its_path(evaluation):
    page, result, _ = evaluation
    first = max(result["errors"]["paths"], key=lambda path: path["confidence"])
    assert page.index(f'<th class="file" scope="row">{first["filename"]}</th>')
    caption = page.split("<figcaption><span><b>")[1].split("</figcaption>")[0]
    assert first["filename"] in caption
    assert f"NorBe: {first['label']} {first['confidence']:.3f}" in caption
    assert page.count("data:image/jpeg;base64,") == len(result["errors"]["paths"])


def test_of_many_wrong_answers_the_page_shows_the_most_confident(evaluation, tmp_path):
    _, result, rows = evaluation
    path = result["errors"]["paths"][0]
    many = [path | {"filename": f"{n:03d}.tif", "confidence": n / 300} for n in range(300)]
    page = written(tmp_path, result | {"errors": {"left_at": {"carci": 300}, "paths": many}}, rows)
    assert "300 wrong answers, the most confident first; the first 200, metrics.json holds them all" in page
    assert "The 48 most confident of 300." in page
    assert "252.tif</span>" in page
    assert "251.tif</span>" not in page


def test_no_wrong_answer_is_said_so(evaluation, tmp_path):
    _, result, rows = evaluation
    page = written(tmp_path, result | {"errors": {"left_at": {}, "paths": []}}, rows)
    assert "None of the 132 answers is wrong." in page
    assert "Pictures of the wrong" not in page


NOTHING = dict.fromkeys(("uncalibrated", "unsure", "sets", "coverage", "errors"))


def test_what_was_not_measured_says_why(evaluation, tmp_path):
    _, result, rows = evaluation
    why = {name: f"there was no {name}." for name in NOTHING} | {"auroc": "one class only."}
    page = written(tmp_path, result | NOTHING | {"auroc": None, "why": why}, rows)
    for name in NOTHING:
        assert f"Not measured: there was no {name}." in page
    assert "macro AUROC of Whole system: one class only." in page
    assert '<td class="number missing">not measured</td>' in page


def test_a_stability_card_shows_curves_and_a_table_for_each_judge(evaluation):
    page, result, _ = evaluation
    part = page.split('<section id="stability">')[1].split("</section>")[0]
    assert part.count('<svg role="img"') == 5
    assert re.findall("<summary>(.*?)</summary>", part) == [f"Every change, {node.title}" for node in NODES.values()]
    at = result["stability"]["judges"]["system"]["changes"]["scale"]["grades"][0]
    cells = [f"{at['kept']:.3f}", interval(at["kept_ci95"]), f"{at['accuracy']:.3f}", interval(at["accuracy_ci95"])]
    assert ">0.8</td>" + "".join(f'<td class="number">{cell}</td>' for cell in cells) in part


def test_a_stability_card_of_coarse_labels_says_that_the_whole_has_no_accuracy(evaluation, tmp_path):
    _, result, rows = evaluation
    coarse = {"insitu": "malignant", "invasive": "malignant"}
    card = an_evaluation.stability_of([row | {"truth": coarse.get(row["truth"], row["truth"])} for row in rows])
    page = written(tmp_path, result | {"stability": card}, rows)
    part = page.split('<section id="stability">')[1].split("</section>")[0]
    assert re.search(r"effective n [\d.]+; accuracy not measured<", part)
    assert "Every change, InvIs" not in part


def test_unknown_patients_are_counted(evaluation, tmp_path):
    _, result, rows = evaluation
    page = written(tmp_path, result, [row | {"group": "" if n < 10 else row["group"]} for n, row in enumerate(rows)])
    assert "The patient of 10 of 132 images is not known" in page
    assert "<dd>at most 24<small>10 images of unknown patients</small>" in page
    page = written(tmp_path, result, [row | {"group": ""} for row in rows])
    assert "<dd>unknown<small>each image counts as one</small>" in page


def of_some_labels(result):
    """Return a result on images that are benign or malignant, as BISQUE's are."""
    reason = "Of the four classes these images hold benign alone."
    nulls = {"accuracy": None, "accuracy_ci95": None, "confusion_matrix": None, "why": {"accuracy": reason}}
    nulls |= dict.fromkeys(("n", "groups", "effective_n", "sensitivity", "auroc", "reliability", "absent"))
    return result | nulls | {"headline": "carci", "nodes": {"carci": result["nodes"]["carci"]}}


def test_a_set_of_some_labels_is_headed_by_the_node_that_it_judges(evaluation, tmp_path):
    page = written(tmp_path, of_some_labels(evaluation[1]), evaluation[2])
    summary = page.split('<section id="summary">')[1].split("</section>")[0]
    assert "<b>0.879</b> <span>accuracy of Carci" in summary
    assert "The four-class accuracy is not the headline. Of the four classes these images hold benign alone." in summary
    assert "all scores of Whole system: Of the four classes these images hold benign alone." in page
    assert "all scores of NorBe, all scores of InvIs: No image here is of a class that could judge it." in page
    assert "Whole system: normal" not in page


def test_one_node_by_itself_has_a_page(evaluation, tmp_path):
    _, result, rows = evaluation
    carci = result["nodes"]["carci"]
    alone = result | carci | {"kind": "node", "node": "carci", "headline": "carci", "nodes": {"carci": carci}}
    alone |= {"uncalibrated": {"carci": result["uncalibrated"]["carci"]}}
    rows = [{key: row[key] for key in ("filename", "group", "truth", "carci")} | {"label": "carcinoma"} for row in rows]
    page = written(tmp_path, alone, rows)
    assert "accuracy of Carci" in page
    assert "Whole system" not in page.split('<section id="scores">')[1].split("</section>")[0]


def test_a_headline_without_a_score_is_refused(evaluation):
    with pytest.raises(UserError, match="The headline is invis, of which there is no score"):
        sections(of_some_labels(evaluation[1]) | {"headline": "invis"}, [])


def test_no_field_of_metrics_or_config_becomes_markup_in_the_report(tmp_path):
    run = run_folder(
        tmp_path / "run", config=MARKUP, protocol=MARKUP, init=MARKUP, split_origin={"note": MARKUP},
    )  # fmt: skip
    result = system(config=HOSTILE, protocol=HOSTILE, split=HOSTILE, split_notes=[HOSTILE], chosen_on=HOSTILE)
    write_report(tmp_path / "plain.html", system(split_notes=["x"]), [], [run_folder(tmp_path / "plain")], {})
    write_report(tmp_path / "report.html", result | {"n": HOSTILE}, [], [run], {})
    plain, found = shown(tmp_path / "plain.html"), shown(tmp_path / "report.html")
    assert found.tags == plain.tags
    assert found.attributes == plain.attributes
    assert found.text.count("<script>alert(1)</script>\" onload='x' \\x1b[31m\\u202e\\ud83d&lt;") >= 6
    assert found.text.count(MARKUP) >= 4


def test_no_field_of_a_whole_evaluation_becomes_markup(evaluation, tmp_path):
    _, result, rows = evaluation
    path = {"filename": HOSTILE, "truth": HOSTILE, "label": HOSTILE, "left_at": HOSTILE, "confidence": 0.5}
    path |= {"path": [[HOSTILE, HOSTILE, 0.5]]}
    hostile = result | {"errors": {"left_at": {HOSTILE: 1}, "paths": [path]}, "absent": [HOSTILE]}
    hostile |= {"why": {HOSTILE: HOSTILE}, "members": [HOSTILE], "split_digest": HOSTILE, "views": HOSTILE}
    write_report(tmp_path / "report.html", hostile, [row | {"group": HOSTILE} for row in rows], [], {})
    found = shown(tmp_path / "report.html")
    assert "script" not in found.tags
    assert "onload" not in found.attributes
    assert found.text.count("<script>alert(1)") >= 15


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
    page = written(tmp_path, system(config=config, member_configs=learned_from))
    if words:
        assert words in page[: page.index("<h1>")]
        assert "NOTHING about tissue" in page
        assert "class=loud" in page
    else:
        assert "SYNTHETIC" not in page


def test_a_phantom_run_alone_makes_a_system_synthetic(tmp_path):
    page = written(tmp_path, system(), runs=[run_folder(tmp_path / "run", config="phantom")])
    assert "SYNTHETIC: this system learned" in page


def test_results_on_phantoms_say_loudly_that_they_are_synthetic(tmp_path):
    run = {"node": "carci", "config": "phantom", "protocol": "patient", "init": "none", "run": "r/c", "best_epoch": 1}
    write_results(tmp_path / "r.html", {"config": "phantom", "trees": [], "runs": [run | {"epochs": 1, "seconds": 6}]})
    page = (tmp_path / "r.html").read_text()
    assert "SYNTHETIC" in page[: page.index("<h1>")]


def test_each_run_shows_its_curves_range_tests_settings_seeds_and_versions(evaluation):
    page = evaluation[0]
    assert page.count('aria-label="Training curves') == 2 * len(NODES)
    assert page.count('aria-label="Learning rate range test') == 2 * len(NODES)
    assert page.count("<details><summary>Settings of") == len(NODES)
    assert "loss, logarithmic" in page
    assert "0.333333" in page
    seeds = page.split("Seeds and versions</h3>")[1].split("</table>")[0]
    assert "3.15.1" in seeds


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "it is not JSON"),
        ("{}", "it is not a list of phases"),
        ("[5]", "phase 1 must be an object, not 5"),
        ('[{"phase": "head"}]', "phase 1.metric is missing"),
        (json.dumps([an_evaluation.range_test("head", 0.1) | {"divergence": "x"}]), "phase 1.divergence must be"),
        (json.dumps([an_evaluation.range_test("head", 0.1) | {"probe": {"rates": []}}]), "phase 1.probe.values is"),
    ],
)
def test_a_range_test_that_was_changed_is_refused(tmp_path, content, reason):
    run = run_folder(tmp_path / "run")
    (run / "lr_range_test.json").write_text(content)
    with pytest.raises(UserError, match=rf"lr_range_test\.json is not what a run writes \({reason}.*train the run"):
        Run.open(run).range_tests()
