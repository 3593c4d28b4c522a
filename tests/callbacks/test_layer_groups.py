"""Layer groups: each group must train exactly as a plain optimizer would at its own rate."""

import logging
import math
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from callbacks.layer_groups import freeze, with_layer_groups
from callbacks.sgdr import SGDR

# Keras 3 copies variables into a file through NumPy 1's array protocol; NumPy 2 says so.
saves_a_model = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

ROOT = Path(__file__).parents[2]
GROUPS = [("slow", 0.25), (".*", 1.0)]


def variables() -> list[keras.Variable]:
    """Two equal 3x2 weights, by names that GROUPS tells apart."""
    value = np.linspace(-1, 1, 6, dtype="float32").reshape(3, 2)
    return [keras.Variable(value, name=name) for name in ("slow_kernel", "fast_kernel")]


def gradients(count: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(count, 3, 2)).astype("float32")


def train(optimizer, trained: list[keras.Variable], steps: int = 6) -> list[np.ndarray]:
    for gradient in gradients(steps):
        optimizer.apply([tf.constant(gradient)] * len(trained), trained)
    optimizer.finalize_variable_values(trained)
    return [variable.numpy() for variable in trained]


def twin_model(optimizer) -> keras.Model:
    """The sum of two equal linear layers: gradient descent moves them in proportion to their rates."""
    inputs = keras.Input((3,))
    layers = [keras.layers.Dense(1, kernel_initializer="zeros", name=name) for name in ("slow", "fast")]
    model = keras.Model(inputs, keras.layers.Add()([layer(inputs) for layer in layers]))
    model.compile(optimizer, "mse")
    return model


def twin_data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    return generator.normal(size=(24, 3)).astype("float32"), generator.normal(size=(24, 1)).astype("float32")


KINDS = {
    "sgd": (keras.optimizers.SGD, {}),
    "nesterov": (keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": (keras.optimizers.Adam, {"amsgrad": True, "weight_decay": 0.1}),
    "adamw": (keras.optimizers.AdamW, {"weight_decay": 0.1}),
    "nadam": (keras.optimizers.Nadam, {}),
    "rmsprop": (keras.optimizers.RMSprop, {"momentum": 0.9, "centered": True}),
    "adagrad": (keras.optimizers.Adagrad, {}),
    "lamb": (keras.optimizers.Lamb, {}),
    "lion": (keras.optimizers.Lion, {"weight_decay": 0.1}),
    "adafactor": (keras.optimizers.Adafactor, {"relative_step": False}),
    "ftrl": (keras.optimizers.Ftrl, {}),
    "schedule_free": (keras.optimizers.ScheduleFreeAdamW, {"weight_decay": 0.1}),
    "average": (keras.optimizers.SGD, {"momentum": 0.9, "use_ema": True, "ema_momentum": 0.5}),
    "accumulation": (keras.optimizers.AdamW, {"gradient_accumulation_steps": 2}),
    "clipping": (keras.optimizers.Adam, {"clipnorm": 0.5}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_group_trains_as_a_plain_optimizer_at_its_rate(kind):
    optimizer_class, settings = KINDS[kind]
    optimizer = with_layer_groups(optimizer_class(0.125, **settings), GROUPS)
    assert isinstance(optimizer, optimizer_class)
    slow, fast = train(optimizer, variables())
    (alone_slow,) = train(optimizer_class(0.125 * 0.25, **settings), variables()[:1])
    (alone_fast,) = train(optimizer_class(0.125, **settings), variables()[1:])
    np.testing.assert_allclose(slow, alone_slow, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(fast, alone_fast, rtol=1e-6, atol=1e-7)
    assert np.abs(slow - fast).max() > 1e-3


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_with_momentum_equals_updates_written_by_hand(nesterov, decay):
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, nesterov=nesterov, weight_decay=decay)
    trained = train(with_layer_groups(optimizer, [("slow", 1 / 3), (".*", 1)]), variables(), steps=20)
    for found, rate in zip(trained, (0.05 / 3, 0.05), strict=True):
        value = np.linspace(-1, 1, 6).reshape(3, 2)
        velocity = np.zeros_like(value)
        for gradient in gradients(20).astype("float64"):
            value = value - rate * decay * value
            velocity = 0.9 * velocity - rate * gradient
            value = value + (0.9 * velocity - rate * gradient if nesterov else velocity)
        np.testing.assert_allclose(found, value, atol=2e-6)


def test_adamw_equals_updates_written_by_hand():
    rate, decay, beta1, beta2, epsilon = 0.01 / 3, 0.1, 0.9, 0.999, 1e-7
    value = np.linspace(-1, 1, 6).reshape(3, 2)
    mean = square = np.zeros_like(value)
    for step, gradient in enumerate(gradients(20).astype("float64"), start=1):
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        correction = math.sqrt(1 - beta2**step) / (1 - beta1**step)
        value = value - rate * decay * value
        value = value - rate * correction * mean / (np.sqrt(square) + epsilon)
    optimizer = with_layer_groups(keras.optimizers.AdamW(0.01, weight_decay=decay), [("slow", 1 / 3), (".*", 1)])
    np.testing.assert_allclose(train(optimizer, variables(), steps=20)[0], value, atol=2e-6)


def test_exclusion_from_weight_decay_holds():
    optimizer = with_layer_groups(keras.optimizers.SGD(0.125, weight_decay=0.5), GROUPS)
    optimizer.exclude_from_weight_decay(var_names=["slow"])
    slow, fast = train(optimizer, variables())
    np.testing.assert_allclose(slow, train(keras.optimizers.SGD(0.125 * 0.25), variables()[:1])[0], rtol=1e-6)
    assert np.abs(fast - train(keras.optimizers.SGD(0.125), variables()[1:])[0]).max() > 0.01


def test_first_match_wins_and_groups_are_logged(caplog):
    optimizer = with_layer_groups(keras.optimizers.SGD(0.1), [("slow", 0.5), ("slow|fast", 2), ("frozen", 1.0)])
    with caplog.at_level(logging.INFO, "callbacks.layer_groups"):
        slow, fast = train(optimizer, variables(), steps=1)
    before = variables()[0].numpy()
    np.testing.assert_allclose(fast - before, 4 * (slow - before), rtol=1e-5)
    assert [record.getMessage() for record in caplog.records] == [
        "layer group 'frozen' is empty: it matches no trainable variable's path. Check the pattern, unless its layers "
        "are frozen; where it names a nested model or a wrapper, set model= of with_layer_groups to the model",
        "layer group 'slow': rate x 0.5, 1 variable, 6 weights",
        "layer group 'slow|fast': rate x 2, 1 variable, 6 weights",
        "layer group 'frozen': rate x 1, 0 variables, 0 weights",
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO", "INFO"]


def test_a_group_whose_variables_are_all_in_earlier_groups_is_a_warning(caplog):
    train(with_layer_groups(keras.optimizers.SGD(0.1), [("slow", 0.5), (".*", 1), ("fast", 2)]), variables(), steps=1)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "layer group 'fast' is empty: earlier groups have every variable that it matches, as the first match wins"
    ]


def test_uncovered_variables_are_named():
    optimizer = with_layer_groups(keras.optimizers.SGD(0.1), [("slow", 1.0)])
    with pytest.raises(ValueError, match=r"matches these trainable variables: fast_kernel\."):
        optimizer.build(variables())


@pytest.mark.parametrize("multiplier", [0, -1.0, math.nan, math.inf])
def test_a_multiplier_must_be_positive(multiplier):
    with pytest.raises(ValueError, match="trainable=False"):
        with_layer_groups(keras.optimizers.SGD(0.1), [("a", multiplier)])


def used_optimizer() -> keras.optimizers.Optimizer:
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(variables())
    return optimizer


def excluding_optimizer() -> keras.optimizers.Optimizer:
    optimizer = keras.optimizers.AdamW(0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


@pytest.mark.parametrize(
    ("make_optimizer", "groups", "message"),
    [
        (keras.optimizers.SGD, [], "no layer group"),
        (keras.optimizers.SGD, [("(", 1.0)], "not a regular expression"),
        (keras.optimizers.SGD, {"slow": 0.25}, r"a list of \(pattern, multiplier\) pairs.*not {'slow': 0.25}"),
        (keras.optimizers.SGD, "slow", ", not 'slow'"),
        (keras.optimizers.SGD, None, ", not None"),
        (keras.optimizers.SGD, 3, ", not 3"),
        (keras.optimizers.SGD, ("slow", 0.25), "Layer group 'slow' is not a pair"),
        (keras.optimizers.SGD, ["ab"], "Layer group 'ab' is not a pair"),
        (keras.optimizers.SGD, [("slow", 1, 2)], "is not a pair of a pattern and a multiplier"),
        (keras.optimizers.SGD, [(0.25, "slow")], "Layer group 0.25 is not a regular expression: give it as text"),
        (keras.optimizers.SGD, [("slow", "fast")], "the multiplier 'fast', which is not a number"),
        (keras.optimizers.SGD, [("slow", None)], "the multiplier None, which is not a number"),
        (keras.optimizers.SGD, [("slow", True)], "the multiplier True, which is not a number"),
        (lambda: "sgd", GROUPS, r"need an optimizer object, such as keras.optimizers.SGD\(0.1\), not 'sgd'"),
        (lambda: {"class_name": "SGD"}, GROUPS, "need an optimizer object"),
        (lambda: keras.optimizers.SGD, GROUPS, "not the class SGD"),
        (lambda: None, GROUPS, ", not None"),
        (lambda: with_layer_groups(keras.optimizers.SGD(), GROUPS), GROUPS, "already has"),
        (lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), GROUPS, "that it wraps"),
        (keras.optimizers.Muon, GROUPS, "Muon cannot"),
        (used_optimizer, GROUPS, "before it is built"),
        (excluding_optimizer, GROUPS, "exclude_from_weight_decay"),
    ],
)
def test_what_cannot_have_groups_is_refused(make_optimizer, groups, message):
    with pytest.raises(ValueError, match=message):
        with_layer_groups(make_optimizer(), groups)


def test_a_loss_scale_optimizer_may_wrap_groups():
    grouped = with_layer_groups(keras.optimizers.SGD(0.125), GROUPS)
    slow, fast = train(keras.optimizers.LossScaleOptimizer(grouped, initial_scale=1.0), variables(), steps=1)
    before = variables()[0].numpy()
    np.testing.assert_allclose(fast - before, 4 * (slow - before), rtol=1e-5)


def test_the_schedule_drives_the_one_rate_and_groups_scale_it():
    model = twin_model(with_layer_groups(keras.optimizers.SGD(1.0), GROUPS))
    schedule = SGDR(peak=0.05, cycle_steps=3, cycles=2)
    model.fit(*twin_data(), batch_size=4, epochs=1, verbose=0, callbacks=[schedule])
    slow, fast = (model.get_layer(name).kernel.numpy() for name in ("slow", "fast"))
    assert np.abs(fast).max() > 0.01
    np.testing.assert_allclose(fast, 4 * slow, rtol=1e-5)
    assert float(model.optimizer.learning_rate) == pytest.approx(schedule.learning_rate(5))


@saves_a_model
def test_saved_model_keeps_groups_and_slots(tmp_path):
    groups = [("(^|/)slow", 0.25), ("(^|/)fast", 1.0)]
    model = twin_model(with_layer_groups(keras.optimizers.AdamW(0.01, weight_decay=0.1), groups))
    model.fit(*twin_data(), epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is type(model.optimizer)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for one in (model, loaded):
        one.fit(*twin_data(), epochs=2, shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that cannot be written down."""

    def __call__(self, step):
        return 0.5 ** keras.ops.cast(step, "float32")


@pytest.mark.parametrize(
    "rate",
    [keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [1.0, 0.5, 0.25]), Halving(), lambda: 0.5],
    ids=["schedule", "own schedule", "function"],
)
def test_an_optimizer_with_a_schedule_keeps_it_and_groups_scale_it(rate):
    def make(rate):
        return keras.optimizers.SGD(rate, momentum=0.9)

    slow, fast = train(with_layer_groups(make(rate), GROUPS), variables(), steps=3)
    (alone,) = train(make(rate), variables()[:1], steps=3)
    before = variables()[0].numpy()
    np.testing.assert_allclose(fast, alone, rtol=1e-6)
    np.testing.assert_allclose(fast - before, 4 * (slow - before), rtol=1e-4, atol=1e-6)


def test_groups_may_come_from_an_iterator_and_an_optimizers_settings_are_kept():
    optimizer = keras.optimizers.SGD(0.5, gradient_accumulation_steps=2, loss_scale_factor=4.0, name="named")
    grouped = with_layer_groups(optimizer, iter([("slow", np.float32(0.25)), (".*", 1)]))
    assert grouped.groups == (("slow", 0.25), (".*", 1.0))
    config = grouped.get_config()
    assert optimizer.get_config().items() <= config.items()
    assert type(grouped).from_config(config).get_config() == config


@pytest.mark.parametrize("make", [keras.optimizers.SGD, lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.5)])
def test_sparse_gradients_are_scaled_too(make):
    table = keras.Variable(np.ones((4, 2), "float32"), name="slow_table")
    gradient = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([1]), tf.constant([4, 2]))
    optimizer = with_layer_groups(make(0.5), GROUPS)
    optimizer.apply([gradient], [table])
    alone = keras.Variable(np.ones((4, 2), "float32"), name="alone")
    make(0.125).apply([gradient], [alone])
    np.testing.assert_allclose(table.numpy(), alone.numpy(), rtol=1e-6)


def nested_model() -> keras.Model:
    """Return a model with a functional model and a wrapper of which neither's name is in every path."""
    layers = keras.layers
    inside = keras.Input((5, 3))
    encoder = keras.Model(inside, layers.Dense(4, name="a_dense")(inside), name="enc_model")
    inputs = keras.Input((5, 3))
    recurrent = layers.Bidirectional(layers.GRU(2, name="gru"), name="enc_both")
    return keras.Model(inputs, layers.Dense(1, name="head")(recurrent(encoder(inputs))), name="whole")


def multipliers(optimizer, model) -> dict[str, float]:
    optimizer.build(model.trainable_variables)
    paths = [variable.path for variable in model.trainable_variables]
    return dict(zip(paths, optimizer._multipliers, strict=True))


def test_a_nested_models_name_is_found_only_where_the_model_is_given(caplog):
    groups = [("(^|/)enc_model/", 0.1), (".*", 1)]
    model = nested_model()
    found = multipliers(with_layer_groups(keras.optimizers.SGD(0.1), groups), model)
    assert set(found.values()) == {1.0}
    assert "layer group '(^|/)enc_model/' is empty" in caplog.text
    caplog.clear()
    found = multipliers(with_layer_groups(keras.optimizers.SGD(0.1), groups, model=model), model)
    assert {path for path, multiplier in found.items() if multiplier == 0.1} == {"a_dense/kernel", "a_dense/bias"}
    assert not caplog.records


@saves_a_model
def test_a_loaded_model_keeps_each_variables_group_though_its_paths_lose_the_wrappers(tmp_path):
    model = nested_model()
    optimizer = with_layer_groups(keras.optimizers.SGD(0.1), [("enc_both|enc_model", 0.1), (".*", 1)], model=model)
    model.compile(optimizer, "mse")
    model.fit(np.ones((2, 5, 3)), np.zeros((2, 1)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not [v.path for v in loaded.trainable_variables if "enc_both" in v.path]
    assert loaded.optimizer._multipliers == optimizer._multipliers
    assert sorted(set(optimizer._multipliers)) == [0.1, 1.0]
    assert loaded.optimizer.get_config() == optimizer.get_config()
    # Of other variables the patterns decide.
    other = type(optimizer).from_config(optimizer.get_config())
    small = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="head")], name="small")
    assert multipliers(other, small) == {"small/head/kernel": 1.0, "small/head/bias": 1.0}


REPLICAS = """
import sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import callbacks.layer_groups
from callbacks.lr_range_test import lr_range_test
from callbacks.sgdr import SGDR
data = np.load(sys.argv[2])
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = keras.saving.load_model(sys.argv[1])
    dataset = tf.data.Dataset.from_tensor_slices((data["x"], data["y"])).batch(8)
    lr_range_test(model, dataset, max_lr=0.1, steps=25)
    model.fit(dataset, epochs=2, shuffle=False, verbose=0, callbacks=[SGDR(0.05, 2, 2)])
np.savez(sys.argv[3], *model.get_weights())
"""


@saves_a_model
def test_training_is_the_same_in_a_new_process_under_a_strategy(tmp_path):
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=0.1)
    model = twin_model(with_layer_groups(optimizer, [("(^|/)slow", 0.25), ("(^|/)fast", 1.0)]))
    x, y = twin_data()
    np.savez(tmp_path / "data.npz", x=x, y=y)
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    files = [str(tmp_path / name) for name in ("model.keras", "data.npz", "weights")]
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS, *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[SGDR(0.05, 2, 2)])
    with np.load(f"{files[2]}.npz") as replicas:
        for ours, name in zip(model.get_weights(), replicas.files, strict=True):
            np.testing.assert_allclose(replicas[name], ours, rtol=1e-5, atol=1e-6)


def trunk_and_head() -> keras.Model:
    layers = [
        keras.layers.Dense(4, name="layer1_dense"),
        keras.layers.BatchNormalization(name="layer1_norm"),
        keras.layers.Dense(4, name="layer2_dense"),
    ]
    trunk = keras.Sequential([keras.Input((3,)), *layers], name="trunk")
    return keras.Sequential([keras.Input((3,)), trunk, keras.layers.Dense(1, name="head")])


def test_frozen_layers_have_no_slots_and_do_not_drift():
    model = trunk_and_head()
    freeze(model, "layer1")
    model.compile(with_layer_groups(keras.optimizers.Adam(0.1), GROUPS), "mse")
    before = {variable.path: variable.numpy() for variable in model.variables}
    model.fit(*twin_data(), epochs=1, verbose=0)
    changed = {v.path.split("/")[-2] for v in model.variables if (v.numpy() != before[v.path]).any()}
    assert changed == {"layer2_dense", "head"}
    assert not [variable.path for variable in model.optimizer.variables if "layer1" in variable.path]
    assert len(model.optimizer.variables) == 2 + 2 * 4


def trainable_layers(model) -> set[str]:
    return {variable.path.split("/")[-2] for variable in model.trainable_variables}


def test_freezing_again_thaws_the_rest():
    model = trunk_and_head()
    freeze(model, ["(^|/)trunk"])
    assert trainable_layers(model) == {"head"}
    freeze(model, ["layer1_dense", "layer1_norm"])
    assert trainable_layers(model) == {"layer2_dense", "head"}
    freeze(model, [])
    assert len(model.trainable_variables) == 8


def test_a_pattern_that_freezes_nothing_is_refused_before_any_change():
    model = trunk_and_head()
    with pytest.raises(ValueError, match="layer9"):
        freeze(model, ["layer1", "layer9"])
    assert len(model.trainable_variables) == 8


RECURRENT = {
    "lstm": lambda layers: layers.LSTM(2, dropout=0.1, name="enc_x"),
    "gru": lambda layers: layers.GRU(2, name="enc_x"),
    "simple": lambda layers: layers.SimpleRNN(2, name="enc_x"),
    "bidirectional": lambda layers: layers.Bidirectional(layers.LSTM(2, name="inner"), name="enc_x"),
    "cells": lambda layers: layers.RNN([layers.LSTMCell(2, name="one"), layers.GRUCell(2, name="two")], name="enc_x"),
    "distributed": lambda layers: layers.TimeDistributed(layers.Dense(2, name="inner"), name="enc_x"),
}


def freeze_one(model: keras.Model, pattern: str = "(^|/)enc_") -> set[str]:
    """Freeze, and return the paths of what trains."""
    freeze(model, pattern)
    return {variable.path for variable in model.trainable_variables}


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("loaded", [False, True])
def test_recurrent_layers_and_wrappers_are_judged_by_their_weights(kind, loaded):
    inputs = keras.Input((5, 3))
    hidden = keras.layers.Flatten()(RECURRENT[kind](keras.layers)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1, name="head")(hidden))
    if loaded:
        # As a model from a file is made.
        model = keras.Model.from_config(model.get_config())
    assert freeze_one(model) == {"head/kernel", "head/bias"}
    assert not model.get_layer("enc_x").trainable
    freeze(model, [])
    assert len(model.trainable_variables) == len(model.weights)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_convolutional_recurrent_layers_are_frozen(dimensions):
    layer = getattr(keras.layers, f"ConvLSTM{dimensions}D")(2, 1, name="enc_x")
    inputs = keras.Input((3,) + (4,) * dimensions + (1,))
    hidden = keras.layers.Flatten()(layer(inputs))
    assert freeze_one(keras.Model(inputs, keras.layers.Dense(1, name="head")(hidden))) == {"head/kernel", "head/bias"}


def test_attention_and_dropout_do_not_keep_a_block_training():
    layers = keras.layers
    inputs = keras.Input((5, 4))
    hidden = layers.MultiHeadAttention(2, 2, dropout=0.1, name="enc_attention")(inputs, inputs)
    inside = keras.Sequential([keras.Input((5, 4)), layers.Dropout(0.1), layers.Dense(2, name="x")], name="enc_block")
    model = keras.Model(inputs, layers.Dense(1, name="head")(inside(hidden)))
    assert freeze_one(model) == {"head/kernel", "head/bias"}
    assert not model.get_layer("enc_block").trainable


def test_a_nested_functional_model_is_frozen_by_its_name():
    model = nested_model()
    assert freeze_one(model, "enc_model") == {v.path for v in model.weights if not v.path.startswith("a_dense")}
    assert freeze_one(model, "(^|/)enc_model/a_dense/kernel$|head|enc_both") == {"a_dense/kernel", "a_dense/bias"}
    # The model's own name is no part of it.
    with pytest.raises(ValueError, match="No layer of 'whole' has weights that all match 'whole'"):
        freeze(model, "whole")


class Lists(keras.Model):
    """Layers in a list and a dict, a layer in two places, a variable of its own."""

    def __init__(self):
        super().__init__(name="lists")
        shared = keras.layers.Dense(4, name="shared")
        self.blocks = [keras.layers.Dense(4, name=f"enc_{index}") for index in (1, 10)]
        self.parts = {"enc": keras.Sequential([shared], name="enc_part"), "rest": keras.Sequential([shared])}
        self.head = keras.layers.Dense(1, name="head")
        self.scale = keras.Variable(1.0, name="scale")

    def call(self, inputs):
        for layer in (*self.blocks, *self.parts.values(), self.head):
            inputs = layer(inputs)
        return inputs * self.scale


def test_lists_shared_layers_and_names_that_begin_alike():
    model = Lists()
    model(np.zeros((1, 4), "float32"))
    train_still = freeze_one(model, "(^|/)enc_1/")
    assert {path.split("/")[-2] for path in train_still if "/" in path} == {"enc_10", "shared", "head"}
    # The other parent of the shared layer trains, and does not thaw it.
    assert {path.split("/")[-2] for path in freeze_one(model, "(^|/)enc_part/") if "/" in path} == {
        "enc_1", "enc_10", "head"
    }  # fmt: skip
    assert "scale" in freeze_one(model, "head")


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: keras.layers.Dense(4, name="enc_x"), (None, 3)),
        (lambda: keras.layers.Conv1D(4, 1, name="enc_x"), (None, 3, 2)),
        (lambda: keras.layers.Embedding(5, 4, name="enc_x"), (None, 3)),
    ],
    ids=["dense", "convolution", "embedding"],
)
def test_the_base_of_a_low_rank_adapter_stays_fixed_when_its_layer_is_thawed(make, shape):
    layer = make()
    layer.build(shape)
    layer.enable_lora(2)
    model = keras.Sequential([layer, keras.layers.Dense(1, name="head")])
    model.build(shape)
    before = {variable.path for variable in model.trainable_variables}
    assert {path.split("/")[-2] for path in freeze_one(model)} == {"head"}
    freeze(model, [])
    assert {variable.path for variable in model.trainable_variables} == before


def test_a_pattern_that_matches_some_weights_of_a_layer_alone_is_a_warning(caplog):
    model = trunk_and_head()
    freeze(model, "layer1_norm|layer2_dense/kernel")
    assert trainable_layers(model) == {"layer1_dense", "layer2_dense", "head"}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "matches only some weights of layers, which therefore train: trunk/layer2_dense/kernel" in record.message


def test_a_layer_that_is_not_built_is_frozen_by_its_name():
    model = Lists()
    freeze(model, "enc_1")
    model(np.zeros((1, 4), "float32"))
    assert {v.path.split("/")[-2] for v in model.trainable_variables if "/" in v.path} == {"shared", "head"}


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ("(", "'\\(' is not a regular expression: missing"),
        (["a", 3], "The pattern 3 is not a regular expression"),
        (None, "a regular expression or a list of them, not None"),
        ({"a": 1}, "not {'a': 1}"),
    ],
)
def test_what_is_not_a_pattern_is_refused(patterns, message):
    with pytest.raises(ValueError, match=message):
        freeze(trunk_and_head(), patterns)


def test_only_a_model_has_layers_to_freeze():
    with pytest.raises(ValueError, match="a Keras model, not 'model'"):
        freeze("model", "a")
    with pytest.raises(ValueError, match="a Keras model, not 'model'"):
        with_layer_groups(keras.optimizers.SGD(0.1), GROUPS, model="model")


def test_a_variable_of_a_layers_own_without_its_name_is_frozen_with_it():
    class Scaled(keras.layers.Layer):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.scale = keras.Variable(np.ones(4, "float32"), name="scale")
            self.noise = keras.random.SeedGenerator(1)
            self.parts = {"inner": [keras.layers.Dense(4, name="inner")]}

        def call(self, inputs):
            return self.parts["inner"][0](inputs * self.scale)

    model = keras.Sequential([keras.Input((4,)), Scaled(name="enc_scaled"), keras.layers.Dense(1, name="head")])
    assert {path.split("/")[-2] for path in freeze_one(model)} == {"head"}
