"""Starts from public weights: their normalisation, licence and source go with the run and with what starts from it."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bach_keras.members import load_member
from bach_keras.network import facts
from bach_keras.network.head import Classifier
from bach_keras.network.published import PUBLISHED
from bach_keras.network.resnext import normalisation_of
from bach_keras.network.weights import default_path
from bach_keras.provenance import Provenance
from bach_keras.run_folder import Run
from bach_keras.serving.card import model_card
from bach_keras.training.start import Start, copy_weights, start_from
from bach_keras.training.train import create, finish, reopen
from datasets.digest import sha256_of
from datasets.errors import UserError
from tests.few_phantoms import NO_SWEEP, TINY
from tests.network.golden import draw_tensors
from tests.network.layout_files import of_tiatoolbox, with_counts, write
from tests.network.small_network import torchvision_shapes
from tests.trainings import interrupted, job, start_at, trained

SHORT = replace(NO_SWEEP, cycles=1)
SHAPES = {name: shape for name, shape in torchvision_shapes(**TINY, classes=9).items() if shape}
TENSORS = with_counts(draw_tensors(SHAPES))


@pytest.fixture(scope="module")
def tiatoolbox(tmp_path_factory):
    """A file in tiatoolbox's layout, which stands in for a published one of this digest."""
    tensors = {of_tiatoolbox(name): value for name, value in TENSORS.items()}
    path = write(tmp_path_factory.mktemp("weights") / "resnext50_32x4d-kather100k.pth", tensors)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(facts, "published_as", {sha256_of(path): PUBLISHED["kather100k"]}.get)
        yield path


@pytest.fixture(scope="module")
def carci(tiatoolbox, tmp_path_factory):
    """Return the folder of a run that started from weights in tiatoolbox's layout."""
    start = start_from(str(tiatoolbox), "phantom")
    folder = tmp_path_factory.mktemp("runs") / "carci"
    trained(job(folder, start=start, recipe=start.adapted(SHORT)))
    return folder


def test_a_run_carries_the_normalisation_of_its_start(carci):
    run = Run.open(carci)
    assert run.recipe.backbone["normalisation"] == "unit"
    model = run.read_model()
    assert normalisation_of(model) == "unit"
    # The trunk is fixed, so it is the file's to the last bit.
    np.testing.assert_array_equal(model.get_layer("bn1").gamma, TENSORS["bn1.weight"])


def test_a_run_and_an_export_say_where_the_weights_are_from_and_their_licence(carci):
    said = Run.open(carci).settings["weights_origin"]
    assert said["licence"] == "CC BY 4.0"
    assert said["source"].startswith("kather100k, trained on Kather100K")
    card = model_card([load_member("carci", str(carci))])
    assert card["licence"].endswith(f"Started from the weights {said['source']}: CC BY 4.0.")


def test_what_starts_from_a_run_inherits_both(carci, tmp_path):
    start = start_at(carci)
    planned = job(tmp_path / "norbe", "norbe", start, start.adapted(SHORT))
    assert planned.recipe.backbone == {**TINY, "normalisation": "unit"}
    assert planned.settings["weights_origin"] == Run.open(carci).settings["weights_origin"]
    run = create(planned)
    assert json.loads((run.folder / "config.json").read_text())["weights_origin"]["licence"] == "CC BY 4.0"


def test_a_network_for_other_images_is_refused_before_anything_is_written(carci, tiatoolbox, tmp_path):
    for start in (start_at(carci), Start(str(tiatoolbox), weights=tiatoolbox)):
        with pytest.raises(UserError, match=r"normalised as unit, and this one's is for imagenet|is for pixels / 255"):
            create(job(tmp_path / "run", start=start, recipe=SHORT))
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="normalised as imagenet, and this one's is for unit"):
        copy_weights(Classifier(32, backbone=TINY), Classifier(32, backbone={**TINY, "normalisation": "unit"}))


def test_a_run_is_resumed_to_what_it_would_have_been(carci, tiatoolbox, tmp_path):
    start = start_from(str(tiatoolbox), "phantom")
    planned = job(tmp_path / "run", start=start, recipe=start.adapted(SHORT))
    run = interrupted(planned)
    assert reopen(planned).settings["weights_origin"] == run.settings["weights_origin"]
    finish(planned)
    for one, other in zip(
        Run.open(run.folder).read_model().get_weights(), Run.open(carci).read_model().get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_run_of_before_that_says_nothing_of_its_start_is_taken(carci, tiatoolbox, caplog):
    start = start_from(str(tiatoolbox), "phantom")
    planned = job(carci, start=start, recipe=start.adapted(SHORT))
    settings = json.loads((carci / "config.json").read_text())
    (carci / "config.json").write_text(json.dumps({k: v for k, v in settings.items() if k != "weights_origin"}))
    try:
        assert finish(planned)["node"] == "carci"
        renamed = {**settings, "weights_origin": {**settings["weights_origin"], "source": "as it was called before"}}
        (carci / "config.json").write_text(json.dumps(renamed))
        assert finish(planned)["node"] == "carci"
        other = {**settings, "weights_origin": {**settings["weights_origin"], "sha256": "0" * 64}}
        (carci / "config.json").write_text(json.dumps(other))
        with pytest.raises(UserError, match="holds another run than the one wanted here: weights_origin was"):
            finish(planned)
    finally:
        (carci / "config.json").write_text(json.dumps(settings))


def test_own_images_that_share_no_more_than_names_with_those_of_the_start_validate(caplog):
    name = "own-images/benign/1.png"
    parent = SimpleNamespace(provenance=Provenance.of({name: "a" * 64}, [name]), folder="runs/theirs")
    Start("x", parent=parent).check({name: "b" * 64}, Provenance())
    assert f"runs/theirs: Of other pixels under the name of an image that trained: 1 image ({name})" in caplog.text
    with pytest.raises(UserError, match="runs/theirs trained on 1 of the 1 image that is to validate here"):
        Start("x", parent=parent).check({"own-images/other.png": "a" * 64}, Provenance())


def test_a_random_start_and_imagenets_leave_the_recipe_as_it_is(tmp_path):
    path = write(tmp_path / "w.pth", TENSORS)
    assert Start("none").adapted(SHORT) is SHORT
    assert Start("x", weights=path).adapted(SHORT) == SHORT
    from_unit = replace(SHORT, backbone={**TINY, "normalisation": "unit"})
    assert Start("x", weights=path).adapted(from_unit) == SHORT


def test_histology_has_a_place_of_its_own_and_a_sentence_where_nothing_is_there(monkeypatch, tmp_path, tiatoolbox):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"no weights trained on H&E tissue at .*resnext50_histology\.h5: .*kather100k"):
        start_from("histology", "bach")
    place = default_path("histology")
    place.parent.mkdir()
    place.write_bytes(tiatoolbox.read_bytes())
    start = start_from("histology", "phantom")
    assert (start.weights, start.name, start.facts.normalisation) == (place, "histology", "unit")
