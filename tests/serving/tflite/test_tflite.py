import json
import os
import shutil
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from PIL import Image

from bach_keras.fields import MAX_BYTES
from bach_keras.hierarchy import Hierarchy
from bach_keras.network.convolution import has_native_grouped_convolution
from bach_keras.preprocess import View
from bach_keras.serving.agreement import LIMITS, Agreement, compare
from bach_keras.serving.card import CARD, model_card
from bach_keras.serving.check_images import folder_images, training_images
from bach_keras.serving.tflite import convert as tflite
from bach_keras.serving.tflite.file import QUANTIZATIONS, TFLite
from bach_keras.serving.tflite.floats import converted
from datasets import phantom
from datasets.errors import UserError
from datasets.labels import CLASSES
from tests.serving.conftest import IMAGES

pytestmark = pytest.mark.skipif(
    not has_native_grouped_convolution(), reason="nothing is converted where TensorFlow has no oneDNN"
)


@pytest.fixture(scope="module")
def files(sure_members, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tflite")
    made = {}
    for quantize in QUANTIZATIONS:
        made[quantize] = folder / "new" / f"{quantize}.tflite"
        tflite.convert(sure_members, made[quantize], quantize, IMAGES)
    return made


@pytest.fixture(scope="module")
def expected(sure_members):
    return {name: value.numpy() for name, value in Hierarchy(sure_members).images(np.stack(IMAGES)).items()}


@pytest.mark.parametrize(("quantize", "most"), [("none", 1e-5), ("float16", 1e-2)])
def test_float_forms_answer_as_the_tree_does(files, expected, quantize, most):
    answers = TFLite(files[quantize]).images(np.stack(IMAGES))
    assert set(answers) == {"probabilities", "carci", "norbe", "invis"}
    for name, found in answers.items():
        np.testing.assert_allclose(found, expected[name], atol=most)


def test_a_file_starts_and_answers_without_a_line_on_stderr(files, capfd):
    TFLite(files["none"]).images(IMAGES[0][None])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("quantize", ["dynamic", "int8"])
def test_eight_bit_forms_give_the_trees_labels(files, expected, quantize):
    answers = TFLite(files[quantize]).images(np.stack(IMAGES))
    for name, found in answers.items():
        assert np.median(np.abs(found - expected[name])) < 0.03
        assert np.sum(found.argmax(axis=1) == expected[name].argmax(axis=1)) >= len(IMAGES) - 2


def test_one_object_answers_threads_as_it_answers_one(files):
    lite = TFLite(files["none"])
    alone = [lite.images(image[None])["probabilities"] for image in IMAGES]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda image: lite.images(image[None])["probabilities"], IMAGES))
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("quantize", QUANTIZATIONS)
@pytest.mark.parametrize("shape", [(1, 64, 64, 3), (1, 16, 64, 3), (1, 32, 64, 3), (2, 32, 32, 3), (1, 31, 32, 3)])
def test_the_file_alone_refuses_a_picture_of_another_shape(files, quantize, shape):
    """An interpreter resizes its input to what it is given, and convolutions answer for any size."""
    runner = Interpreter(str(files[quantize])).get_signature_runner()
    with pytest.raises(RuntimeError, match="SPLIT_V"):
        runner(images=np.zeros(shape, np.uint8))
    assert np.isfinite(runner(images=np.zeros((1, 32, 32, 3), np.uint8))["probabilities"]).all()


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((48, 64, 3), np.uint8), np.zeros((0, 48, 64, 3), np.uint8), np.zeros((1, 48, 64), np.uint8),
        np.zeros((1, 48, 64, 4), np.uint8), np.zeros((1, 48, 64, 3), np.float32), np.zeros((1, 48, 64, 3), int),
        [np.zeros((48, 64, 3), np.uint8), np.zeros((64, 48, 3), np.uint8)],
    ],
    ids=["one image", "none", "grey", "alpha", "float", "int64", "two sizes"],
)  # fmt: skip
def test_what_is_not_a_batch_of_pictures_is_refused_in_one_sentence(files, images):
    with pytest.raises(UserError, match=r"must be uint8 \[N, H, W, 3\]"):
        TFLite(files["none"]).images(images)


@pytest.mark.parametrize("images", [np.zeros((1, 1, 51, 3), np.uint8), np.zeros((1, 0, 4, 3), np.uint8)])
def test_images_that_the_saved_model_refuses_are_refused(files, images):
    lite = TFLite(files["none"])
    with pytest.raises(UserError, match=r"long as wide|uint8"):
        lite.images(images)
    assert lite.images(np.zeros((1, 1, 50, 3), np.uint8))["probabilities"].shape == (1, 4)


@pytest.mark.parametrize("name", ["a[1].tflite", "a\\b", "a*?{}", "größe 組", "dot.", os.fsdecode(b"\xff")])
def test_a_file_may_have_any_name(files, tmp_path, name):
    shutil.copyfile(files["int8"], tmp_path / name)
    assert TFLite(tmp_path / name).card["quantize"] == "int8"


@pytest.mark.parametrize("changes", [{"image_size": 64}, {"quantize": "int4"}, {"image_size": "32"}])
def test_a_file_that_is_not_what_its_card_says_is_refused(files, tmp_path, changes):
    card = json.loads(zipfile.ZipFile(files["none"]).read("model_card.json")) | changes
    (tmp_path / "t.tflite").write_bytes(files["none"].read_bytes())
    with zipfile.ZipFile(tmp_path / "t.tflite", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model_card.json", json.dumps(card))
    with pytest.raises(UserError, match="does not match its own card"):
        TFLite(tmp_path / "t.tflite")


def test_the_file_alone_says_what_goes_in_and_what_comes_out(files, sure_members):
    size = sure_members[0].view.image_size
    for file in files.values():
        interpreter = Interpreter(str(file))
        assert interpreter.get_signature_list() == {
            "serving_default": {"inputs": ["images"], "outputs": ["carci", "invis", "norbe", "probabilities"]}
        }
        (taken,) = interpreter.get_input_details()
        assert (taken["dtype"], taken["shape"].tolist()) == (np.uint8, [1, size, size, 3])


def test_the_file_carries_the_class_names_and_the_card(files):
    with zipfile.ZipFile(files["int8"]) as archive:
        assert archive.read("class_names.txt").decode().split() == list(CLASSES)
        card = json.loads(archive.read("model_card.json"))
    assert card == TFLite(files["int8"]).card
    assert card["classes"] == list(CLASSES)
    assert card["quantize"] == "int8"
    assert "SYNTHETIC" in card["data"]["phantom"]
    assert "not a medical device" in card["limits"][0]
    assert card["licence"]


def test_int8_convolutions_are_whole_numbers_and_the_answers_float(files):
    interpreter = Interpreter(
        str(files["int8"]), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    details = interpreter.get_tensor_details()
    types = {tensor["index"]: tensor["dtype"] for tensor in details}
    maps = {tensor["index"] for tensor in details if len(tensor["shape"]) == 4}
    by_op, ops = {}, interpreter._get_ops_details()
    for op in ops:
        by_op.setdefault(op["op_name"], set()).update(types[index] for index in op["outputs"])
    assert "ADD_N" not in by_op
    assert {types[op["outputs"][0]] for op in ops if op["op_name"] == "ADD" and op["outputs"][0] in maps} == {np.int8}
    assert by_op["CONV_2D"] == {np.int8, np.float32}
    assert by_op["MAX_POOL_2D"] == {np.float32}
    in_float = [op for op in ops if op["op_name"] == "CONV_2D" and types[op["outputs"][0]] is np.float32]
    stems = [op for op in ops if op["op_name"] == "MAX_POOL_2D"]
    assert len(in_float) == len(stems) == 3  # these networks share no trunk
    for name in ("MEAN", "REDUCE_MAX", "CONCATENATION", "FULLY_CONNECTED", "SOFTMAX"):
        assert by_op[name] == {np.float32}


def test_the_forms_get_smaller(files):
    sizes = [files[quantize].stat().st_size for quantize in ("none", "float16", "dynamic")]
    assert sizes[0] > 1.7 * sizes[1] > 1.7 * 1.5 * sizes[2]


def test_plain_kernels_give_what_the_fast_ones_give(files):
    """Grouped convolutions of whole numbers, where XNNPACK is not at hand."""
    plain = Interpreter(
        str(files["int8"]), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    ).get_signature_runner()
    fast = Interpreter(str(files["int8"])).get_signature_runner()
    picture = np.ascontiguousarray(IMAGES[0][None, ::9, ::9][:, :32, :32])
    np.testing.assert_allclose(plain(images=picture)["probabilities"], fast(images=picture)["probabilities"], atol=0.05)


@pytest.fixture(scope="module")
def probes(sure_members):
    return [sure_members[0].view.square(image).numpy()[None] for image in IMAGES]


def write(tree, members, file, quantize, probes):
    """Write a tree's model as that of the members, whose answers it is compared with."""
    card = model_card(members) | {"quantize": quantize}
    expected = Hierarchy(members).squares(np.concatenate(probes))["probabilities"].numpy()
    tflite.write_checked(converted(tree), file, card, probes, expected)


def test_a_file_that_disagrees_is_not_written(sure_members, tmp_path, probes):
    file = tmp_path / "tree.tflite"
    file.write_bytes(b"the one before")
    with pytest.raises(UserError, match=r"was not written.*a difference of 1e-04 is required"):
        write(Turned(sure_members), sure_members, file, "none", probes)
    assert file.read_bytes() == b"the one before"
    assert [path.name for path in tmp_path.iterdir()] == ["tree.tflite"]


class Turned(Hierarchy):
    """A tree that names the classes from the end."""

    def squares(self, images):
        answers = super().squares(images)
        return {**answers, "probabilities": answers["probabilities"][:, ::-1]}


@pytest.mark.parametrize(
    ("answers", "quantize", "holds"),
    [
        ([[0.4, 0.6]], "none", True),
        ([[0.4002, 0.5998]], "none", False),
        ([[0.4002, 0.5998]], "float16", True),
        ([[0.6, 0.4], [0.4, 0.6], [0.44, 0.56]], "int8", True),
        ([[0.1, 0.9], [0.4, 0.6], [0.44, 0.56]], "int8", True),
        ([[0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [0.4, 0.6], [0.4, 0.6]], "int8", False),
        ([[0.34, 0.66]] * 3, "int8", False),
        ([[0.34, 0.66]] * 3, "dynamic", False),
        ([[np.nan, 0.6]], "int8", False),
        ([[np.nan, 0.6]], "none", False),
    ],
)
def test_what_each_form_may_differ_by(answers, quantize, holds):
    assert compare(answers, [[0.4, 0.6]] * len(answers)).holds(LIMITS[quantize]) == holds


def test_two_in_a_hundred_labels_may_differ():
    assert Agreement(0.5, 98, 100, 0.01).holds(LIMITS["int8"])
    assert not Agreement(0.5, 97, 100, 0.01).holds(LIMITS["int8"])


@pytest.mark.parametrize("quantize", ["dynamic", "int8"])
def test_a_file_that_is_right_but_unsure_is_not_written(sure_members, tmp_path, probes, quantize):
    file = tmp_path / "tree.tflite"
    with pytest.raises(UserError, match=r"was not written.*the same label on (\d+) of \1 images.*a median of 0\.05"):
        write(Unsure(sure_members), sure_members, file, quantize, probes)
    assert not file.exists()


class Unsure(Hierarchy):
    """A tree that names the right classes with hardly more than a quarter each."""

    def squares(self, images):
        answers = super().squares(images)
        return {**answers, "probabilities": 0.25 + 0.01 * answers["probabilities"]}


def test_int8_is_not_checked_on_images_of_one_label(sure_members, tmp_path):
    alike = [phantom.draw("benign", 910, 0)] * 9
    with pytest.raises(UserError, match=r"calls all 3 images to check on benign.*of several classes"):
        tflite.convert(sure_members, tmp_path / "tree.tflite", "int8", alike)
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_taken_is_refused(sure_members, tmp_path, files):
    with pytest.raises(UserError, match="exists already"):
        tflite.convert(sure_members, files["none"], "none", IMAGES)
    with pytest.raises(UserError, match="is a folder"):
        tflite.convert(sure_members, tmp_path, "none", IMAGES)


def test_three_images_are_too_few(sure_members, tmp_path):
    with pytest.raises(UserError, match="3 images are too few"):
        tflite.convert(sure_members, tmp_path / "tree.tflite", "int8", IMAGES[:3])


def test_a_tree_that_normalises_stains_is_refused(sure_members, tmp_path):
    stained = [replace(member, view=View(member.view.image_size, "reinhard")) for member in sure_members]
    with pytest.raises(UserError, match="cannot normalise stains"):
        tflite.convert(stained, tmp_path / "tree.tflite", "none", IMAGES)


def test_a_machine_without_grouped_convolutions_is_refused(sure_members, tmp_path, monkeypatch):
    monkeypatch.setattr(tflite, "has_native_grouped_convolution", lambda **given: False)
    with pytest.raises(UserError, match="TensorFlow has no grouped convolutions"):
        tflite.convert(sure_members, tmp_path / "tree.tflite", "none", IMAGES)


@pytest.mark.parametrize("card", [b"[" * 2**26, b"[]", b'{"image_size": 1, "image_size": 1}', b"\xff"])
def test_a_card_that_is_not_ours_is_refused_and_never_fills_the_memory(tmp_path, card):
    with zipfile.ZipFile(tmp_path / "a.tflite", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CARD, card)
    tracemalloc.start()
    with pytest.raises(UserError, match="is not a TFLite file of this project"):
        TFLite(tmp_path / "a.tflite")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2.2 * MAX_BYTES


@pytest.mark.parametrize("place", range(34, 90, 8))
def test_a_damaged_archive_is_refused(tmp_path, place):
    with zipfile.ZipFile(tmp_path / "a.tflite", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(CARD, b'{"image_size": 32, "quantize": "none"}')
    data = bytearray((tmp_path / "a.tflite").read_bytes())
    data[place : place + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.tflite").write_bytes(data)
    with pytest.raises(UserError, match="is not a TFLite file of this project"):
        TFLite(tmp_path / "a.tflite")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "text.tflite").write_text("text")
    for name in ("text.tflite", "nowhere.tflite"):
        with pytest.raises(UserError, match="is not a TFLite file of this project"):
            TFLite(tmp_path / name)


def test_calibration_images_are_some_of_a_folder_and_always_the_same(tmp_path):
    for number in range(6):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    first, again = ([int(image[0, 0, 0]) for image in folder_images(tmp_path, most=4)] for _ in range(2))
    assert first == again
    assert len(set(first)) == 4


def test_a_data_set_that_is_not_prepared_asks_for_calibration_images(sure_members):
    carci = replace(sure_members[0], config="bisque")
    with pytest.raises(UserError, match=r"bisque is not prepared.*--calibration DIR"):
        training_images([carci])
