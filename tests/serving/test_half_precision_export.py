"""Exports whose feature maps are computed in half precision."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from bach_keras.hierarchy import Hierarchy
from bach_keras.network import half_precision
from bach_keras.network.half_precision import Probe
from bach_keras.provenance import Provenance
from bach_keras.serving import export as exporting
from bach_keras.serving import parity
from bach_keras.serving.agreement import HALF_PRECISION, LIMITS, Agreement, Limit
from bach_keras.serving.card import as_markdown
from bach_keras.serving.export import export_tree
from bach_keras.serving.exported import Export
from bach_keras.serving.images import as_png
from bach_keras.serving.parity import measure, open_forms
from datasets.errors import UserError
from tests.serving.conftest import IMAGES

PRECISIONS = ("bfloat16", "float16")
SMALL = Limit(least=0.995, median=0.02)


@pytest.fixture(scope="module")
def trained(sure_members):
    origin = Provenance(frozenset({"trained.png"}), frozenset(), frozenset({"paper"}))
    return [dataclasses.replace(member, provenance=origin) for member in sure_members]


@pytest.fixture(scope="module", params=PRECISIONS)
def halved(request, trained, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "1"
    with pytest.MonkeyPatch.context() as patch:
        # Small networks average fewer rounding errors than those of full size, for which the limit is.
        patch.setattr(exporting, "HALF_PRECISION", SMALL)
        return export_tree(trained, out, precision=request.param, images=IMAGES)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """A machine on which half precision is fast, so that no export is warned of."""
    monkeypatch.setattr(half_precision, "probe", lambda: Probe("A chip", 2.0, 1.0, 1.0))


def test_kernels_are_kept_in_half_and_the_head_in_float32(halved):
    precision = Export(halved).precision
    kept = tf.train.load_checkpoint(str(halved / "variables/variables"))
    types, shapes = kept.get_variable_to_dtype_map(), kept.get_variable_to_shape_map()
    assert {types[name].name for name, shape in shapes.items() if len(shape) == 4} == {precision}
    assert {types[name].name for name, shape in shapes.items() if len(shape) == 2} == {"float32"}


def test_every_signature_answers_as_the_tree_does(halved, trained):
    export, tree = Export(halved), Hierarchy(trained)
    images = np.stack(IMAGES[:8])
    expected = tree.images(images)
    files = [as_png(image) for image in images]
    found = [export.images(images), export.encoded(files), export.encoded(files, "routed")]
    for answers, wanted in zip(found, (expected, expected, tree.routed(images)), strict=True):
        assert answers["probabilities"].dtype == tf.float32
        np.testing.assert_array_equal(answers["label"], wanted["label"])
        np.testing.assert_allclose(answers["probabilities"], wanted["probabilities"], atol=0.1)
        # The sums of products of float32 shares differ from 1 by float32's rounding only.
        np.testing.assert_allclose(np.sum(answers["probabilities"], axis=1), 1, atol=1e-5)


def test_the_card_says_which(halved):
    export = Export(halved)
    assert export.precision in PRECISIONS
    assert f"computed in {export.precision}" in as_markdown(export.card)


def test_parity_judges_it_by_its_own_limit(halved, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "HALF_PRECISION", SMALL)
    (tmp_path / "tissue.png").write_bytes(as_png(IMAGES[0]))
    rows, errors = measure(open_forms(trained, Export(halved), []), [tmp_path / "tissue.png"])
    assert not errors
    assert {row.form.limit for row in rows} == {None, SMALL}
    assert all(row.holds for row in rows)


def test_a_model_that_answers_otherwise_is_not_written(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "HALF_PRECISION", Limit(0.0))
    with pytest.raises(UserError, match=r"1 was not written: in half precision it does not answer as the tree"):
        export_tree(trained[:1], tmp_path / "1", precision="bfloat16", images=IMAGES[:9])
    assert list(tmp_path.iterdir()) == []


def test_the_version_that_is_there_stays_when_the_new_one_answers_otherwise(exported, trained, tmp_path, monkeypatch):
    shutil.copytree(exported, tmp_path / "1")
    before = (tmp_path / "1" / "saved_model.pb").read_bytes()
    monkeypatch.setattr(exporting, "HALF_PRECISION", Limit(0.0))
    with pytest.raises(UserError, match="was not written"):
        export_tree(trained[:1], tmp_path / "1", overwrite=True, precision="float16", images=IMAGES[:9])
    assert (tmp_path / "1" / "saved_model.pb").read_bytes() == before


def test_a_processor_without_the_type_is_warned_of(halved, monkeypatch):
    monkeypatch.setattr(half_precision, "probe", lambda: Probe("A chip", 1.0, None, 4.0))
    (warning,) = (sentence for sentence in Export(halved).warnings if "phantom" not in sentence)
    assert "is slow on A chip" in warning


def test_a_card_of_an_older_export_means_float32(exported, export, tmp_path):
    older = tmp_path / "1"
    shutil.copytree(exported, older)
    card = json.loads((older / "assets/model_card.json").read_text())
    assert card.pop("precision") == "float32"
    (older / "assets/model_card.json").write_text(json.dumps(card))
    read = Export(older)
    assert read.precision == "float32"
    assert read.warnings == export.warnings


def test_too_few_images_to_check_it_on_are_refused_before_anything_is_written(trained, tmp_path):
    with pytest.raises(UserError, match="0 images are too few"):
        export_tree(trained, tmp_path / "1", precision="bfloat16")
    assert list(tmp_path.iterdir()) == []


def test_the_limit_is_one_label_in_two_hundred():
    assert Agreement(0.9, 995, 1000, 0.005).holds(HALF_PRECISION)
    assert not Agreement(0.9, 994, 1000, 0.005).holds(HALF_PRECISION)
    assert not Agreement(0.9, 1000, 1000, 0.0051).holds(HALF_PRECISION)
    assert Agreement(0.9, 29, 30, 0.005).holds(HALF_PRECISION)  # one other label is always allowed
    assert not Agreement(np.nan, 30, 30, 0.0).holds(HALF_PRECISION)
    assert str(HALF_PRECISION) == "at least 99.5% of the labels and a median of 0.005"
    assert str(LIMITS["none"]) == "a difference of 1e-04"
