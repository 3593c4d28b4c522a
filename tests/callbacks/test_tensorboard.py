"""What is written for TensorBoard, read back from the event files."""

import io
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from callbacks.lr_range_test import LRRangeTest
from callbacks.sgdr import SGDR
from callbacks.tensorboard import RIGHT, WRONG, TensorBoard


def written(folder: Path) -> dict[str, list[tuple[int, object]]]:
    """Return tag -> what was written, in order: a step with a scalar or with an image's bytes."""
    found = {}
    for path in sorted(folder.glob("events.*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                content = tf.make_ndarray(value.tensor)
                plugin = value.metadata.plugin_data.plugin_name
                assert plugin == ("images" if content.ndim else "scalars")
                if content.ndim:
                    width, height, png = content
                    assert Image.open(io.BytesIO(png)).size == (int(width), int(height))
                    content = png
                found.setdefault(value.tag, []).append(
                    (event.step, content if isinstance(content, bytes) else float(content))
                )
    return found


def mean_model() -> keras.Model:
    """Answers the logits (0, mean of the image), after a preprocessing that brings it to -1 to 1."""
    inputs = keras.Input((8, 8, 3))
    mean = keras.layers.Reshape((1,))(keras.layers.GlobalAveragePooling2D()(inputs)[:, :1])
    kernel = keras.initializers.Constant(np.array([[0.0, 1.0]]))
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False, kernel_initializer=kernel)(mean))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, metrics=["accuracy"])
    return model


def fit(board, epochs=2, initial_epoch=0, **settings):
    images, labels = np.zeros((4, 8, 8, 3), "float32"), np.zeros(4, "int32")
    return mean_model().fit(
        images, labels, batch_size=2, initial_epoch=initial_epoch, epochs=epochs, verbose=0,
        validation_data=(images, labels), callbacks=[SGDR(0.5, 2, 4, 1), board], **settings
    ).history  # fmt: skip


def test_scalars_are_keras_logs_and_the_rate_of_each_group(tmp_path):
    history = fit(TensorBoard(tmp_path, {"middle": 0.25, "head": 1.0}))
    train, validation = written(tmp_path / "train"), written(tmp_path / "validation")
    assert set(train) == {"loss", "accuracy", "learning_rate", "learning_rate/middle", "learning_rate/head"}
    assert set(validation) == {"loss", "accuracy"}
    for name in ("loss", "accuracy", "learning_rate"):
        assert train[name] == [(1, pytest.approx(history[name][0])), (2, pytest.approx(history[name][1]))]
    assert validation["loss"] == [(step + 1, pytest.approx(loss)) for step, loss in enumerate(history["val_loss"])]
    rates = np.array([rate for _, rate in train["learning_rate"]])
    for name, multiplier in (("middle", 0.25), ("head", 1.0)):
        assert [rate for _, rate in train[f"learning_rate/{name}"]] == pytest.approx(rates * multiplier)


def test_a_resumed_run_continues_its_curves(tmp_path):
    for first in (0, 2):
        fit(TensorBoard(tmp_path), initial_epoch=first, epochs=first + 2)
    assert [step for step, _ in written(tmp_path / "train")["loss"]] == [1, 2, 3, 4]


def test_the_rate_is_the_optimizers_where_no_schedule_logs_it(tmp_path):
    images, labels = np.zeros((4, 8, 8, 3), "float32"), np.zeros(4, "int32")
    mean_model().fit(images, labels, verbose=0, callbacks=[TensorBoard(tmp_path)])
    assert written(tmp_path / "train")["learning_rate"] == [(1, pytest.approx(0.01))]


def test_the_rate_may_be_a_function(tmp_path):
    model = mean_model()
    model.compile(keras.optimizers.SGD(lambda: 0.25), "mse")
    model.fit(np.zeros((4, 8, 8, 3)), np.zeros((4, 1)), verbose=0, callbacks=[TensorBoard(tmp_path)])
    assert written(tmp_path / "train")["learning_rate"] == [(1, 0.25)]


def test_images_are_shown_with_the_models_answers(tmp_path):
    images = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (0, 255, 255)])
    board = TensorBoard(
        tmp_path, images=images, labels=[0, 0, 1], class_names=("dark", "light"), from_logits=True, image_epochs=2,
        preprocess=lambda given: given.astype("float32") * (6 / 255) - 3,
    )  # fmt: skip
    board.set_model(mean_model())
    for epoch in range(4):
        board.on_epoch_end(epoch, {})
    board.on_train_end()
    # The logits are (0, -3) and (0, 3): a probability of 1 / (1 + exp(-3)).
    assert board.captions() == [
        ("dark 0.95\nis dark", RIGHT),
        ("light 0.95\nis dark", WRONG),
        ("light 0.95\nis light", RIGHT),
    ]
    pictures = written(tmp_path / "validation")["answers"]
    assert [step for step, _ in pictures] == [1, 3]
    with Image.open(io.BytesIO(pictures[0][1])) as sheet:
        pixels = np.asarray(sheet)
    assert (pixels[:8, :8] == 0).all()
    assert (pixels == RIGHT).all(axis=-1).any()
    assert (pixels == WRONG).all(axis=-1).any()


def test_probabilities_are_taken_as_they_are_and_labels_may_be_unknown(tmp_path):
    board = TensorBoard(tmp_path, images=np.zeros((1, 4, 4, 3), np.uint8), class_names=("dark", "light"))
    board.set_model(lambda images, training: np.array([[0.25, 0.75]]))
    assert board.captions() == [("light 0.75", (0, 0, 0))]


def test_right_answers_of_one_sigmoid_are_green(tmp_path):
    images = np.stack([np.full((8, 8, 1), value, np.float32) for value in (0, 1, 1)])
    inputs = keras.Input((8, 8, 1))
    mean = keras.layers.Reshape((1,))(keras.layers.GlobalAveragePooling2D()(inputs))
    likely = keras.layers.Activation("sigmoid")(keras.layers.Rescaling(6, -3)(mean))
    model = keras.Model(inputs, likely)
    model.compile("sgd", "binary_crossentropy")
    board = TensorBoard(tmp_path, images=images, labels=[[0.0], [1.0], [0.0]], class_names=("dark", "light"))
    board.set_model(model)
    board.on_train_begin()
    assert board.captions() == [
        ("dark 0.95\nis dark", RIGHT),
        ("light 0.95\nis light", RIGHT),
        ("light 0.95\nis dark", WRONG),
    ]


def test_one_of_several_outputs_is_shown(tmp_path):
    def answers(images, training):
        return {"age": np.zeros((2, 1)), "kind": np.array([[0.75, 0.25], [0.25, 0.75]])}

    labels = {"age": [1.0, 2.0], "kind": [[1, 0], [1, 0]]}
    images = np.zeros((2, 4, 4), np.uint8)
    board = TensorBoard(tmp_path, images=images, labels=labels, class_names=("dark", "light"), output="kind")
    board.set_model(answers)
    assert board.captions() == [("dark 0.75\nis dark", RIGHT), ("light 0.75\nis dark", WRONG)]


@pytest.mark.parametrize("given", [{}, {"from_logits": True, "class_names": ("a", "b", "c")}])
def test_what_would_be_shown_wrongly_is_refused_before_the_first_epoch(tmp_path, given):
    board = TensorBoard(tmp_path, **{"images": np.zeros((4, 8, 8, 3), np.uint8), "class_names": "ab"} | given)
    with pytest.raises(ValueError, match=r"give both the same value|answers 2 classes and class_names are 3"):
        fit(board)
    assert not list(tmp_path.rglob("events.*"))


def test_a_training_continues_where_its_answers_can_no_longer_be_shown(tmp_path):
    answers = [np.array([[0.25, 0.75]]), np.array([[2.0, 3.0]])]
    board = TensorBoard(tmp_path, images=np.zeros((1, 4, 4, 3), np.uint8), class_names="ab", image_epochs=1)
    board.set_model(lambda images, training: answers.pop(0))
    board.on_epoch_end(0, {})
    with pytest.warns(UserWarning, match="No more answers are shown: The model's answers are outside"):
        board.on_epoch_end(1, {})
    board.on_epoch_end(2, {})
    board.on_train_end()
    assert [step for step, _ in written(tmp_path / "validation")["answers"]] == [1]


def test_answers_that_are_nan_are_shown_as_that(tmp_path):
    board = TensorBoard(tmp_path, images=np.zeros((1, 4, 4, 3), np.uint8), class_names="ab", labels=[0])
    board.set_model(lambda images, training: np.full((1, 2), np.nan))
    assert board.captions() == [("no answer: NaN\nis a", WRONG)]


def test_the_folder_may_have_a_name_that_is_not_text(tmp_path):
    folder = tmp_path / os.fsdecode(b"\xff[1]")
    fit(TensorBoard(folder))
    assert len(list((folder / "train").glob("events.*"))) == 1


def test_a_range_test_is_a_curve_and_a_picture(tmp_path):
    test = LRRangeTest(1e-3, 1.0, 20)
    test.sweep.losses = test.sweep.values = list(np.linspace(2, 1, 20))
    board = TensorBoard(tmp_path)
    board.write_range_test(test, "lr_range_test/head")
    board.on_train_end()
    found = written(tmp_path / "train")
    assert [step for step, _ in found["lr_range_test/head/loss"]] == list(range(20))
    assert [rate for _, rate in found["lr_range_test/head/learning_rate"]] == pytest.approx(
        np.geomspace(1e-3, 1, 20), rel=1e-5
    )
    assert found["lr_range_test/head/curve"][0][1].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": np.zeros((1, 4, 4, 3), np.uint8)}, "give class_names"),
        ({"images": np.zeros((1, 4, 4, 3), np.uint8), "class_names": "ab", "labels": [0, 1]}, "one for each image"),
        ({"labels": [0]}, "one for each image"),
        ({"image_epochs": 0}, "image_epochs is 0"),
        ({"image_epochs": 2.5}, "image_epochs is 2.5: it must be a whole number"),
        ({"image_epochs": "5"}, "image_epochs is '5'"),
        ({"images": np.zeros((1, 4, 4, 3), np.uint8), "class_names": ["cat"], "labels": [1]}, "'cat' alone"),
    ],
)
def test_bad_values_are_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        TensorBoard(tmp_path, **settings)
