"""Batches in parts and mixed precision: against updates written by hand, and through a run that is interrupted."""

import shutil
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from bach_keras.run_folder import Run
from bach_keras.training.batches import ImageCache, steps_per_epoch, training_batches
from bach_keras.training.fit import compiled
from bach_keras.training.phases import Phase
from bach_keras.training.train import reopen, train
from callbacks.sgdr import SGDR
from tests import few_phantoms as few
from tests.trainings import AFTER_EVERY_EPOCH, job, trained

EPOCHS, PEAK = 3, 0.2
RATES = {"middle": 1 / 3, "head": 1.0}


@pytest.fixture(scope="module")
def cache():
    pixels = np.random.default_rng(6).integers(0, 256, (13, 32, 40, 3), np.uint8)
    pixels[::2] //= 2  # something to learn
    places = np.stack([np.zeros(13, np.int32), np.arange(13, dtype=np.int32)], axis=1)
    return ImageCache((tf.constant(pixels),), places, np.arange(13, dtype=np.int32) % 2, ("",) * 13)


@pytest.fixture
def policy():
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


def two_layers() -> keras.Model:
    """Return a network without batch norm, whose gradients are short to write."""
    layers = keras.layers
    inputs = keras.Input((32, 32, 3))
    hidden = layers.Dense(4, use_bias=False, name="layer3.dense")(layers.GlobalAveragePooling2D()(inputs))
    model = keras.Model(inputs, layers.Dense(2, use_bias=False, dtype="float32", name="head.dense")(hidden))
    model.layer_groups = {"middle": r"(^|/)layer3\.", "head": r"(^|/)head\."}
    return model


def by_hand(first, second, batches) -> list[np.ndarray]:
    """Train by SGD with momentum .9 and half a cosine from PEAK, an update a batch, in float64."""
    velocities = [0, 0]
    for step, (images, targets) in enumerate(batches):
        features = images.numpy().astype("float64").mean(axis=(1, 2))
        logits = features @ first @ second
        errors = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) - np.eye(2)[targets]
        errors /= len(errors)
        gradients = features.T @ errors @ second.T, (features @ first).T @ errors
        rate = PEAK * (1 + np.cos(np.pi * step / len(batches))) / 2
        velocities = [
            0.9 * velocity - rate * share * gradient
            for velocity, share, gradient in zip(velocities, RATES.values(), gradients, strict=True)
        ]
        first, second = first + velocities[0], second + velocities[1]
    return [first, second]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-5), ("mixed_float16", 3e-3), ("mixed_bfloat16", 3e-2)]
)
def test_updates_are_those_written_by_hand(cache, policy, accumulate, precision, tolerance):
    whole = replace(few.RECIPE, smallest_view=1.0)
    recipe = replace(whole, accumulate=accumulate, precision=precision)
    keras.utils.set_random_seed(7)
    policy(precision)
    model = two_layers()
    start = [weight.numpy().astype("float64") for weight in model.weights]
    model_of_phase = compiled(model, Phase("middle+head", RATES, EPOCHS, 1, 1), recipe)
    steps = steps_per_epoch(len(cache), recipe)
    assert steps == 3 * accumulate
    history = model_of_phase.fit(
        training_batches(cache, recipe, 0, EPOCHS),
        steps_per_epoch=steps,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[SGDR(PEAK, EPOCHS * 3, 1)],
    ).history
    assert isinstance(model_of_phase.optimizer, keras.optimizers.LossScaleOptimizer) == (precision == "mixed_float16")
    assert int(model_of_phase.optimizer.iterations.numpy()) == EPOCHS * 3
    ends = [PEAK * (1 + np.cos(np.pi * step / 9)) / 2 for step in (2, 5, 8)]
    np.testing.assert_allclose(history["learning_rate"], ends, rtol=1e-6)
    wanted = by_hand(*start, list(training_batches(cache, whole, 0, EPOCHS)))
    for weight, before, after in zip(model.weights, start, wanted, strict=True):
        moved = np.abs(after - before).max()
        assert moved > 0.1
        np.testing.assert_allclose(weight.numpy(), after, rtol=0, atol=tolerance * moved)


class Copy(keras.callbacks.Callback):
    """Copies a run after an epoch, as it would be if it were interrupted there."""

    def __init__(self, run, place, after):
        super().__init__()
        self.run, self.place, self.after = run, place, after

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.after:
            shutil.copytree(self.run, self.place)


class Look(keras.callbacks.Callback):
    """Notes the loss scale that a training begins with."""

    scale = initial_scale = None

    def on_train_begin(self, logs=None):
        optimizer = self.model.optimizer
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            self.scale, self.initial_scale = float(optimizer.dynamic_scale.numpy()), optimizer.initial_scale


@pytest.mark.parametrize(
    "options",
    [{"accumulate": 2}, {"precision": "mixed_bfloat16"}, {"precision": "mixed_float16", "accumulate": 2}],
    ids=str,
)
def test_an_interrupted_run_is_resumed_bit_for_bit_and_leaves_float32(options, tmp_path):
    recipe = replace(few.RECIPE, head_epochs=0, cycles=1, cycle_epochs=3, **options)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    trained(job(whole, recipe=recipe), callbacks=[Copy(whole, cut, after=2)], state_share=AFTER_EVERY_EPOCH)
    resumed, look = job(cut, recipe=recipe), Look()
    train(resumed, reopen(resumed), callbacks=[look])

    models = [Run.open(folder).read_model() for folder in (whole, cut)]
    for weight, other in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_array_equal(weight.numpy(), other.numpy(), weight.path)
    assert (whole / "history.csv").read_text() == (cut / "history.csv").read_text()
    if recipe.precision == "mixed_float16":
        # What is restored is not what a new optimizer has.
        assert 0 < look.scale < look.initial_scale
    else:
        # No step was left out for its gradients: the cosine counts updates, four an epoch, and not parts.
        rates = [float(row["learning_rate"]) for row in Run.open(whole).history()]
        assert rates == pytest.approx([recipe.lr * (1 + np.cos(np.pi * step / 12)) / 2 for step in (3, 7, 11)])
    assert {weight.dtype for weight in models[0].weights} == {"float32"}
    assert {layer.compute_dtype for layer in models[0].layers} == {"float32"}
    with h5py.File(whole / "snapshots/cycle-0-1.weights.h5") as file:
        kinds = set()
        file.visititems(lambda name, item: kinds.add(item.dtype) if name.endswith("vars/0") else None)
    assert kinds == {np.dtype("float32")}
