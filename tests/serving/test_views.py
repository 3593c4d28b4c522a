"""Several views of an image, inside an export and beside it: the answers are the same."""

import csv
import dataclasses
import io
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image

from bach_keras.calibration import Calibration
from bach_keras.evidence.evaluate import evaluate
from bach_keras.hierarchy import Hierarchy
from bach_keras.provenance import Provenance
from bach_keras.serving.agreement import LIMITS
from bach_keras.serving.answers import ImpossibleError, Outputs, as_arrays
from bach_keras.serving.card import as_markdown, check_card
from bach_keras.serving.export import export_tree
from bach_keras.serving.exported import Export
from bach_keras.serving.images import as_png, as_seen
from bach_keras.serving.parity import KerasRuns, measure, open_forms
from bach_keras.serving.predict import answer_batch, predict_files
from bach_keras.serving.remote.client import Remote
from bach_keras.serving.remote.server import Server
from bach_keras.serving.views import with_views
from cli import cli
from tests.serving.conftest import IMAGES

# Wide, upright and square.
TISSUE = [IMAGES[0], IMAGES[1].transpose(1, 0, 2), IMAGES[2][:200, :200], IMAGES[3]]
ROUTINGS = ("soft", "routed")


@pytest.fixture(scope="module")
def trained(sure_members):
    origin = Provenance(frozenset({"trained.png"}), frozenset(), frozenset({"paper"}))
    # Milder than they are, so that the views of an image differ in their answers.
    return [dataclasses.replace(member, provenance=origin, temperature=4.0) for member in sure_members]


@pytest.fixture(scope="module")
def one(trained, tmp_path_factory):
    return Export(export_tree(trained, tmp_path_factory.mktemp("one") / "1"))


@pytest.fixture(scope="module")
def many(trained, tmp_path_factory):
    return Export(export_tree(trained, tmp_path_factory.mktemp("many") / "1", views=24))


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def assert_alike(rows, others):
    """Rows of the same answers, to 1e-5."""
    assert len(rows) == len(others)
    for row, other in zip(rows, others, strict=True):
        assert row["label"] == other["label"]
        assert row["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
        assert row["spread"] == pytest.approx(other["spread"], abs=1e-5)
        for name, pair in row["nodes"].items():
            assert other["nodes"][name] == (pair and pytest.approx(pair, abs=1e-5))


@pytest.mark.parametrize("routing", ROUTINGS)
def test_views_beside_an_export_give_the_answers_of_views_inside(one, many, routing):
    inside = answer_batch(many, TISSUE, routing)
    assert_alike(answer_batch(with_views(one, 24), TISSUE, routing), inside)
    plain = answer_batch(one, TISSUE, routing)
    benign = [np.array([row["probabilities"]["benign"] for row in rows]) for rows in (inside, plain)]
    assert np.abs(benign[0] - benign[1]).max() > 1e-3
    assert max(row["spread"] for row in inside) > 1e-3
    assert {row["spread"] for row in plain} == {None}


@pytest.mark.parametrize("routing", ROUTINGS)
def test_eight_views_beside_an_export_are_those_of_the_tree(one, trained, routing):
    tree = Hierarchy(trained, views=8)
    rows = answer_batch(with_views(one, 8), TISSUE, routing)
    method = {"soft": tree.images, "routed": tree.routed}[routing]
    for row, image in zip(rows, TISSUE, strict=True):
        answer = method(image[None])
        np.testing.assert_allclose(list(row["probabilities"].values()), answer["probabilities"][0], atol=1e-5)
        assert row["spread"] == pytest.approx(float(answer["spread"][0]), abs=1e-5)


@pytest.mark.parametrize("routing", ROUTINGS)
def test_files_of_any_sizes_are_answered_as_their_pixels_to_the_bit(one, many, routing):
    for export in (many, with_views(one, 24)):
        of_pixels = answer_batch(export, TISSUE, routing)
        *of_files, broken = answer_batch(export, [*map(as_png, TISSUE), b"text"], routing)
        assert of_files == of_pixels
        assert broken == {"error": "The model could not decode this image."}


def test_a_broken_file_alone_is_an_error_row(one, many):
    for export in (many, with_views(one, 8)):
        assert "error" in answer_batch(export, [b"text"])[0]
    answers = many.encoded([b"text"])
    assert answers["spread"].numpy().tolist() == [0]
    assert many.encoded(list(map(as_png, TISSUE)))["spread"].shape == (4,)


@pytest.mark.parametrize("transport", ["rest_url", "grpc_url"])
def test_a_served_model_answers_as_the_export_with_views_beside_it_or_inside(one, many, transport):
    for export, views in ((one, 24), (many, None), (many, 24)):
        with Server(export) as server:
            remote = Remote(getattr(server, transport))
            rows = answer_batch(with_views(remote, views), TISSUE)
            assert rows == answer_batch(with_views(export, views), TISSUE)
            assert answer_batch(with_views(remote, views), TISSUE, "routed") == answer_batch(
                with_views(export, views), TISSUE, "routed"
            )


def test_of_an_export_with_24_views_the_client_sends_three_squares(many):
    with Server(many) as server:
        remote = Remote(server.rest_url)
        assert remote.prepared(TISSUE[0]) == as_png(as_seen(TISSUE[0], 32, 24))
        assert_alike(answer_batch(Remote(server.rest_url, send_whole=True), TISSUE), answer_batch(many, TISSUE))


def test_views_that_a_model_has_inside_are_not_changed(many):
    assert with_views(many, 24) is with_views(many, None) is many
    for views in (1, 8):
        with pytest.raises(ValueError, match="averages 24 views of an image itself: give --views 24"):
            with_views(many, views)


def test_answers_of_other_views_have_another_digest(one):
    assert len({one.digest, with_views(one, 8).digest, with_views(one, 24).digest}) == 3


def test_a_server_that_does_not_tell_the_side_has_no_views(one):
    with Server(one) as server, pytest.raises(ValueError, match="Leave out --send-whole"):
        with_views(Remote(server.rest_url, send_whole=True), 8)


def test_side_squares_of_a_model_that_measures_stains_are_refused(one, monkeypatch):
    monkeypatch.setitem(one.card, "stain_normalisation", "macenko")
    assert with_views(one, 8).views == 8
    with pytest.raises(ValueError, match="on the central one of three: take --views 8"):
        with_views(one, 24)


def test_thresholds_of_one_view_say_nothing_of_several(one, monkeypatch):
    levels = {"levels": {"0.8": 0.3, "0.9": 0.2}, "unsure": {"share": 0.2, "threshold": 0.6}}
    monkeypatch.setitem(one.card, "calibration", levels)
    several = with_views(one, 8)
    assert "chosen on one view of an image and not on 8" in several.warnings[-1]
    assert len(several.warnings) == len(one.warnings) + 1
    (row,) = answer_batch(several, TISSUE[:1])
    assert (row["unsure"], row["set"]) == (None, None)


def test_temperatures_of_one_view_calibrate_no_others(one, monkeypatch):
    plain = [{**member, "temperature": 1.0} for member in one.card["members"]]
    monkeypatch.setitem(one.card, "members", plain)
    assert with_views(one, 8).warnings == one.warnings
    monkeypatch.setitem(one.card, "members", [{**plain[0], "temperature": 1.5}, *plain[1:]])
    assert "temperatures were fitted on one view of an image and not on 8" in with_views(one, 8).warnings[-1]


def test_a_system_prepares_images_for_itself(one, many, trained):
    for system, views in ((one, 1), (many, 24), (with_views(one, 8), 8), (Hierarchy(trained), 1)):
        assert (system.views, system.nodes, len(system.classes)) == (views, ("carci", "norbe", "invis"), 4)
        part = system.prepare(TISSUE[0]).numpy()
        np.testing.assert_array_equal(part, as_seen(TISSUE[0], 32, views))
        whole, prepared = system.images(TISSUE[0][None]), system.images(part[None])
        np.testing.assert_array_equal(whole["probabilities"], prepared["probabilities"])


def changed_card(export, place, **changes):
    shutil.copytree(export.folder, place)
    card = {name: value for name, value in (export.card | changes).items() if value is not ...}
    (place / "assets/model_card.json").write_text(json.dumps(card))
    return place


def test_a_card_and_a_model_must_agree_on_the_views(one, many, tmp_path):
    with pytest.raises(ValueError, match=r"answers other things than .*spread"):
        Export(changed_card(one, tmp_path / "1", views=8))
    with pytest.raises(ValueError, match="answers spread, of which the card says nothing"):
        Export(changed_card(many, tmp_path / "2", views=...))
    for number, views in enumerate((0, 2, "8", True, None), start=3):
        with pytest.raises(ValueError, match="views must be 1, 8 or 24"):
            Export(changed_card(one, tmp_path / str(number), views=views))


def test_thresholds_of_other_views_than_the_cards_are_refused(many):
    thresholds = Calibration({"0.8": 0.3, "0.9": 0.2}, 0.6, 0.2, 40, 20, 8, "bach", "patient", "validation")
    card = many.card | {"calibration": thresholds.in_card()}
    with pytest.raises(ValueError, match=r"calibration\.views must be 24, as views is, not 8"):
        check_card(card)
    assert check_card(card | {"views": 8})


def test_a_card_without_views_is_of_one(one, tmp_path):
    older = Export(changed_card(one, tmp_path / "1", views=..., kind=...))
    assert (older.views, older.nodes) == (1, ("carci", "norbe", "invis"))
    assert answer_batch(older, TISSUE) == answer_batch(one, TISSUE)


def test_the_card_says_how_many(one, many):
    assert "averaged over 24 views of an image" in as_markdown(many.card)
    assert "views" not in as_markdown(one.card)


@pytest.mark.parametrize("spread", [float("nan"), float("inf"), -0.1, 0.6])
def test_a_spread_that_cannot_be_is_a_fault(spread):
    answer = {
        "probabilities": [[0.8, 0.2]], "carci": [[0.8, 0.2]], "label": ["noncarcinoma"], "ok": [True],
        "spread": [spread],
    }  # fmt: skip
    form = Outputs(("carci",), 8)
    assert "spread that is not a standard deviation" in as_arrays(answer, 1, "soft", "S", form)["fault"][0]
    assert as_arrays(answer | {"spread": [0.1]}, 1, "soft", "S", form)["fault"][0] == ""
    for wrong in ([], ["0.1"], [None], [True], 0.1):
        with pytest.raises(ImpossibleError, match="spread that is not 1 numbers"):
            as_arrays(answer | {"spread": wrong}, 1, "soft", "S", form)


def test_predict_shows_the_spread(one, many, tmp_path):
    Image.fromarray(TISSUE[0]).save(tmp_path / "a.png")
    words = ("predict", "--model", one.folder, "--views", 24)
    (row,) = [json.loads(line) for line in run(*words, "--format", "json", tmp_path).stdout.splitlines()]
    assert_alike([row], list(predict_files(many, [tmp_path])))
    (line,) = csv.DictReader(io.StringIO(run(*words, "--format", "csv", tmp_path).stdout))
    assert float(line["spread"]) == row["spread"]
    assert f"spread {row['spread']:.3f}  " in run(*words, tmp_path).stdout
    (plain,) = csv.DictReader(io.StringIO(run("predict", "--model", one.folder, "--format", "csv", tmp_path).stdout))
    assert plain["spread"] == ""
    result = run("predict", "--model", many.folder, "--views", 8, tmp_path)
    assert result.exit_code == 2
    assert "averages 24 views" in result.stderr


def test_parity_compares_an_export_with_runs_of_as_many_views(trained, many, tmp_path):
    (tmp_path / "a.png").write_bytes(as_png(TISSUE[0]))
    rows, errors = measure(open_forms(trained, many, []), [tmp_path / "a.png"])
    assert not errors
    assert all(row.agreement.difference <= LIMITS["none"].difference for row in rows)
    runs = KerasRuns(trained, 24).images(TISSUE[0][None])
    assert not np.allclose(runs["soft"], KerasRuns(trained).images(TISSUE[0][None])["soft"], atol=1e-4)


def test_a_tflite_file_has_one_view(tmp_path):
    result = run("export", "--tflite", tmp_path / "t.tflite", "--views", 8, "--carci", tmp_path)
    assert result.exit_code == 2
    assert "--views is about a SavedModel: a TFLite file answers for one square" in result.stderr


def test_an_export_with_views_holds_each_kernel_once(one, many):
    sizes = [(export.folder / "saved_model.pb").stat().st_size for export in (one, many)]
    assert sizes[1] < 1.5 * sizes[0]
    saved = [
        tf.train.load_checkpoint(str(export.folder / "variables/variables")).get_variable_to_shape_map()
        for export in (one, many)
    ]
    assert saved[0] == saved[1]


def test_an_evaluation_takes_views_beside_an_export(one, many, few_phantoms, tmp_path):
    beside, inside = (
        evaluate(system, few_phantoms, None, tmp_path / name)
        for system, name in ((with_views(one, 24), "b"), (many, "i"))
    )
    assert beside["views"] == inside["views"] == 24
    assert beside["log_loss"] == pytest.approx(inside["log_loss"], abs=1e-5)
