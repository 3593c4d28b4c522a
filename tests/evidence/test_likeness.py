"""How the images that judge are compared with those that trained, and that it can be checked."""

import html
import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from bach_keras.evidence import looks
from bach_keras.evidence.evaluate import evaluate
from bach_keras.evidence.likeness import in_words, likeness, training_of
from bach_keras.evidence.ranges import fit
from bach_keras.evidence.verify_result import verify_result
from bach_keras.provenance import Provenance
from datasets.errors import UserError
from tests.evidence.system import System
from tests.few_phantoms import Copies

PATIENTS = 60


def seen(rng, count):
    """Return what training images measure, as ``ranges.fit`` takes it."""
    stains = rng.normal(0.5, 0.05, (count, 6)).tolist()
    return [
        {"blur": each[0], "tissue": each[1], "stain": stain, "um_per_pixel": None, "side": 100}
        for each, stain in zip(rng.uniform(0.4, 0.6, (count, 2)).tolist(), stains, strict=True)
    ]


RANGES = fit(seen(np.random.default_rng(0), 2 * PATIENTS), [f"p{place // 2}" for place in range(2 * PATIENTS)])
TRAINING = training_of(RANGES)


def rows(count=60, patients=30, **changed):
    """Return as many images like those of training, of as many patients; ``changed`` are added to a measure."""
    rng = np.random.default_rng(1)
    blur, tissue = rng.uniform(0.4, 0.6, (2, count))
    stain = rng.choice(RANGES.percentiles["stain"], count)
    return [
        {
            "group": f"q{place % patients}",
            "measured": {
                "blur": float(blur[place] + changed.get("blur", 0)),
                "tissue": float(tissue[place]),
                "stain": float(stain[place] + changed.get("stain", 0)),
            },
        }
        for place in range(count)
    ]


def compared(some):
    return likeness(some, RANGES.bounds, TRAINING)


def test_images_like_those_of_training_are_not_called_different():
    said = compared(rows())
    assert (said["differs"], said["n"], said["groups"]) == ([], 60, 30)
    assert [each["name"] for each in said["findings"]] == ["any warning", "blur", "tissue", "stain"]
    assert "120 training images of 60 patients: no difference that chance does not explain" in in_words(said)


def test_other_images_are_named_with_their_place_among_those_of_training():
    words = in_words(said := compared(rows(blur=0.15, stain=20.0)))
    assert said["differs"] == ["any warning", "blur", "stain"]
    assert "DIFFERENT in 3 of 4 comparisons: share of warnings, blur (median " in words
    assert "distance of stain (median 22.3, above that of all of them)" in words
    assert "100% of these images have a warning, of the training images 5%" in words
    assert "only large differences" not in words


def test_of_few_patients_the_line_says_how_little_is_known_and_names_what_lies_far():
    said = compared(rows(patients=3, stain=1.0))
    assert said["differs"] == []
    words = in_words(said)
    assert "Far from them, though it may be by chance: distance of stain (median " in words
    assert "Of 3 patients, as much as 3.0 independent images, only large differences can be shown" in words


def test_few_images_have_no_p_values():
    said = compared(rows(20, 20))
    assert said["differs"] is None
    assert "20 images are too few to test for a difference" in in_words(said)


def test_what_was_not_measured_is_not_compared():
    assert likeness([{"group": "", "measured": None}], RANGES.bounds, TRAINING) is None
    assert training_of(replace(RANGES, percentiles=None)) is None


@pytest.fixture
def folder(few_phantoms, tmp_path):
    evaluate(System(Provenance(frozenset(few_phantoms.files["train"])), ranges=RANGES), few_phantoms, None, tmp_path)
    return tmp_path


def test_an_evaluation_says_it_in_its_line_its_metrics_and_its_report(few_phantoms, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    system = System(Provenance(frozenset(few_phantoms.files["train"])), ranges=RANGES)
    result = evaluate(system, few_phantoms, "all", tmp_path)
    said = result["likeness"]
    assert (said["n"], said["groups"], result["looks"]["n"]) == (16, 8, 16)
    line = " ".join([in_words(said), *looks.in_words(result["looks"])])
    assert line in caplog.messages
    assert html.escape(line) in (tmp_path / "report.html").read_text()
    page = (tmp_path / "report.html").read_text()
    assert "Are these images like those that trained it?" in page
    assert page.count('aria-label="blur: Median') == 1
    found = verify_result(tmp_path)
    assert found.differences == []
    assert any("likeness.training" in sentence for sentence in found.checked)


def test_directions_that_no_evaluation_writes_are_refused(folder):
    result = json.loads((folder / "metrics.json").read_text())
    result["looks"]["density"] = "dark"
    (folder / "metrics.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match=r"looks\.density must be"):
        verify_result(folder)


TAMPERED = {
    "likeness.findings[0].value is": lambda said: said["findings"][0].update(value=0.0),
    "likeness.differs is": lambda said: said.update(differs=["stain"]),
    "likeness.training.patients must be": lambda said: said["training"].update(patients=0),
    "likeness.training.percentiles.blur must be": lambda said: said["training"]["percentiles"].update(blur=[1]),
    "likeness.training must be an object": lambda said: said.update(training=None),
}


@pytest.mark.parametrize("words", TAMPERED)
def test_a_comparison_that_was_changed_is_noticed(folder, words):
    result = json.loads((folder / "metrics.json").read_text())
    TAMPERED[words](result["likeness"])
    (folder / "metrics.json").write_text(json.dumps(result))
    assert any(words in difference for difference in verify_result(folder).differences)


def test_a_comparison_that_no_figures_have_is_noticed_in_the_report(few_phantoms, tmp_path):
    evaluate(System(Provenance(frozenset(few_phantoms.files["train"]))), few_phantoms, None, tmp_path)
    page = tmp_path / "report.html"
    page.write_text(page.read_text().replace("</main>", '<section id="likeness">All alike.</section></main>'))
    assert any("holds a section likeness" in each for each in verify_result(tmp_path).differences)


def test_of_runs_it_is_said_that_nothing_is_known(few_phantoms, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    system = System(Provenance(frozenset({"other.tif"})))
    assert "likeness" not in evaluate(system, Copies.of(few_phantoms), None, tmp_path)
    assert "How these images differ from those that trained the system is not known" in caplog.text
