"""Compiling and fitting one phase of a training, with its range test and its callbacks."""

import logging
import sys

import keras
import numpy as np
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.network.fold import fold
from bach_keras.recipe import Recipe
from bach_keras.run_folder import Run
from bach_keras.training import devices
from bach_keras.training.batches import ImageCache, evaluation_batches, steps_per_epoch, training_batches
from bach_keras.training.checkpoint import WEIGHTED_ACCURACY, Checkpoint, SeedDropout, seed_dropout
from bach_keras.training.phases import Phase
from bach_keras.training.stops import StopAfter, StopAtDivergence, StopAtLoss, TrainingError, writing
from bach_keras.tree import NODES
from bach_keras.wording import counted
from callbacks.fused_sgd import FusedSGD
from callbacks.layer_groups import freeze, with_layer_groups
from callbacks.lr_range_test import LRRangeTest, lr_range_test
from callbacks.sgdr import SGDR
from callbacks.tensorboard import TensorBoard

LOG = logging.getLogger(__name__)

SHOWN_IMAGES = 9

# No run trains so many epochs, so the probe's images are cropped and turned as in none of them.
PROBE_EPOCH = 1000


def fit_phase(checkpoint: Checkpoint, caches: dict[str, ImageCache], phase: Phase, extra=()) -> None:
    """Train what is left of a phase.

    Args:
        checkpoint: of the run, whose progress says how far it is.
        caches: split name -> images; without ``validation`` none is done.
        phase: the phase.
        extra: Keras callbacks that come last.

    Raises:
        TrainingError: the loss diverged, the disk is full, or the range test that is to choose the rate cannot be
            read.
    """
    run, model, progress = checkpoint.run, checkpoint.network, checkpoint.progress
    recipe = run.recipe
    steps = steps_per_epoch(len(caches["train"]), recipe)
    trained = compiled(model, phase, recipe)
    board = _board(run, caches, phase) if run.settings.get("tensorboard") and devices.is_chief() else None

    # The rate of the phase: the state's where it was interrupted, the phase's before where it continues that one.
    done = progress.epoch - phase.first_epoch
    if done:
        progress.restore(model, trained.optimizer)
    elif not phase.continues:
        progress.peak = _find_peak(run, trained, caches["train"], phase, board)
    # A recipe that was changed on the way has its say.
    progress.peak = recipe.lr or progress.peak
    progress.phase = phase.name
    schedule = SGDR(
        progress.peak,
        phase.cycle_epochs * steps // recipe.accumulate,
        phase.cycles,
        phase.cycle_mult,
        warm_start=recipe.warm_start,
    )
    # The reader of the log sees which epochs leave a snapshot.
    ends = ", ".join(str(phase.first_epoch + end) for end in phase.cycle_ends)
    LOG.info(
        f"{phase.name}: {counted(phase.epochs - done, 'epoch')} of {counted(steps, 'step')}, peak rate "
        f"{progress.peak:.2g}, {'cycles end after epochs' if phase.cycles > 1 else 'the cycle ends after epoch'} {ends}"
    )

    # The order matters: nothing is kept of an epoch that diverged, and the state says whether the loss was reached.
    callbacks = [
        SeedDropout(recipe.seed, steps),
        schedule,
        StopAtDivergence(run, steps),
        StopAfter(phase.first_epoch + phase.epochs),
    ]
    if board:
        callbacks.append(board)
    if until := run.settings.get("until"):
        callbacks.append(StopAtLoss(until["loss"], progress))
    validation = caches.get("validation")
    trained.fit(
        training_batches(caches["train"], recipe, progress.epoch, phase.epochs - done),
        validation_data=evaluation_batches(validation, recipe) if validation else None,
        initial_epoch=progress.epoch,
        epochs=recipe.epochs,  # all of the run's, so that Keras prints which of them it is in
        steps_per_epoch=steps,
        shuffle=False,  # the batches have an order of their own, which a resumed run repeats
        callbacks=[*callbacks, checkpoint, *extra],
        verbose=1 if sys.stdout.isatty() else 2,
    )


def compiled(model, phase: Phase, recipe: Recipe) -> keras.Model:
    """Return the network as the phase trains it, on the model's own weights: what is frozen runs folded."""
    patterns = model.layer_groups
    freeze(model, [pattern for group, pattern in patterns.items() if group not in phase.rates])
    trained = devices.shared(fold(model, where=lambda norm: not norm.trainable))
    # The rate is a placeholder: the range test and SGDR set it before any step.
    accumulated = recipe.accumulate if recipe.accumulate > 1 else None
    # Where classes are weighted, plain accuracy would choose an epoch that neglects the rare one.
    weighted = {} if recipe.class_weights == "none" else {"weighted_metrics": [_accuracy(WEIGHTED_ACCURACY)]}
    optimizer = FusedSGD(1e-3, momentum=recipe.momentum, gradient_accumulation_steps=accumulated)
    trained.compile(
        with_layer_groups(optimizer, [(patterns[group], rate) for group, rate in phase.rates.items()]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[_accuracy("accuracy")],
        **weighted,
        jit_compile=False,  # Keras would take XLA, whose grouped convolutions take fifty times as long
    )
    # Variables that appear in the first step, such as those of a metric by its name, make TensorFlow trace it twice.
    trained.optimizer.build(trained.trainable_variables)
    return trained


def _accuracy(name: str) -> keras.metrics.Metric:
    return keras.metrics.SparseCategoricalAccuracy(name)


def _find_peak(run: Run, model, cache: ImageCache, phase: Phase, board: TensorBoard | None) -> float:
    """Return the phase's peak rate: the one given, or a tenth of where the loss diverges."""
    recipe = run.recipe
    if not recipe.range_test:
        return recipe.lr
    LOG.info(f"{phase.name}: learning rate range test, {sweep_steps(cache, phase, recipe)} steps")
    test = range_test(model, cache, phase, recipe)
    try:
        result = test.result()
    except ValueError as error:  # the callback's word for a curve that cannot be read
        if recipe.lr is None:
            # The run has started, and its folder is there.
            raise TrainingError(f"{error} Or give the rate with --lr, in another --run-dir.") from error
        # The rate was given, so a curve that is only drawn need not end the training.
        LOG.info(f"{phase.name}: the range test cannot be read ({error}); the rate given is {recipe.lr:.2g}")
        return recipe.lr
    with writing(run.folder):
        if devices.is_chief():
            run.write_range_test(phase, test)
        if board:
            board.write_range_test(test, f"lr_range_test/{phase.name}")
    if not result["clear"]:
        LOG.info(f"{phase.name}: the curve of the range test is too noisy to read: treat this rate as a guess")
    given = "" if recipe.lr is None else f"; the rate given is {recipe.lr:.2g}"
    LOG.info(
        f"{phase.name}: the loss diverges at {result['divergence']:.2g}, a tenth is {result['suggestion']:.2g}{given}"
    )
    return result["suggestion"] if recipe.lr is None else recipe.lr


def sweep_steps(cache: ImageCache, phase: Phase, recipe: Recipe) -> int:
    """Return the updates of the range test before a phase."""
    updates = steps_per_epoch(len(cache), recipe) // recipe.accumulate
    return recipe.sweep_steps(phase.epochs * updates)


def range_test(model, cache: ImageCache, phase: Phase, recipe: Recipe, metric: str = "loss") -> LRRangeTest:
    """Sweep the rate over as many epochs as the steps need, and leave the model as it was."""
    # A step of the recipe is an update; batches that only accumulate gradients are steps to Keras.
    steps = sweep_steps(cache, phase, recipe) * recipe.accumulate
    epochs = -(-steps // steps_per_epoch(len(cache), recipe))
    batches = training_batches(cache, recipe, 0, epochs)
    probe = None
    if recipe.lr_probe and metric == "loss":
        count = -(-recipe.lr_probe // recipe.part_size)
        probe = list(training_batches(cache, recipe, PROBE_EPOCH, count).take(count))
    low, high = recipe.lr_bounds
    seed_dropout(model, recipe.seed, 0)
    return lr_range_test(model, batches, min_lr=low, max_lr=high, steps=steps, metric=metric, probe=probe)


def _board(run: Run, caches: dict[str, ImageCache], phase: Phase) -> TensorBoard:
    """Return the callback that shows the rates of the phase's groups, and a few images with their answers."""
    shown = caches.get("validation") or caches["train"]
    indices = np.linspace(0, len(shown) - 1, min(SHOWN_IMAGES, len(shown))).astype(int)
    size = run.recipe.image_size
    squares = shown.squares(tf.constant(indices), lambda images, _: preprocess.centre_crop(images, size))
    return TensorBoard(
        run.folder / "tensorboard",
        phase.rates,
        images=squares.numpy(),
        labels=shown.targets[indices],
        class_names=NODES[run.node].classes,
        preprocess=preprocess.normalise,
        from_logits=True,
    )
