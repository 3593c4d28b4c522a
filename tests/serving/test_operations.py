"""A SavedModel is a program: one that would do more than compute is refused before TensorFlow sees it."""

import shutil

import pytest
import tensorflow as tf
from click.testing import CliRunner

from bach_keras.fields import FieldError
from bach_keras.serving.exported import Export
from bach_keras.serving.operations import COMPUTING, check_operations
from cli import cli

TEXT = tf.TensorSpec([None], tf.string, "image_bytes")


def answers(image_bytes):
    return {"label": image_bytes}


def save(place, work, **roots):
    """Write a model that does a work when it is asked, whose result it must seem to need."""

    class Model(tf.Module):
        @tf.function(input_signature=[TEXT])
        def serving_default(self, image_bytes):
            with tf.control_dependencies([work(image_bytes[0])]):
                return answers(tf.identity(image_bytes))

    model = Model()
    for name, value in roots.items():
        setattr(model, name, value)
    tf.saved_model.save(model, str(place), signatures={"serving_default": model.serving_default})
    return place / "saved_model.pb"


WORKS = {
    "WriteFile": lambda text: tf.io.write_file("/nowhere/a", text),
    "ReadFile": lambda text: tf.io.read_file("/etc/hostname"),
    "MatchingFiles": lambda text: tf.io.matching_files("/etc/*"),
    "SaveV2": lambda text: tf.raw_ops.SaveV2(
        prefix=text, tensor_names=["a"], shape_and_slices=[""], tensors=[tf.zeros(1)]
    ),
    "RestoreV2": lambda text: tf.raw_ops.RestoreV2(
        prefix=text, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
    )[0],
    "PrintV2": lambda text: tf.print(text, output_stream="file:///nowhere/a"),
    "EagerPyFunc": lambda text: tf.py_function(lambda value: value, [text], tf.string),
    "TextLineDataset": lambda text: tf.data.TextLineDataset("/etc/hostname").get_single_element(),
}  # fmt: skip


@pytest.mark.parametrize("name", WORKS)
def test_operations_that_reach_files_or_python_are_refused(tmp_path, name):
    with pytest.raises(FieldError, match=rf"holds operations that no export of this project has: .*{name}"):
        check_operations(save(tmp_path, WORKS[name]))


def test_an_operation_in_a_function_of_a_function_is_found(tmp_path):
    def hidden(text):
        lines = tf.data.Dataset.from_tensors(text).map(lambda value: tf.cond(
            tf.strings.length(value) > 3, lambda: tf.io.read_file(value), lambda: value
        ))  # fmt: skip
        return lines.get_single_element()

    with pytest.raises(FieldError, match="ReadFile"):
        check_operations(save(tmp_path, hidden))


def test_functions_that_tensorflow_may_exchange_for_others_are_refused(tmp_path):
    @tf.function(experimental_attributes={"api_implements": "both", "api_preferred_device": "GPU"})
    def called(text):
        return tf.strings.length(text)

    with pytest.raises(FieldError, match="may exchange for others"):
        check_operations(save(tmp_path, called))


def test_what_would_run_while_a_model_is_loaded_is_found(tmp_path):
    (tmp_path / "words.txt").write_text("a\n")
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            str(tmp_path / "words.txt"), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ), 1,
    )  # fmt: skip
    with pytest.raises(FieldError, match="InitializeTableFromTextFileV2"):
        check_operations(save(tmp_path / "model", table.lookup, table=table))


def test_a_model_that_only_computes_and_has_variables_is_let_in(tmp_path):
    kernel = tf.Variable(tf.ones(3))
    check_operations(save(tmp_path, lambda text: tf.reduce_sum(kernel), kernel=kernel))


def test_a_graph_of_tensorflow_1_is_refused(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "model"))
        tf.io.read_file("/etc/hostname")
        builder.add_meta_graph_and_variables(session, ["serve"])
        builder.save()
    with pytest.raises(FieldError, match="not a SavedModel of TensorFlow 2"):
        check_operations(tmp_path / "model" / "saved_model.pb")


@pytest.mark.parametrize("content", [b"\xff" * 100, b""])
def test_what_is_no_saved_model_is_refused(tmp_path, content):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(FieldError, match=r"saved_model\.pb is"):
        check_operations(tmp_path / "saved_model.pb")


def test_no_operation_that_is_let_in_names_a_file():
    """TensorFlow's own descriptions of the operations say what their inputs are."""
    from tensorflow.python.framework import op_def_registry

    words = ("file", "path", "address", "host", "prefix", "pattern", "stream", "token")
    found = set()
    for name in COMPUTING:
        described = op_def_registry.get(name)
        given = [*(each.name for each in described.input_arg), *(each.name for each in described.attr)]
        found |= {(name, each) for each in given if any(word in each for word in words)}
    # A regular expression for text, and a mark by which work is spread over machines.
    assert found == {("StaticRegexFullMatch", "pattern"), ("TensorSliceDataset", "is_files")}


def test_an_export_with_another_graph_writes_nothing_when_it_is_loaded_or_asked(exported, tmp_path):
    place = shutil.copytree(exported, tmp_path / "1")
    save(tmp_path / "other", lambda text: tf.io.write_file(str(tmp_path / "written"), "x"))
    shutil.copytree(tmp_path / "other", place, dirs_exist_ok=True)
    for words in (["predict", "--model", place, tmp_path], ["serve", "--model", place]):
        result = CliRunner().invoke(cli, [str(word) for word in words])
        assert result.exit_code == 2
        assert "holds operations that no export of this project has: WriteFile): export it again" in " ".join(
            result.output.split()
        )
    assert not (tmp_path / "written").exists()


def test_exports_are_let_in(export):
    check_operations(export.folder / "saved_model.pb")
    assert isinstance(export, Export)
