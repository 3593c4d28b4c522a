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
def test_sgd_with_momentum_by_hand(nesterov, decay):
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


def test_adamw_by_hand():
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
        "layer group 'slow': rate x 0.5, 1 variables, 6 weights",
        "layer group 'slow|fast': rate x 2, 1 variables, 6 weights",
        "layer group 'frozen': rate x 1, 0 variables, 0 weights",
    ]


def test_uncovered_variables_are_named():
    optimizer = with_layer_groups(keras.optimizers.SGD(0.1), [("slow", 1.0)])
    with pytest.raises(ValueError, match=r"matches these trainable variables: fast_kernel\."):
        optimizer.build(variables())


@pytest.mark.parametrize("multiplier", [0, -1.0, math.nan, math.inf])
def test_multiplier_must_be_positive(multiplier):
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
# Keras itself fails at several steps an execution on more than one replica.
for steps, devices in ((1, ["CPU:0", "CPU:1"]), (2, ["CPU:0"])):
    with tf.distribute.MirroredStrategy(devices).scope():
        model = keras.saving.load_model(sys.argv[1])
        dataset = tf.data.Dataset.from_tensor_slices((data["x"], data["y"])).batch(8)
        lr_range_test(model, dataset, max_lr=0.1, steps=25)
        model.steps_per_execution = steps
        model.fit(dataset, epochs=2, shuffle=False, verbose=0, callbacks=[SGDR(0.05, 2, 2)])
    np.savez(f"{sys.argv[3]}-{steps}", *model.get_weights())
"""


@saves_a_model
def test_in_a_new_process_and_under_a_strategy_all_is_the_same(tmp_path):
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
    for steps in (1, 2):
        with np.load(f"{files[2]}-{steps}.npz") as replicas:
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
