from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bach_keras.hierarchy import Hierarchy
from bach_keras.network.convolution import has_native_grouped_convolution
from bach_keras.preprocess import View
from bach_keras.serving.agreement import LIMITS, Agreement
from bach_keras.serving.parity import Form, KerasRuns, Row, as_lines, measure, open_forms
from cli import cli
from datasets import phantom
from datasets.errors import UserError
from datasets.labels import CLASSES

TISSUE = [phantom.draw(label, 920, index) for index in range(3) for label in CLASSES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("tissue")
    for number, image in enumerate(TISSUE):
        Image.fromarray(image).save(place / f"{number:02d}.png")
    return place


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def options(tree_of_runs):
    return [word for node, folder in tree_of_runs.items() for word in (f"--{node}", folder)]


@pytest.fixture(scope="module")
def lite(tree_of_runs, folder, tmp_path_factory):
    if not has_native_grouped_convolution():
        pytest.skip("nothing is converted where TensorFlow has no oneDNN")
    file = tmp_path_factory.mktemp("lite") / "tree.tflite"
    result = run("export", *options(tree_of_runs), "--tflite", file, "--calibration", folder)
    assert result.exit_code == 0, result.output
    assert f"the same label on {len(TISSUE)} of {len(TISSUE)} images" in result.output
    return file


def test_the_reference_is_the_tree(members):
    answers, tree = KerasRuns(members).images(np.stack(TISSUE)), Hierarchy(members)
    # Folding rounds again, and these networks' logits reach fifty: 2e-6 of that is 3e-5 in a probability.
    np.testing.assert_allclose(answers["soft"], tree.images(np.stack(TISSUE))["probabilities"], atol=3e-5)
    np.testing.assert_allclose(answers["routed"], tree.routed(np.stack(TISSUE))["probabilities"], atol=3e-5)


def test_all_forms_agree_with_the_runs(members, export, lite, folder):
    rows, errors = measure(open_forms(members, export, [lite]), sorted(folder.iterdir()))
    assert not errors
    assert [row.form.name for row in rows] == [
        "Keras runs", "SavedModel soft", "SavedModel routed", "SavedModel images", "TFLite none"
    ]  # fmt: skip
    assert all(row.holds and row.agreement.same == row.agreement.count == len(TISSUE) for row in rows)
    assert all(row.milliseconds > 0 and row.form.megabytes > 0 for row in rows)
    assert rows[4].form.megabytes == pytest.approx(lite.stat().st_size / 1e6)


def test_a_form_that_answers_otherwise_disagrees(members, folder):
    runs = KerasRuns(members)
    forms = [
        Form("Keras runs", lambda image, png: runs.images(image), "soft", None, 1.0),
        Form("turned", lambda image, png: runs.images(image)["soft"][:, ::-1], "soft", LIMITS["none"], 1.0),
    ]
    rows, _ = measure(forms, sorted(folder.iterdir())[:2])
    assert not rows[1].holds
    header, reference, turned = as_lines(rows)
    assert header.split() == ["form", "difference", "same", "label", "MB", "ms"]
    assert "reference" in reference
    assert "DISAGREES" not in reference
    assert turned.endswith("DISAGREES")


def test_a_line_of_the_table():
    row = Row(Form("TFLite int8", None, "soft", LIMITS["int8"], 25.31), Agreement(0.0123, 557, 558, 0.004), 12.34)
    assert list(as_lines([row]))[1].split() == ["TFLite", "int8", "1.2e-02", "557/558", "25.3", "12.3"]


def test_the_command_prints_the_table_and_counts_broken_files(tree_of_runs, exported, lite, folder, tmp_path):
    words = ["parity", "--model", exported, "--tflite", lite, *options(tree_of_runs)]
    result = run(*words, folder)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 6
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    result = run(*words, folder, tmp_path)
    assert result.exit_code == 1
    assert f"{len(TISSUE)}/{len(TISSUE)}" in result.stdout
    assert "broken.png is damaged" in result.stderr
    result = run(*words, tmp_path)
    assert result.exit_code == 2
    assert "This file is not an image that can be read" in result.output


def test_another_image_size_is_refused(members, export, monkeypatch):
    monkeypatch.setattr(export, "view", View(64))
    with pytest.raises(UserError, match="64 pixels and the runs of 32"):
        open_forms(members, export, [])


def test_another_stain_normalisation_is_refused(members, export, monkeypatch):
    monkeypatch.setattr(export, "view", View(32, "macenko"))
    with pytest.raises(UserError, match="32 pixels and macenko stain normalisation and the runs of 32 pixels"):
        open_forms(members, export, [])


def test_runs_that_do_not_make_a_tree_are_refused(members, exported, export, folder):
    result = run("parity", "--model", exported, folder)
    assert result.exit_code == 2
    assert "none was given for carci, norbe, invis" in result.output
    first, *others = members
    for view, name in ((View(64), "image size"), (View(32, "macenko"), "stain normalisation")):
        with pytest.raises(UserError, match=f"share one {name}"):
            open_forms([first, replace(others[0], view=view), *others[1:]], export, [])
