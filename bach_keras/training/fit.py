"""One phase of a training: the network as it is trained then, its range test, its epochs."""

import sys

import keras
import numpy as np
import tensorflow as tf

from bach_keras import preprocess
from bach_keras.network.fold import fold
from bach_keras.recipe import Recipe
from bach_keras.training import batches as pipeline
from bach_keras.training import checkpoint as kept
from bach_keras.training import devices as strategy
from bach_keras.training.phases import Phase
from bach_keras.training.stops import StopAfter, StopAtDivergence, StopAtLoss, TrainingError, writing
from bach_keras.tree import get_node
from bach_keras.wording import counted
from callbacks.fused_sgd import FusedSGD
from callbacks.layer_groups import freeze, with_layer_groups
from callbacks.lr_range_test import LRRangeTest, lr_range_test
from callbacks.sgdr import SGDR
from callbacks.tensorboard import TensorBoard

SHOWN_IMAGES = 9
PROBE_EPOCH = 1000


def fit_phase(keeper: kept.Keeper, caches: dict, phase: Phase, number: int, first_epoch: int, say) -> None:
    """Train what is left of a phase.

    Args:
        keeper: of the run, whose progress says how far it is.
        caches: split name -> ``pipeline.ImageCache``; without ``validation`` none is done.
        phase: the phase.
        number: which of the run's phases it is, from 0.
        first_epoch: the run's epochs before it.
        say: prints a line of progress.

    Raises:
        TrainingError: the loss diverged, the disk is full, or the range test that is to choose the rate cannot be
            read.
    """
    run, model, progress = keeper.run, keeper.network, keeper.progress
    recipe = run.recipe
    steps = pipeline.steps_per_epoch(len(caches["train"]), recipe)
    trained = compiled(model, phase, recipe)
    board = _board(run, caches, phase) if run.config.get("tensorboard") and strategy.is_chief() else None
    done = progress.epoch - first_epoch
    if done:
        progress.restore(model, trained.optimizer)
    elif not phase.continues:
        progress.peak = _peak(run, trained, caches["train"], phase, number, board, say)
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
    ends = ", ".join(str(first_epoch + end) for end in phase.cycle_ends)
    say(
        f"{phase.name}: {counted(phase.epochs - done, 'epoch')} of {counted(steps, 'step')}, peak rate "
        f"{progress.peak:.2g}, {'cycles end after epochs' if phase.cycles > 1 else 'the cycle ends after epoch'} {ends}"
    )
    validation = caches.get("validation")
    callbacks = [
        kept.Dropout(recipe.seed, steps),
        schedule,
        StopAtDivergence(run.folder, steps),
        StopAfter(first_epoch + phase.epochs),
        *([board] if board else []),
        keeper,
    ]
    if until := run.config.get("until"):
        # Before the keeper, whose state says that it was reached.
        callbacks.insert(-1, StopAtLoss(until["loss"], progress))
    trained.fit(
        pipeline.training_batches(caches["train"], recipe, progress.epoch, phase.epochs - done),
        validation_data=pipeline.evaluation_batches(validation, recipe) if validation else None,
        initial_epoch=progress.epoch,
        epochs=recipe.epochs,  # Keras prints which of all it is in
        steps_per_epoch=steps,
        shuffle=False,
        callbacks=callbacks,
        verbose=1 if sys.stdout.isatty() else 2,
    )


def compiled(model, phase: Phase, recipe: Recipe) -> keras.Model:
    """Return the network as the phase trains it, on the model's own weights: what is frozen runs folded."""
    patterns = model.layer_groups
    freeze(model, [pattern for group, pattern in patterns.items() if group not in phase.rates])
    trained = strategy.shared(fold(model, where=lambda norm: not norm.trainable))
    # The rate is a placeholder: the range test and SGDR set it before any step.
    accumulated = recipe.accumulate if recipe.accumulate > 1 else None
    optimizer = FusedSGD(1e-3, momentum=recipe.momentum, gradient_accumulation_steps=accumulated)
    trained.compile(
        with_layer_groups(optimizer, [(patterns[group], rate) for group, rate in phase.rates.items()]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return trained


def _peak(run, model, cache, phase, number, board, say) -> float:
    """Return the phase's peak rate: the one given, or a tenth of where the loss diverges."""
    recipe = run.recipe
    if not recipe.range_test:
        return recipe.lr
    say(f"{phase.name}: learning rate range test, {sweep_steps(cache, phase, recipe)} steps")
    test = range_test(model, cache, phase, recipe)
    try:
        result = test.result()
    except ValueError as error:
        if recipe.lr is None:
            # The run has begun, and its folder is there.
            raise TrainingError(f"{error} Or give the rate with --lr, in another --run-dir.") from error
        say(f"{phase.name}: the range test cannot be read ({error}); the rate given is {recipe.lr:.2g}")
        return recipe.lr
    with writing(run.folder):
        if strategy.is_chief():
            kept.keep_range_test(run, number, phase.name, test)
        if board:
            board.write_range_test(test, f"lr_range_test/{phase.name}")
    if not result["clear"]:
        say(f"{phase.name}: the curve of the range test is not clear of its noise, so this is a guess")
    given = "" if recipe.lr is None else f"; the rate given is {recipe.lr:.2g}"
    say(f"{phase.name}: the loss diverges at {result['divergence']:.2g}, a tenth is {result['suggestion']:.2g}{given}")
    return result["suggestion"] if recipe.lr is None else recipe.lr


def sweep_steps(cache, phase: Phase, recipe: Recipe) -> int:
    """Return the updates of the range test before a phase."""
    updates = pipeline.steps_per_epoch(len(cache), recipe) // recipe.accumulate
    return recipe.sweep_steps(phase.epochs * updates)


def range_test(model, cache, phase: Phase, recipe: Recipe, metric: str = "loss") -> LRRangeTest:
    """Sweep the rate over as many epochs as the steps need, and leave the model as it was."""
    # A step of the recipe is an update; batches that only accumulate gradients are steps to Keras.
    steps = sweep_steps(cache, phase, recipe) * recipe.accumulate
    epochs = -(-steps // pipeline.steps_per_epoch(len(cache), recipe))
    batches = pipeline.training_batches(cache, recipe, 0, epochs)
    probe = None
    if recipe.lr_probe and metric == "loss":
        # Images as training sees them, cut otherwise than in any epoch of the run.
        count = -(-recipe.lr_probe // recipe.part_size)
        probe = list(pipeline.training_batches(cache, recipe, PROBE_EPOCH, count).take(count))
    low, high = recipe.lr_bounds
    kept.seed_dropout(model, recipe.seed, 0)
    return lr_range_test(model, batches, min_lr=low, max_lr=high, steps=steps, metric=metric, probe=probe)


def _board(run, caches, phase) -> TensorBoard:
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
        class_names=get_node(run.config["node"]).classes,
        preprocess=preprocess.normalise,
        from_logits=True,
    )
