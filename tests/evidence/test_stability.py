import json
import logging
import re
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest

from bach_keras.evidence.evaluate import evaluate
from bach_keras.evidence.predictions import COLUMNS
from bach_keras.evidence.stability import Sample, measure_stability
from bach_keras.evidence.stability_card import ANSWERS, CARD, CHANGES, UNCHANGED, as_csv, figures, parse
from bach_keras.evidence.stability_sections import as_table
from bach_keras.evidence.verify_result import verify_result
from bach_keras.hierarchy import Hierarchy
from bach_keras.provenance import Provenance
from bach_keras.serving.exported import Export
from bach_keras.tree import NODES
from datasets.errors import MissingError, UserError, WorkError
from tests.evidence.answered import node_row, row, rows
from tests.evidence.system import System
from tests.evidence.test_evaluate import of_bisque
from tests.full_disk import fill_the_disk

MODEL = "ab" * 32


@dataclass
class Sharp(System):
    """Calls carcinoma what is not blurred, and so sees a change of focus, and no turn."""

    def images(self, images):
        edges = np.abs(np.diff(np.asarray(images, float), axis=1)).mean(axis=(1, 2, 3))
        edges += np.abs(np.diff(np.asarray(images, float), axis=2)).mean(axis=(1, 2, 3))
        carcinoma = np.where(edges > 12, 0.8, 0.2)
        carci = np.stack([1 - carcinoma, carcinoma], axis=1)
        pairs = {"carci": carci, "norbe": np.full_like(carci, (0.4, 0.6)), "invis": np.full_like(carci, (0.3, 0.7))}
        four = np.concatenate([carci[:, :1] * pairs["norbe"], carci[:, 1:] * pairs["invis"]], axis=1)
        label = np.where(carcinoma > 0.5, b"invasive", b"benign")
        return {"probabilities": four, "label": label, **pairs}


@pytest.fixture
def system(few_phantoms):
    return Sharp(Provenance(frozenset(few_phantoms.files["train"])), configs=("phantom",))


@pytest.fixture(scope="module")
def measured(few_phantoms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    system = Sharp(Provenance(frozenset(few_phantoms.files["train"])))
    measure_stability(system, few_phantoms, None, folder, Sample())
    return folder


@pytest.fixture
def folder(measured, tmp_path):
    return shutil.copytree(measured, tmp_path / "out")


def test_what_is_blurred_is_answered_otherwise_and_what_is_turned_is_not(measured):
    card = json.loads((measured / CARD).read_text())
    of_carci = card["judges"]["carci"]
    assert of_carci["n"] == of_carci["accuracy_n"] == 8
    assert {at["kept"] for at in of_carci["changes"]["symmetry"]["grades"]} == {1.0}
    blur = [at["kept"] for at in of_carci["changes"]["blur"]["grades"]]
    assert blur == sorted(blur, reverse=True)
    assert of_carci["changes"]["blur"]["kept"] < 0.5
    assert {each["changes"]["blur"]["kept"] for name, each in card["judges"].items() if name in ("norbe", "invis")} == {
        1
    }
    assert card["judges"]["system"]["changes"]["blur"]["grades"] == [
        {**at, "accuracy": whole["accuracy"], "accuracy_ci95": whole["accuracy_ci95"]}
        for at, whole in zip(
            of_carci["changes"]["blur"]["grades"], card["judges"]["system"]["changes"]["blur"]["grades"], strict=True
        )
    ]


def answers(**changed):
    """Return answers in which what is named differs from the others; ``jpeg="95"`` is a change and its grade."""
    same = rows()
    other = [
        row("a.tif", "normal", carci=0.9, group="1"),
        same[1],
        row("c.tif", "insitu", carci=0.3, invis=0.2, group="2"),
        same[3],
    ]
    return {change: other if changed.get(change[0]) == change[1] else same for change in CHANGES}


def card_of(given):
    return figures(parse(as_csv(given, MODEL), ANSWERS))


def test_each_node_is_asked_about_its_own_images():
    found = card_of(answers(jpeg="95"))["judges"]
    assert {name: each["n"] for name, each in found.items()} == {"system": 4, "carci": 4, "norbe": 2, "invis": 2}
    at = {name: each["changes"]["jpeg"]["grades"][0] for name, each in found.items()}
    assert {name: each["kept"] for name, each in at.items()} == {"system": 0.5, "carci": 0.5, "norbe": 1, "invis": 1}
    assert (found["carci"]["accuracy"], at["carci"]["accuracy"]) == (1.0, 0.5)
    assert (found["system"]["accuracy"], at["system"]["accuracy"]) == (0.75, 0.25)
    low, high = at["system"]["kept_ci95"]
    assert 0 < low < 0.5 < high < 1


def test_what_is_kept_at_every_grade_is_less_than_at_each():
    given = answers(jpeg="95")
    same = rows()
    given["jpeg", "60"] = [same[0], row("b.tif", "benign", carci=0.9, group="1"), *same[2:]]
    jpeg = card_of(given)["judges"]["system"]["changes"]["jpeg"]
    assert [at["kept"] for at in jpeg["grades"]] == [0.5, 1, 1, 1, 0.75]
    assert jpeg["kept"] == 0.25


def test_of_labels_that_are_too_coarse_the_whole_has_no_accuracy_and_keeps_what_it_answers():
    given = {change: [row("a.tif", "malignant"), row("b.tif", "benign")] for change in CHANGES}
    found = card_of(given)["judges"]
    assert list(found) == ["system", "carci", "norbe"]
    assert (found["system"]["n"], found["system"]["accuracy_n"], found["system"]["accuracy"]) == (2, 0, None)
    assert "coarser than the four classes" in found["system"]["why"]["accuracy"]
    assert found["carci"]["accuracy"] == 0.5


def test_a_node_by_itself_has_its_own_figures_alone():
    given = {change: [node_row("a.tif", "insitu", second=0.9)] for change in CHANGES}
    given["scale", "0.8"] = [node_row("a.tif", "insitu")]
    found = card_of(given)
    assert list(found["judges"]) == ["carci"]
    assert [at["kept"] for at in found["judges"]["carci"]["changes"]["scale"]["grades"]] == [0, 1, 1, 1]
    assert any(line.startswith("Carci, 1 image, patients unknown") for line in as_table(found))


@pytest.fixture(params=["members", "export", "node"])
def trained(request, members):
    if request.param == "export":
        return Export(request.getfixturevalue("exported"))
    return Hierarchy([each for each in members if request.param == "members" or each.node == "norbe"])


def test_a_tree_of_runs_an_export_and_a_node_are_measured(few_phantoms, trained, tmp_path):
    card = measure_stability(trained, few_phantoms, None, tmp_path, Sample(3))
    assert card == json.loads((tmp_path / CARD).read_text())
    assert (card["n"], card["of"]) == (3, 8 if len(trained.nodes) > 1 else 4)
    assert set(card["judges"]) <= {"system", *NODES}
    assert verify_result(tmp_path).differences == []
    given = parse((tmp_path / ANSWERS).read_bytes(), ANSWERS)[UNCHANGED].rows
    images = {
        each["filename"].decode(): each["image"]
        for each in few_phantoms.images(few_phantoms.files["test"]).as_numpy_iterator()
    }
    for each in given:
        expected = np.asarray(trained.images(images[each["filename"]][None])[trained.nodes[0]])[0]
        np.testing.assert_allclose(each[trained.nodes[0]], expected, atol=1e-4)


def test_the_sample_is_spread_over_the_patients_and_follows_its_seed():
    names = [f"{patient}-{number}" for patient in "abcd" for number in range(5)]
    groups = {name: name[0] for name in names if name[0] != "d"}
    first = Sample(6, seed=1).of(names, groups)
    assert first == sorted(first) == Sample(6, seed=1).of(names[::-1], groups) != Sample(6, seed=2).of(names, groups)
    assert {"a", "b", "c"} <= {name[0] for name in first}
    assert max(sum(name[0] == patient for name in first) for patient in "abc") == 1
    assert Sample(100).of(names, groups) == names


def test_the_report_shows_the_card_that_is_in_its_folder(few_phantoms, system, folder, caplog):
    caplog.set_level(logging.INFO)
    result = evaluate(system, few_phantoms, None, folder)
    assert result["stability"] == json.loads((folder / CARD).read_text())
    page = (folder / "report.html").read_text()
    assert "Asked about 8 of the 8 images that judge" in page
    assert page.count("share kept") == 5
    assert verify_result(folder).differences == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda system, data: (replace(system, digest="1" * 64), data), "is of another system than predictions.csv"),
        (lambda system, data: (system, of_bisque(data)), "is of images that predictions.csv lacks, such as 'phantom-"),
    ],
)
def test_a_card_of_another_model_or_other_images_is_left_out(few_phantoms, system, folder, caplog, change, reason):
    result = evaluate(*change(system, few_phantoms), None, folder)
    assert "stability" not in result
    assert f"The report leaves out {folder / CARD}: {CARD} {reason}" in caplog.text
    assert "Not measured: no stability.json of this system" in (folder / "report.html").read_text()
    found = verify_result(folder)
    assert found.differences == []
    assert f"{CARD} is beside the report, which does not show it: evaluate again, if it should" in found.checked


def rewrite(path, change):
    result = json.loads(path.read_text())
    change(result)
    path.write_text(json.dumps(result))


def blur_of(card, judge="carci"):
    return card["judges"][judge]["changes"]["blur"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda card: blur_of(card).update(kept=0.99), "judges.carci.changes.blur.kept is 0.99"),
        (lambda card: blur_of(card)["grades"][1].update(grade=9), "judges.carci.changes.blur.grades[1].grade is 9"),
        (lambda card: card["judges"].pop("invis"), "judges.invis is missing"),
        (lambda card: card.update(judges=None), "judges is null"),
        (lambda card: card.update(answers_digest="0" * 64), "answers_digest is"),
        (lambda card: card.update(robust=True), "stability.json holds robust"),
    ],
)
def test_a_figure_of_the_card_that_was_changed_is_named(folder, change, place):
    rewrite(folder / CARD, change)
    for path in (folder, folder / CARD):
        assert any(line.startswith(place) for line in verify_result(path).differences)


def test_a_card_that_was_changed_is_never_shown(few_phantoms, system, folder, caplog):
    rewrite(folder / CARD, lambda card: blur_of(card).update(kept=0.99))
    assert "stability" not in evaluate(system, few_phantoms, None, folder)
    assert f"The report leaves out {folder / CARD}: judges.carci.changes.blur.kept is 0.99" in caplog.text


def test_a_card_that_was_changed_after_the_report_was_written_is_noticed(few_phantoms, system, folder):
    evaluate(system, few_phantoms, None, folder)
    rewrite(folder / "metrics.json", lambda result: result["stability"]["judges"]["carci"].update(n=80))
    assert verify_result(folder).differences == [
        "stability in metrics.json is not what stability.json says: evaluate again"
    ]
    for name in (ANSWERS, CARD):
        (folder / name).unlink()
        with pytest.raises(MissingError, match=f"{name} is not there"):
            verify_result(folder)


def changed(content, old, new):
    assert old in content
    return content.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"unchanged,,phantom-benign", b"unchanged,,phantom-normal", "line 2 (phantom-.*changed after it was written"),
        (b"jpeg,95,", b"jpeg,94,", "does not hold the changes that this version makes"),
        (b"blur,1,", b"blur,0.5,", "does not hold|added, removed|already"),
        (b"change,grade", b"grade,change", "does not hold the changes"),
        (b"", b"\xff", "does not hold the changes"),
    ],
)
def test_a_row_of_the_answers_that_was_changed_is_named(folder, old, new, reason):
    path = folder / ANSWERS
    path.write_bytes(changed(path.read_bytes(), old, new))
    (difference,) = verify_result(folder).differences
    assert re.search(reason.replace("(", r"\("), difference)


def test_answers_of_two_systems_do_not_make_a_card():
    given = answers()
    lines = as_csv(given, MODEL).decode().splitlines(keepends=True)
    other = as_csv(given, "cd" * 32).decode().splitlines(keepends=True)
    with pytest.raises(UserError, match=r"the answers for scale 1\.25 are of other images, or of another system"):
        parse("".join(lines[:-4] + other[-4:]).encode(), ANSWERS)


def test_an_empty_file_of_answers_is_refused():
    with pytest.raises(UserError, match="does not hold the changes"):
        parse(b"", ANSWERS)


def refused(system, data, out, sentence, **of_sample):
    with pytest.raises(UserError, match=sentence):
        measure_stability(system, data, None, out, Sample(**of_sample))
    assert not out.exists()


def test_images_that_cannot_judge_are_refused(few_phantoms, system, tmp_path):
    refused(system, replace(few_phantoms, files={"train": [], "validation": []}), tmp_path / "out", "has no test")
    leaking = replace(system, provenance=Provenance(frozenset(few_phantoms.files["test"])))
    refused(leaking, few_phantoms, tmp_path / "out", "8 of these 8 images trained a member")


def test_an_answer_of_nan_is_refused(few_phantoms, tmp_path):
    broken = System(Provenance(frozenset(few_phantoms.files["train"])), probabilities=[np.nan] * 4)
    refused(broken, few_phantoms, tmp_path / "out", "NaN or infinity for phantom-.*png, or a change of it, so", count=1)


@pytest.mark.parametrize("name", [ANSWERS, CARD])
def test_a_folder_in_the_place_of_a_file_is_refused_before_the_work(few_phantoms, system, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"{name} is there, and not a file that could be replaced"):
        measure_stability(system, few_phantoms, None, tmp_path, Sample(1))


def test_work_that_ends_early_leaves_the_card_that_was_there(few_phantoms, system, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    fill_the_disk(folder / ANSWERS)
    with pytest.raises(WorkError, match=r"stability\.csv cannot be written: No space left"):
        measure_stability(system, few_phantoms, None, folder, Sample(1))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_card_says_loudly_that_a_system_learned_from_phantoms(few_phantoms, system, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    measure_stability(system, few_phantoms, None, tmp_path, Sample(2, seed=5))
    assert "asking about 2 of 8 images (--images 2, --seed 5), each as it is and changed in 28 ways" in caplog.text
    assert "WARNING: this system learned from synthetic phantom images" in caplog.text


def test_the_columns_are_those_of_predictions(measured):
    heads = (measured / ANSWERS).read_text().splitlines()[0].split(",")
    assert heads == ["change", "grade", *COLUMNS]
