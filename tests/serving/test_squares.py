"""Images are squared where they are read, and the answers are those of whole files, bit for bit."""

import copy
import threading
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from bach_keras import preprocess
from bach_keras.hierarchy import Hierarchy
from bach_keras.preprocess import View
from bach_keras.serving.card import CARD
from bach_keras.serving.export import Served
from bach_keras.serving.images import as_png, as_seen
from bach_keras.serving.predict import BATCH, answer_batch, predict_files
from datasets import phantom
from datasets.errors import UserError
from datasets.images.read import read_rgb
from datasets.labels import CLASSES
from datasets.stain import NORMALISATIONS


def tissue(number):
    return Image.fromarray(phantom.draw(CLASSES[number % 4], 940, number)[number:, : 200 + number])


def with_alpha(image):
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


# Name -> what is drawn there, and how it is saved.
KINDS = {
    "rgb.tif": (tissue, {}), "lzw.tif": (tissue, {"compression": "tiff_lzw"}),
    "deflate.tif": (tissue, {"compression": "tiff_adobe_deflate"}),
    "jpeg.tif": (tissue, {"compression": "jpeg"}),
    "grey.tif": (lambda number: tissue(number).convert("L"), {}),
    "palette.tif": (lambda number: tissue(number).quantize(16), {}),
    "alpha.tif": (lambda number: with_alpha(tissue(number)), {}),
    "rgb.png": (tissue, {}), "grey.png": (lambda number: tissue(number).convert("L"), {}),
    "palette.png": (lambda number: tissue(number).quantize(16), {}),
    "alpha.png": (lambda number: with_alpha(tissue(number)), {}),
    "bilevel.png": (lambda number: tissue(number).convert("1"), {}),
    "rgb.jpg": (tissue, {"quality": 80}), "grey.jpg": (lambda number: tissue(number).convert("L"), {}),
    "progressive.jpg": (tissue, {"progressive": True}),
    "rgb.bmp": (tissue, {}), "grey.bmp": (lambda number: tissue(number).convert("L"), {}),
    "palette.bmp": (lambda number: tissue(number).quantize(16), {}),
    "tiny.png": (lambda number: tissue(number).resize((9, 7)), {}),
    "pixel.png": (lambda number: tissue(number).resize((1, 1)), {}),
    "wide.tif": (lambda number: tissue(number).resize((350, 8)), {}),
    "tall.png": (lambda number: tissue(number).resize((31, 333)), {}),
    "odd.png": (lambda number: tissue(number).resize((33, 32)), {}),
    "square.png": (lambda number: tissue(number).resize((32, 32)), {}),
    "blank.png": (lambda number: Image.new("RGB", (50, 40), "white"), {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of every kind that is read, a broken one among them, more than go into three batches."""
    folder = tmp_path_factory.mktemp("kinds")
    for number, (name, (draw, options)) in enumerate(KINDS.items()):
        draw(number).save(folder / name, **options)
    (folder / "broken.png").write_bytes((folder / "rgb.png").read_bytes()[:500])
    return folder


def whole_files(export, paths, routing):
    """Answer as it was done before: each batch of readable images, whole, as PNG files."""
    rows = {}
    for start in range(0, len(paths), BATCH):
        readable = [path for path in paths[start : start + BATCH] if path.name != "broken.png"]
        answers = export.encoded([as_png(read_rgb(path)) for path in readable], routing)
        answers = {name: value.numpy().tolist() for name, value in answers.items()}
        for index, path in enumerate(readable):
            rows[str(path)] = {name: values[index] for name, values in answers.items()}
    return rows


@pytest.mark.parametrize("routing", ["soft", "routed"])
def test_answers_equal_those_of_whole_files_to_the_bit(export, folder, routing):
    expected = whole_files(export, sorted(folder.iterdir()), routing)
    rows = list(predict_files(export, [folder], routing))
    assert [row["path"] for row in rows] == [str(path) for path in sorted(folder.iterdir())]
    assert [row["path"] for row in rows if "error" in row] == [str(folder / "broken.png")]
    for row in rows:
        if "error" not in row:
            answer = expected[row["path"]]
            assert row["label"].encode() == answer["label"]
            assert list(row["probabilities"].values()) == answer["probabilities"]
            for node, pair in row["nodes"].items():
                assert pair is None or list(pair.values()) == answer[node]
    labels = {row.get("label") for row in rows}
    assert len(labels) > 2  # otherwise the tree may not look at its images


@pytest.fixture(scope="module", params=NORMALISATIONS)
def served(request, members, tmp_path_factory):
    place, view = tmp_path_factory.mktemp("assets"), View(32, request.param)
    (place / CARD).write_text("{}")
    return Served(Hierarchy([replace(member, view=view) for member in members]), place)


@pytest.mark.parametrize("routing", ["soft", "routed"])
def test_the_stain_is_normalised_once(served, folder, routing):
    of_files, of_pixels = {"soft": (served.serving_default, served.images),
                           "routed": (served.routed, served.routed_images)}[routing]  # fmt: skip
    images = [read_rgb(path) for path in sorted(folder.iterdir()) if path.name != "broken.png"]
    expected = of_files(tf.constant([as_png(image) for image in images]))
    found = of_pixels(np.stack([as_seen(image, 32) for image in images]))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("size", [32, 33, 96, 288])
def test_a_square_is_its_own_square(size):
    noise = np.random.default_rng(size).integers(0, 256, (size, size, 3)).astype(np.uint8)
    np.testing.assert_array_equal(as_seen(noise, size), noise)
    pixels = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
    graph = tf.function(lambda images: preprocess.square(images, size), input_signature=pixels)
    np.testing.assert_array_equal(graph(noise[None])[0], noise)


def test_an_export_that_routes_files_only_answers_the_same(export, folder):
    older = copy.copy(export)
    older.signatures = {name: older.signatures[name] for name in ("serving_default", "routed", "images")}
    assert list(predict_files(older, [folder], "routed")) == list(predict_files(export, [folder], "routed"))


def test_pixels_that_are_no_image_are_error_rows_among_the_others(export):
    good = phantom.draw("insitu", 941, 0)
    wrong = [good[..., 0], good / 255.0, good[:1], good[:0], np.dstack([good, good[..., :1]])]
    first, *errors, last = answer_batch(export, [good, *wrong, good])
    assert first == last
    assert "uint8 [H, W, 3], but this is uint8 [288, 384]" in errors[0]["error"]
    assert "float64" in errors[1]["error"]
    assert "at most 50 times as long as wide" in errors[2]["error"]
    assert "nothing to see" in errors[3]["error"]
    assert "[288, 384, 4]" in errors[4]["error"]


def test_no_image_has_no_answer(export):
    assert answer_batch(export, []) == []


def test_the_rows_that_nobody_asks_for_are_not_read(export, folder):
    rows = predict_files(export, [folder] * 4)
    assert next(rows)["path"]
    rows.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead_")]


def test_the_refusal_of_a_file_is_the_readers_own(export, folder):
    with pytest.raises(UserError) as expected:
        read_rgb(folder / "broken.png")
    (row,) = predict_files(export, [folder / "broken.png"])
    assert row == {"path": str(folder / "broken.png"), "error": str(expected.value)}
