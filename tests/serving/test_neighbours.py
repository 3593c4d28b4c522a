"""An export that knows its training images: output ``distance``, the index beside it, and ``predict --neighbours``."""

import csv
import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bach_keras import preprocess
from bach_keras.hierarchy import Hierarchy
from bach_keras.serving.answers import ImpossibleError, Outputs, as_arrays
from bach_keras.serving.card import as_markdown
from bach_keras.serving.exported import Export
from bach_keras.serving.images import as_png
from bach_keras.serving.neighbours import Neighbours, check_neighbours
from bach_keras.serving.predict import answer_batch, predict_files
from bach_keras.serving.remote.client import Remote
from bach_keras.serving.remote.server import Server
from bach_keras.serving.views import with_views
from cli import cli
from tests.few_phantoms import training_records
from tests.serving.conftest import IMAGES


@pytest.fixture(scope="module")
def export(knowing):
    return Export(knowing)


@pytest.fixture(scope="module")
def known(few_phantoms):
    """The training images, by name."""
    return {record["filename"].decode(): record["image"] for record in training_records(few_phantoms)}


@pytest.fixture
def folder(known, tmp_path):
    """A training image, another one, and a broken one."""
    (tmp_path / "slides").mkdir()
    Image.fromarray(next(iter(known.values()))).save(tmp_path / "slides" / "a.png")
    Image.fromarray(IMAGES[3]).save(tmp_path / "slides" / "b.png")
    (tmp_path / "slides" / "c.png").write_bytes(b"no image")
    return tmp_path / "slides"


def run(*words):
    return CliRunner().invoke(cli, ["predict", *(str(word) for word in words)])


def refused(*words):
    result = run(*words)
    assert result.exit_code == 2
    return " ".join(result.stderr.split())


def test_every_answer_with_a_label_says_how_far_the_nearest_training_image_is(export, known):
    trained = next(iter(known.values()))
    files = np.array([as_png(trained), b"text", *map(as_png, IMAGES[:3])])
    expected = [near[0].distance for near in export.index.nearest(export.features(list(files[2:])), 1)]
    assert min(expected) > 0.01
    for signature in ("serving_default", "routed", "explain"):
        found = export.signatures[signature](image_bytes=files)["distance"].numpy()
        assert found.dtype == np.float32
        assert found[:2] == pytest.approx([0, 0], abs=1e-3)
        assert found[1] == 0  # a broken image
        np.testing.assert_allclose(found[2:], expected, rtol=1e-4)
        assert export.signatures[signature](image_bytes=files[:0])["distance"].shape == (0,)
    for routing in ("soft", "routed"):
        found = export.images(np.stack([IMAGES[0], np.resize(trained, IMAGES[0].shape)]), routing)["distance"]
        assert float(found[0]) == pytest.approx(expected[0], rel=1e-4)


@pytest.mark.parametrize("views", [8, 24])
def test_with_several_views_it_is_that_of_the_central_square(sure_members, export, views):
    tree = Hierarchy(sure_members, views=views)
    tree.compare_with(export.index.features)
    image = IMAGES[1][None, :, :300]
    square = preprocess.square(image, export.side).numpy()
    expected = float(export.images(square)["distance"][0])
    for answers in (tree.images(image), tree.routed(image), tree.explain(image)):
        assert answers["distance"].numpy() == pytest.approx([expected], rel=1e-3)
    (row,) = answer_batch(with_views(export, views), [image[0]])
    assert row["distance"] == pytest.approx(expected, rel=1e-4)


def test_one_node_by_itself_knows_its_images_too(sure_members, export):
    norbe = Hierarchy([dataclasses.replace(sure_members[1])])
    features = norbe.features(np.stack(IMAGES[:4])).numpy()
    norbe.compare_with(features[:3])
    found = norbe.routed(np.stack(IMAGES[:4]))["distance"].numpy()
    nearest = np.linalg.norm(features[3] - features[:3], axis=1).min()
    np.testing.assert_allclose(found, [0, 0, 0, nearest], rtol=1e-4, atol=1e-3)


def test_rows_are_those_of_a_server_over_either_transport(knowing, export, folder):
    here = list(predict_files(export, [folder]))
    assert here[0]["distance"] == pytest.approx(0, abs=1e-3)
    with Server(Export(knowing)) as server:
        for url in (server.rest_url, server.grpc_url):
            for row, other in zip(here, predict_files(Remote(url), [folder]), strict=True):
                assert other.get("distance") == (
                    pytest.approx(row["distance"], abs=1e-4) if "distance" in row else None
                )


GOOD = {"probabilities": [[0.6, 0.2, 0.1, 0.1]], "label": ["normal"], "carci": [[0.8, 0.2]], "norbe": [[0.75, 0.25]],
        "invis": [[0.5, 0.5]], "ok": [True]}  # fmt: skip


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), 1e39])
def test_a_distance_that_no_features_have_is_a_fault(value):
    found = as_arrays(GOOD | {"distance": [value]}, 1, "soft", "It", Outputs(has_distance=True))
    assert "a distance that is not" in found["fault"][0]
    assert not found["distance"].any()


@pytest.mark.parametrize("value", [["1"], [True], [None], [1.0, 2.0], 1.0, [[1.0]], None])
def test_distances_of_another_form_are_refused(value):
    with pytest.raises(ImpossibleError, match="distance that is not 1 numbers"):
        as_arrays(GOOD | {"distance": value}, 1, "soft", "It", Outputs(has_distance=True))
    with pytest.raises(ImpossibleError, match="no distance"):
        as_arrays(GOOD, 1, "soft", "It", Outputs(has_distance=True))


def test_the_card_says_what_the_export_knows(export, knowing):
    assert {name: export.card["index"][name] for name in ("images", "thumbnails")} == {"images": 16, "thumbnails": 16}
    page = (knowing / "assets.extra" / "model_card.md").read_text()
    assert "knows 16 of the images that trained it by name, 16 with a thumbnail" in page
    without = export.card | {"index": export.card["index"] | {"thumbnails": 0}}
    assert "knows 16 of the images that trained it by name, without pictures" in as_markdown(without)


def test_rows_name_the_nearest_only_when_asked(knowing, export, known, folder):
    words = ("--model", knowing, "--format", "json", folder)
    plain, shown = run(*words), run(*words, "--neighbours", 3)
    assert plain.exit_code == shown.exit_code == 1  # one image is broken
    assert "neighbours" not in plain.stdout
    first, second, broken = map(json.loads, shown.stdout.splitlines())
    assert list(broken) == ["path", "error"]
    nearest = first["neighbours"][0]
    assert nearest == {"name": next(iter(known)), "label": "benign", "distance": pytest.approx(0, abs=1e-3),
                       "percentile": 0, "thumbnail": None}  # fmt: skip
    distances = [each["distance"] for each in second["neighbours"]]
    assert distances == sorted(distances)
    assert len(distances) == 3
    assert distances[0] == pytest.approx(second["distance"], rel=1e-4)
    assert second["neighbours"][0]["percentile"] == export.index.percentile(distances[0])


def test_thumbnails_are_written_where_a_folder_is_named(knowing, folder, tmp_path):
    words = ("--model", knowing, "--format", "json", "--neighbours", 2, "--thumbnails", tmp_path / "near", folder)
    run(*words)
    for path in (tmp_path / "near").iterdir():
        path.write_bytes(b"of another model")
    rows = [json.loads(line) for line in run(*words).stdout.splitlines()]
    files = {each["thumbnail"] for row in rows[:2] for each in row["neighbours"]}
    assert files == {str(path) for path in (tmp_path / "near").iterdir()}
    for file in files:
        with Image.open(file) as picture:
            assert max(picture.size) <= 128


def test_the_table_and_csv_show_them(knowing, folder, known):
    words = ("--model", knowing, "--neighbours", 2, folder)
    lines = run(*words).stdout.splitlines()
    assert [line.startswith("  near ") for line in lines] == [False, True, True, False, True, True, False]
    assert lines[1].endswith(next(iter(known)))
    assert "distance 0.000, percentile 0.0" in lines[1]
    rows = list(csv.DictReader(io.StringIO(run(*words, "--format", "csv").stdout)))
    assert rows[0]["neighbours"].startswith(f"{next(iter(known))} (benign, distance 0.000, percentile 0.0); ")
    assert float(rows[0]["distance"]) == pytest.approx(0, abs=1e-3)
    assert rows[2]["neighbours"] == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--neighbours", 17), "--neighbours 17 is more than the 16 training images"),
        (("--neighbours", 0), "0 is not in the range"),
        (("--neighbours", -1), "-1 is not in the range"),
        (("--thumbnails", "near"), "ask for them with --neighbours K"),
        (("--neighbours", 1, "--thumbnails", "FOLDER/near"), "name a folder outside it"),
        (("--neighbours", 1, "--thumbnails", "FOLDER/b.png"), "is not a folder"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_a_sentence(knowing, folder, words, sentence):
    words = [str(word).replace("FOLDER", str(folder)) for word in words]
    assert sentence in refused("--model", knowing, *words, folder)


def test_a_server_has_no_index(folder):
    assert "name it with --model EXPORT" in refused("--server", "http://127.0.0.1:9", "--neighbours", 1, folder)


def test_an_export_without_an_index_says_so(exported, folder):
    assert "has no index of its training images" in refused("--model", exported, "--neighbours", 1, folder)


@pytest.mark.parametrize("content", [b"", None], ids=["tampered with", "gone"])
def test_an_index_that_is_not_the_exports_own_is_refused_when_it_is_needed(knowing, folder, tmp_path, content):
    place = shutil.copytree(knowing, tmp_path / "1")
    path = place / "assets.extra" / "training_images.npz"
    path.write_bytes(content) if content is not None else path.unlink()
    said = refused("--model", place, "--neighbours", 1, folder)
    assert str(path) in said
    assert "export the runs again" in said
    assert run("--model", place, folder / "a.png").exit_code == 0


def test_thumbnails_that_the_licence_does_not_allow_are_not_there(export, folder, tmp_path):
    names_only = dataclasses.replace(
        export.index, images=tuple(dataclasses.replace(each, thumbnail=b"") for each in export.index.images)
    )

    class Without:
        index, folder = names_only, export.folder

    with pytest.raises(ValueError, match="does not let them be passed on: leave out --thumbnails"):
        check_neighbours(Without(), 1, [folder], tmp_path / "near")
    (row,) = predict_files(export, [folder / "a.png"], extras=[Neighbours(Without(), 1)])
    assert row["neighbours"][0]["thumbnail"] is None


def test_features_of_other_numbers_are_an_error_row(export, folder):
    class Spoiled:
        outputs, side, prepared, classify = export.outputs, export.side, export.prepared, export.classify

        def features(self, parts):
            return np.full((len(parts), 2048), np.nan, np.float32)

    (row,) = predict_files(Spoiled(), [folder / "a.png"], extras=[Neighbours(export, 1)])
    assert "features that are NaN" in row["error"]


def test_a_thumbnail_stays_in_its_folder_whatever_its_name(export, tmp_path):
    odd = dataclasses.replace(export.index.images[0], name="../../<b>.png")
    path = Path(Neighbours(export, 1, tmp_path / "near").thumbnail(odd))
    assert path.parent == tmp_path / "near"
    assert path.read_bytes() == odd.thumbnail
