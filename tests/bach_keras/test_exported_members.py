"""Members of an export as starts: what they are, what is refused, and files that were changed."""

import json
import os
import shutil

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from bach_keras.exported_members import NUMBERS, WORDS, find
from bach_keras.run_folder import Run
from bach_keras.serving import export
from bach_keras.serving.export import export_tree
from bach_keras.tree import NODES
from tests.few_phantoms import TINY


def squares(count=4):
    return np.random.default_rng(0).normal(size=(count, 32, 32, 3)).astype(np.float32)


@pytest.fixture
def place(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "tree" / "1")


@pytest.fixture(scope="module")
def ensemble(members, tmp_path_factory):
    """An export of two members of carci and one of each specialist, in bfloat16."""
    place = tmp_path_factory.mktemp("models") / "two" / "7"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_check_numbers", lambda *given: None)  # so small networks change their labels
        return export.export_tree([members[0], *members], place, precision="bfloat16")


@pytest.mark.parametrize("node", NODES)
def test_a_member_is_its_run_to_answer_and_to_train(exported, tree_of_runs, node):
    found, own = find(str(exported), node).read_model(), Run.open(tree_of_runs[node]).read_model()
    for layer in (*found.layers, *own.layers):
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0
    # The last maps of so small a network are single points, so its batch norm magnifies rounding in training.
    for training, most in ((False, 1e-5), (True, 1e-4)):
        one, other = (np.asarray(model(squares(), training=training)) for model in (found, own))
        assert np.linalg.norm(one - other) < most * np.linalg.norm(other)


def test_members_have_one_trunk_bit_for_bit_where_their_runs_had_one(exported):
    carci, norbe = (find(str(exported), node).read_model() for node in ("carci", "norbe"))
    for one, other in zip(carci.weights, norbe.weights, strict=True):
        if one.path.startswith(("conv1", "bn1", "layer1", "layer2")):
            np.testing.assert_array_equal(one.numpy(), other.numpy(), one.path)
    assert not np.array_equal(carci.get_layer("head.dense2").kernel, norbe.get_layer("head.dense2").kernel)


@pytest.mark.parametrize("node", NODES)
def test_a_member_knows_which_images_made_it(exported, tree_of_runs, node):
    assert find(str(exported), node).provenance == Run.open(tree_of_runs[node]).provenance


def test_an_export_is_named_in_several_ways(exported, tree_of_runs):
    for init, node in (
        (str(exported), "norbe"), (f"{exported}:norbe", "carci"), (f"{exported.parent}:norbe", None),
        (f"{exported}:norbe.1", None), (f"{exported}/:norbe", None),
    ):  # fmt: skip
        found = find(init, node)
        assert (found.node, found.spelled, found.folder) == ("norbe", f"{exported}:norbe", exported)
    for none in (str(tree_of_runs["carci"]), "imagenet", "none", "best:runs/x", "weights.h5", "", ":", ":carci"):
        assert find(none, "carci") is None


def test_of_several_members_one_is_named(ensemble):
    with pytest.raises(ValueError, match=f"has 2 members that are carci: .* --init {ensemble}:carci.1 or --init"):
        find(str(ensemble), "carci")
    first, second = (find(f"{ensemble}:carci.{number}", "carci") for number in (1, 2))
    assert (first.number, second.number, second.spelled) == (0, 1, f"{ensemble}:carci.2")
    assert (find(str(ensemble), "invis").spelled, first.precision) == (f"{ensemble}:invis", "bfloat16")
    for one, other in zip(first.read_model().weights, second.read_model().weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    for init in (f"{ensemble}:carci.3", f"{ensemble}:norbe.2"):
        with pytest.raises(ValueError, match="has no members that are"):
            find(init, "carci")
    with pytest.raises(ValueError, match="members that are one node: name the one"):
        find(str(ensemble), None)


def test_half_precision_is_off_by_its_rounding_alone(ensemble, tree_of_runs):
    found, own = find(str(ensemble), "norbe").read_model(), Run.open(tree_of_runs["norbe"]).read_model()
    for one, other in zip(found.weights, own.weights, strict=True):
        # The head is never rounded.
        most = 0 if one.path.startswith("head.") else 2**-7 * np.abs(other).max()
        assert np.abs(one.numpy() - other.numpy()).max() <= most, one.path


def test_one_node_by_itself_is_a_start_too(members, tmp_path, tree_of_runs):
    place = export_tree(members[1:2], tmp_path / "norbe" / "1")
    assert find(str(place), "norbe").node == "norbe"
    with pytest.raises(ValueError, match=f"has no members that are carci: .*--init {place}:norbe"):
        find(str(place), "carci")


def test_a_path_that_tensorflow_takes_for_a_pattern_is_read(exported, tmp_path):
    place = shutil.copytree(exported, tmp_path / "a[b]\\c" / "1")
    assert find(str(place), "carci").read_model().count_params()


@pytest.mark.parametrize("word", ["nobody", "carci.0", "carci.x", "carci.", "", "CARCI", "carci.99999"])
def test_a_member_that_cannot_be_is_refused(exported, word):
    with pytest.raises(ValueError, match="is not a member of an export: give EXPORT:NODE"):
        find(f"{exported}:{word}", "carci")


def test_an_export_of_an_earlier_version_says_what_to_do(place):
    (place / "assets.extra" / WORDS).unlink()
    with pytest.raises(ValueError, match=r"exports of earlier versions .*: export its runs again, or .*--init RUN"):
        find(str(place), "carci")


def assert_refused(place, *words):
    with pytest.raises(ValueError, match="export it again") as caught:
        find(str(place), "norbe").read_model()
    for word in (str(place), *words):
        assert word in str(caught.value)
    assert len(str(caught.value)) < 400 + 2 * len(str(place))


FIELDS = [
    ("precision", "float8"), ("precision", ...), ("numbers_sha256", "x"), ("members", []), ("members", [1]),
    ("members", {}), ("images", []), ("images", {"trained_on": "a", "chosen_on": []}), ("images", {}),
    ("images", {"trained_on": [], "chosen_on": []}),
]  # fmt: skip
OF_A_MEMBER = [
    ("node", "nobody"), ("node", ...), ("image_size", 10**9), ("image_size", "32"), ("protocol", 3),
    ("backbone", []), ("backbone", {"stem": 10**9}), ("backbone", {"blocks": [200] * 4}), ("backbone", {"x": 1}),
    ("backbone", {**TINY, "stem": 4096, "base_width": 4096}),
    ("variables", []), ("variables", {"conv1/kernel": -1}), ("variables", {"conv1/kernel": "../0"}),
    ("kept", "conv1"), ("trained_on", []), ("trained_on", [-1]), ("trained_on", [10**6]), ("trained_on", ["a"]),
    ("chosen_on", [10**6]), ("chosen_on", 1), ("sha256", "0"),
]  # fmt: skip


def change(place, field, value, member=None):
    path = place / "assets.extra" / WORDS
    words = json.loads(path.read_text())
    inside = words if member is None else words["members"][member]
    if value is ...:
        del inside[field]
    else:
        inside[field] = value
    path.write_text(json.dumps(words))


@pytest.mark.parametrize(("field", "value"), FIELDS, ids=[f"{name}-{str(value)[:30]}" for name, value in FIELDS])
def test_a_field_that_is_wrong_is_named(place, field, value):
    change(place, field, value)
    assert_refused(place, WORDS, field)


@pytest.mark.parametrize(
    ("field", "value"), OF_A_MEMBER, ids=[f"{name}-{str(value)[:30]}" for name, value in OF_A_MEMBER]
)
def test_a_field_of_a_member_that_is_wrong_is_named(place, field, value):
    change(place, field, value, member=1)
    assert_refused(place, WORDS, f"members[1].{field}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone", {**TINY, "stem": 16}), ("variables", {}), ("sha256", 64 * "0"), ("kept", ["conv1"]),
        ("kept", ["nothing"]), ("kept", ["bn1"]),
    ],
)  # fmt: skip
def test_words_that_do_not_fit_the_numbers_are_refused(place, field, value):
    change(place, field, value, member=1)
    assert_refused(place)


def test_other_variables_are_refused(place, ensemble, members, tmp_path):
    """Of another export, and of the same shapes."""
    shutil.rmtree(place / "variables")
    shutil.copytree(ensemble / "variables", place / "variables")
    assert_refused(place)
    other = export_tree([members[0], members[1], members[2]], tmp_path / "other" / "1")
    shutil.rmtree(place / "variables")
    shutil.copytree(other / "variables", place / "variables")
    find(str(place), "norbe").read_model()  # the same runs give the same numbers
    module = tf.train.load_checkpoint(str(other / "variables" / "variables"))
    assert "hierarchy/_weights/0/.ATTRIBUTES/VARIABLE_VALUE" in module.get_variable_to_shape_map()
    data = place / "variables" / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    (place / "variables" / "variables.index").unlink()
    assert_refused(place)


def test_variables_that_were_damaged_are_refused(place):
    data = place / "variables" / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    data.write_bytes(content)
    assert_refused(place)
    data.write_bytes(b"")
    assert_refused(place)


def test_a_pipe_is_refused_and_not_waited_for(place):
    (place / "variables" / "variables.index").unlink()
    os.mkfifo(place / "variables" / "variables.index")
    assert_refused(place, "is a pipe")


def test_a_name_that_was_changed_is_noticed_by_its_pixels(place):
    path = place / "assets.extra" / WORDS
    words = json.loads(path.read_text())
    first = words["images"]["trained_on"][0]
    words["images"]["pixels"] = {first: "0123456789abcdef"}
    words["images"]["trained_on"][0] = f"{first}x"
    path.write_text(json.dumps(words))
    assert_refused(place, WORDS, f"pixels names '{first}'")


def test_numbers_of_another_file_are_refused(place):
    path = place / "assets.extra" / NUMBERS
    with h5py.File(path, "a") as file:
        file["1/bn1/gamma"][...] = 2
    assert_refused(place, NUMBERS)
    path.unlink()
    assert_refused(place, NUMBERS)
