import errno
import io
import json
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from bach_keras.hierarchy import Hierarchy
from bach_keras.network.convolution import Convolution
from bach_keras.serving import export
from bach_keras.serving.export import export_tree
from bach_keras.serving.images import as_png
from cli import cli
from datasets import phantom
from datasets.errors import UserError, WorkError
from datasets.labels import CLASSES
from datasets.locked import only_one
from datasets.whole import exchange

TISSUE = np.stack([phantom.draw(label, 900, 0) for label in CLASSES])

ALONE = """
import json, sys
sys.modules["keras"] = None  # no import of it can succeed
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
png = tf.io.read_file(sys.argv[2])[None]
pixels = tf.io.decode_png(png[0])[None]
requests = {"serving_default": {"image_bytes": png}, "routed": {"image_bytes": png}, "images": {"images": pixels}}
answers = [model.signatures[name](**given) for name, given in requests.items()]
assert not [name for name in sys.modules if name.split(".")[0] in ("bach_keras", "callbacks", "datasets")]
print(json.dumps([answer["probabilities"].numpy().tolist() for answer in answers]))
"""


@pytest.fixture(scope="module")
def signatures(exported):
    return tf.saved_model.load(str(exported)).signatures


def test_signatures_answer_as_the_members_do(signatures, members):
    expected = Hierarchy(members).images(TISSUE)
    decoded = signatures["images"](images=tf.constant(TISSUE))
    encoded = signatures["serving_default"](image_bytes=tf.constant([as_png(image) for image in TISSUE]))
    assert set(encoded) == {"probabilities", "label", "carci", "norbe", "invis", "ok"}
    for answers in (decoded, encoded):
        for name in ("probabilities", "carci", "norbe", "invis"):
            # These networks' logits reach fifty, and float32 keeps them to 2e-6 of that: 3e-5 in a probability.
            np.testing.assert_allclose(answers[name], expected[name], atol=3e-5)
        assert answers["label"].numpy().tolist() == expected["label"].numpy().tolist()
        assert answers["ok"].numpy().all()


def test_a_broken_image_does_not_fail_its_neighbours(signatures):
    small, large = as_png(TISSUE[0]), as_png(np.repeat(TISSUE[1], 2, axis=0))
    request = [b"", small, b"GIF89a no", large, large[:500], b"text"]
    for name in ("serving_default", "routed"):
        answers = signatures[name](image_bytes=tf.constant(request))
        assert answers["ok"].numpy().tolist() == [False, True, False, True, False, False]
        assert answers["label"].numpy()[[0, 2, 4, 5]].tolist() == [b""] * 4
        assert not np.any(answers["probabilities"].numpy()[[0, 2, 4, 5]])
        alone = signatures[name](image_bytes=tf.constant([large]))
        # Some processors round a batch otherwise than one image, and these networks' logits reach fifty.
        np.testing.assert_allclose(answers["probabilities"][3], alone["probabilities"][0], atol=3e-5)


def as_bytes(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_animations_bombs_and_lines_of_pixels_are_refused(signatures):
    picture = Image.fromarray(TISSUE[0])
    request = [
        as_png(TISSUE[0]),
        as_bytes(picture, "GIF"),
        as_bytes(picture, "GIF", save_all=True, append_images=[Image.fromarray(TISSUE[1])]),
        as_bytes(picture, "PNG", save_all=True, append_images=[Image.fromarray(TISSUE[1])]),
        as_bytes(Image.new("L", (8000, 8000)), "PNG"),
        as_bytes(Image.new("L", (30_000, 1)), "PNG"),
    ]
    for name in ("serving_default", "routed", "features"):
        assert signatures[name](image_bytes=tf.constant(request))["ok"].numpy().tolist() == [True] + [False] * 5
    with pytest.raises(tf.errors.InvalidArgumentError, match="50 times as long as wide"):
        signatures["images"](images=tf.zeros((1, 1, 30_000, 3), tf.uint8))


def test_an_animation_behind_a_long_text_is_refused(signatures):
    picture = Image.fromarray(TISSUE[0])
    moving = as_bytes(picture, "PNG", save_all=True, append_images=[Image.fromarray(TISSUE[1])])
    body = b"zTXtnotes\0\0" + zlib.compress(os.urandom(70_000))
    text = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    behind_header = 8 + 12 + 13
    still = as_png(TISSUE[0])
    request = [png[:behind_header] + text + png[behind_header:] for png in (still, moving)]
    assert request[1].index(b"acTL") > 2**16
    assert signatures["serving_default"](image_bytes=tf.constant(request))["ok"].numpy().tolist() == [True, False]


@pytest.mark.parametrize(("height", "width"), [(0, 0), (0, 8), (8, 0), (8192, 6145)])
def test_pixels_that_are_none_or_too_many_are_refused_in_words(signatures, height, width):
    with pytest.raises(tf.errors.InvalidArgumentError, match="1 to 50331648 pixels"):
        signatures["images"](images=tf.zeros((1, height, width, 3), tf.uint8))


def test_no_good_image_and_no_image_at_all(signatures):
    assert not signatures["serving_default"](image_bytes=tf.constant([b"x"]))["ok"].numpy().any()
    assert signatures["serving_default"](image_bytes=tf.zeros([0], tf.string))["probabilities"].shape == (0, 4)
    assert signatures["routed"](image_bytes=tf.zeros([0], tf.string))["probabilities"].shape == (0, 4)


def test_routed_runs_the_specialist_that_carci_chose(signatures):
    soft, routed = (
        signatures[name](image_bytes=tf.constant([as_png(image) for image in TISSUE]))
        for name in ("serving_default", "routed")
    )
    np.testing.assert_allclose(routed["probabilities"].numpy().sum(axis=1), 1, atol=1e-6)
    chosen = soft["carci"].numpy().argmax(axis=1)
    for row, group in enumerate(chosen):
        own, other = ("norbe", "invis") if group == 0 else ("invis", "norbe")
        np.testing.assert_allclose(routed[own][row], soft[own][row], atol=1e-5)
        assert not np.any(routed[other][row])


def test_it_loads_with_tensorflow_alone(exported, tmp_path, signatures):
    (tmp_path / "tissue.png").write_bytes(as_png(TISSUE[0]))
    answer = subprocess.run(
        [sys.executable, "-c", ALONE, exported, tmp_path / "tissue.png"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    soft, _, images = json.loads(answer.stdout)
    expected = signatures["images"](images=tf.constant(TISSUE[:1]))["probabilities"]
    np.testing.assert_allclose(soft, expected, atol=1e-5)
    np.testing.assert_allclose(images, expected, atol=1e-5)


def test_images_are_scaled_once(exported):
    """Where they are decoded, or, for the signatures of pixels, where they are normalised."""
    saved = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    scaled = [node for function in functions for node in function.node_def if node.op == "ScaleAndTranslate"]
    assert len(scaled) == len(("_decode", "images", "routed_images"))


def test_a_version_that_is_there_stays(exported, members, tmp_path):
    with pytest.raises(ValueError, match="exists already"):
        export_tree(members, exported)
    for name in ("tree", "²", "٣", "1" * 19):
        with pytest.raises(ValueError, match="version number"):
            export_tree(members, tmp_path / name)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="7 is not an export"):
        export_tree(members, tmp_path / "7", overwrite=True)
    assert (tmp_path / "7" / "notes.txt").read_text() == "mine"
    with pytest.raises(WorkError, match="could not be written"):
        export_tree(members, tmp_path / "7" / "notes.txt" / "1")
    before = (exported / "assets/model_card.json").read_text()
    export_tree(members, exported, overwrite=True)
    assert (exported / "assets/model_card.json").read_text() == before
    assert sorted(path.name for path in exported.parent.iterdir()) == ["1"]


def test_folded_kernels_are_kept_once_for_all_signatures(exported, members):
    saved = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    assert not [node.name for node in nodes if "BatchNorm" in node.op]
    # Each signature would have copies of what the graph holds as constants, and so of the tables of the decoders only.
    held = [node.attr["value"].tensor for node in nodes if node.op == "Const"]
    assert not [
        tensor.tensor_shape for tensor in held if tensor.dtype == types_pb2.DT_FLOAT and tensor.ByteSize() > 999
    ]
    shapes = tf.train.load_checkpoint(str(exported / "variables/variables")).get_variable_to_shape_map()
    kernels = [shape for shape in shapes.values() if len(shape) == 4]
    model = members[0].model
    # The trunk's once, all others once a member, even where two members came out equal.
    expected = [
        tuple(layer.kernel.shape)
        for layer in model.layers
        if isinstance(layer, Convolution)
        for _ in members[: 1 if re.search(model.layer_groups["trunk"], f"{layer.name}/") else None]
    ]
    assert sorted(map(tuple, kernels)) == sorted(expected)


@contextmanager
def little_room():
    """No file may grow beyond 100 kB: TensorFlow's own writing fails, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def full(*given):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("stage", ["model", "warm-up", "rename"])
def test_no_room_leaves_the_old_version_whole(exported, members, tmp_path, monkeypatch, stage):
    place = tmp_path / "tree" / "1"
    shutil.copytree(exported, place)
    if stage == "warm-up":
        monkeypatch.setattr("bach_keras.serving.warmup.write", full)
    if stage == "rename":
        rename = Path.rename
        monkeypatch.setattr("bach_keras.serving.export.exchange", lambda *given: False)  # as on a network disk
        monkeypatch.setattr(Path, "rename", lambda old, new: full() if ".part" in str(old) else rename(old, new))
    with little_room() if stage == "model" else nullcontext(), pytest.raises(WorkError, match="stays as it was"):
        export_tree(members[:1], place, overwrite=True)
    assert [path.name for path in place.parent.iterdir()] == ["1"]
    for path in exported.rglob("*"):
        assert path.is_dir() or (place / path.relative_to(exported)).read_bytes() == path.read_bytes()


def test_an_old_version_is_there_until_the_new_one_takes_its_place_in_one_step(tmp_path, monkeypatch):
    new, place = tmp_path / ".1.part", tmp_path / "1"
    for folder in (new, place):
        folder.mkdir()
        (folder / folder.name).touch()
    if not exchange(new, place):
        pytest.skip("this file system cannot let two folders change names")
    exchange(new, place)
    monkeypatch.setattr(Path, "rename", full)
    export._replace(new, place)
    assert [path.name for path in place.iterdir()] == [".1.part"]


def test_a_version_that_was_aside_when_its_replacement_was_killed_gets_its_name_back(exported, members, tmp_path):
    shutil.copytree(exported, tmp_path / ".1.old")
    with pytest.raises(UserError, match="1 exists already: choose a higher version, or replace it with --overwrite"):
        export_tree(members[:1], tmp_path / "1")
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_second_export_to_a_place_is_refused_while_the_first_one_writes(members, tmp_path):
    with (
        only_one(tmp_path / ".1.lock", "", ""),
        pytest.raises(UserError, match=r"Another process writes .*1: wait for it to end, or choose another --out"),
    ):
        export_tree(members[:1], tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("nodes", [(), ("carci", "invis")])
def test_a_tree_without_a_node_is_refused_in_one_sentence(tree_of_runs, tmp_path, nodes):
    runs = [word for node in nodes for word in (f"--{node}", str(tree_of_runs[node]))]
    result = CliRunner().invoke(cli, ["export", "--tflite", str(tmp_path / "t.tflite"), *runs])
    assert result.exit_code == 2
    assert "The tree needs a run for each node" in result.output
