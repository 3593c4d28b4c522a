"""Train one node, top to bottom: data, network, two phases, the best epoch, its run folder."""

import platform
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from bach_keras.evidence import metrics
from bach_keras.network.fold import fold
from bach_keras.network.head import Classifier
from bach_keras.training import pipeline, runs
from bach_keras.training import progress as kept
from bach_keras.training.recipe import Recipe
from bach_keras.tree import Node, get_node
from callbacks.layer_groups import freeze, with_layer_groups
from callbacks.lr_range_test import lr_range_test
from callbacks.sgdr import SGDR, cycle_ends
from datasets.labels import LABELS


@dataclass(frozen=True)
class Start:
    """Where a network's weights come from.

    Attributes:
        init: what the user asked for: ``none``, ``imagenet``, a file or a run folder.
        weights: a file of ImageNet weights, or None.
        parent: the run it starts from, or None.
    """

    init: str
    weights: Path | None = None
    parent: runs.Run | None = None

    @property
    def is_random(self) -> bool:
        return self.weights is None and self.parent is None


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one choice of trained groups.

    Attributes:
        name: ``head`` or ``middle+head``, or ``all`` where nothing is frozen.
        rates: group -> multiplier of the rate; the other groups are frozen.
        cycle_epochs: epochs of its first cycle.
        cycles: how many.
        cycle_mult: each is this many times as long as the one before.
    """

    name: str
    rates: dict[str, float]
    cycle_epochs: int
    cycles: int
    cycle_mult: int

    @property
    def cycle_ends(self) -> tuple[int, ...]:
        """After how many epochs of the phase each cycle ends."""
        return cycle_ends(self.cycle_epochs, self.cycles, self.cycle_mult)

    @property
    def epochs(self) -> int:
        return self.cycle_ends[-1]


def phases(recipe: Recipe, start: Start) -> list[Phase]:
    """Return the phases of Koné & Boulmane (2018), section 3.3; from random weights nothing is frozen."""
    if start.is_random:
        everything = {"trunk": 1.0, "middle": 1.0, "head": 1.0}
        first, second = ("all", everything), ("all", everything)
    else:
        first = ("head", {"head": 1.0})
        second = ("middle+head", {"middle": recipe.middle_multiplier, "head": 1.0})
    planned = []
    if recipe.head_epochs:
        planned.append(Phase(*first, recipe.head_epochs, 1, 1))
    if recipe.cycles:
        planned.append(Phase(*second, recipe.cycle_epochs, recipe.cycles, recipe.cycle_mult))
    return planned


def seed_everything(seed: int) -> None:
    """Make what follows repeatable bit for bit on the CPU: every random stream starts here."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def train(data, node_name: str, start: Start, recipe: Recipe, run_dir, overwrite=False, say=print) -> dict:
    """Train one node and write its run folder.

    Args:
        data: a ``bach_keras.training.data.SplitData``: the configuration under a protocol.
        node_name: ``carci``, ``norbe`` or ``invis``.
        start: where the weights come from.
        recipe: the numbers.
        run_dir: the run folder.
        overwrite: keep a run that is there as ``<run_dir>.previous`` and begin anew.
        say: prints a line of progress.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        ValueError: the data cannot train this node, or the run folder is taken.
    """
    node = get_node(node_name)
    used = node_files(data, node)
    config = {
        "node": node.name,
        "config": data.config,
        "protocol": data.protocol,
        "init": start.init,
        "recipe": runs.recipe_as_json(recipe),
        "versions": _versions(),
        "split": data.files,
        **_provenance(used, start),
    }
    run = runs.create_run(run_dir, config, overwrite)
    return _train(run, data, node, start, used, say)


def resume(data, start: Start, run: runs.Run, say=print) -> dict:
    """Go on with a run that was cut, from its last whole epoch.

    Raises:
        ValueError: the run is finished, or its data has changed since.
    """
    if run.is_finished:
        raise ValueError(f"{run.folder} is finished: there is nothing to resume.")
    if run.config["split"] != data.files:
        raise ValueError(
            f"The {data.config} images or their split are not those {run.folder} began with: "
            "train anew in another --run-dir."
        )
    node = get_node(run.config["node"])
    return _train(run, data, node, start, node_files(data, node), say)


def node_files(data, node: Node) -> dict[str, list[str]]:
    """Return split name -> the file names whose label trains this node.

    Raises:
        ValueError: one of the node's two classes has no training image.
    """
    labels = data.labels
    used = {name: [file for file in files if labels[file] in node.targets] for name, files in data.files.items()}
    there = {node.targets[labels[file]] for file in used["train"]}
    for index, answer in enumerate(node.classes):
        if index not in there:
            wanted = " or ".join(node.labels[index])
            raise ValueError(
                f"{node.title} tells {node.classes[0]} from {node.classes[1]}, but no training image of "
                f"config {data.config} is labelled {wanted}, so it cannot learn {answer}: "
                "train carci on it, or choose --config bach or bach_bisque."
            )
    return used


def _train(run: runs.Run, data, node, start, used, say) -> dict:
    recipe = run.recipe
    seed_everything(recipe.seed)
    targets = {LABELS.index(label): answer for label, answer in node.targets.items()}
    caches = {
        name: pipeline.cache_images(data.images(used[name]), targets, recipe.image_size)
        for name in ("train", "validation")
        if used.get(name)
    }
    steps = pipeline.steps_per_epoch(caches["train"], recipe)
    model = Classifier(recipe.image_size, backbone=recipe.backbone, seed=recipe.seed)
    _load_start(model, start)

    progress = kept.load(run)
    progress.restore_weights(model)
    first_epoch = 0
    for number, phase in enumerate(phases(recipe, start)):
        if progress.epoch < first_epoch + phase.epochs:
            _fit_phase(run, model, caches, steps, number, phase, first_epoch, progress, say)
        first_epoch += phase.epochs

    model = Classifier.from_config(model.get_config())
    runs.load_snapshot(model, run.folder / "snapshots" / "best")
    _save_model(run, model)
    validation = caches.get("validation")
    best = progress.best["epoch"]
    result = {"kind": "node", "node": node.name, "epochs": progress.epoch, "best_epoch": best}
    if validation:
        say(f"the best epoch is {best}; checking it on the validation images")
        answers = np.argmax(model.predict(pipeline.evaluation_batches(validation, recipe), verbose=0), axis=1)
        matrix = metrics.confusion(validation.targets, answers, 2)
        result |= metrics.scores(matrix)
        result |= {"split": "validation", "confusion_matrix": matrix.tolist(), "chosen_on": "validation"}
        say(f"validation accuracy {metrics.in_words(result)}; these images also chose the epoch")
    else:
        say("this protocol keeps no validation images, so there is no accuracy to report")
    runs.write_json(run.folder / "metrics.json", result)
    kept.remove(run)
    return result


def _fit_phase(run, model, caches, steps, number, phase, first_epoch, progress, say):
    recipe = run.recipe
    trained = _compiled(model, phase, recipe)
    done = progress.epoch - first_epoch
    if done:
        progress.restore(model, trained.optimizer)
    else:
        # A phase that trains the same groups as the one before it goes on at its rate.
        if progress.phase != phase.name:
            progress.peak = _peak(run, trained, caches["train"], phase, number, say)
        progress.phase = phase.name
    schedule = SGDR(progress.peak, phase.cycle_epochs * steps, phase.cycles, phase.cycle_mult)
    say(
        f"{phase.name}: {phase.epochs - done} epochs of {steps} steps, "
        f"peak rate {progress.peak:.2g}, cycles end after epochs {', '.join(map(str, phase.cycle_ends))}"
    )
    ends = {first_epoch + end: f"cycle-{number}-{i + 1}" for i, end in enumerate(phase.cycle_ends)}
    validation = caches.get("validation")
    trained.fit(
        pipeline.training_batches(caches["train"], recipe, progress.epoch, phase.epochs - done),
        validation_data=pipeline.evaluation_batches(validation, recipe) if validation else None,
        initial_epoch=progress.epoch,
        epochs=first_epoch + phase.epochs,
        steps_per_epoch=steps,
        shuffle=False,
        callbacks=[_Dropout(recipe.seed, steps), schedule, kept.Keeper(run, model, progress, ends)],
        verbose=1 if sys.stdout.isatty() else 2,
    )


def _compiled(model, phase: Phase, recipe: Recipe) -> keras.Model:
    """Return the network as the phase trains it, on the model's own weights: what is frozen runs folded."""
    patterns = model.layer_groups
    freeze(model, [pattern for group, pattern in patterns.items() if group not in phase.rates])
    trained = fold(model, where=lambda norm: not norm.trainable)
    # The rate is a placeholder: the range test and SGDR set it before any step.
    optimizer = keras.optimizers.SGD(1e-3, momentum=recipe.momentum)
    trained.compile(
        with_layer_groups(optimizer, [(patterns[group], rate) for group, rate in phase.rates.items()]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return trained


def _peak(run, model, cache, phase, number, say) -> float:
    """Return the phase's peak rate: the one given, or a tenth of where the loss diverges."""
    recipe = run.recipe
    say(f"{phase.name}: learning rate range test, {recipe.lr_steps} steps")
    epochs = -(-recipe.lr_steps // pipeline.steps_per_epoch(cache, recipe))
    batches = pipeline.training_batches(cache, recipe, 0, epochs)
    low, high = recipe.lr_bounds
    _seed_dropout(model, recipe.seed, 0)
    test = lr_range_test(model, batches, min_lr=low, max_lr=high, steps=recipe.lr_steps)
    try:
        result = test.result()
    except ValueError as error:
        if recipe.lr is None:
            raise ValueError(f"{error} Or give the rate with --lr.") from error
        say(f"{phase.name}: the range test cannot be read ({error}); the rate given is {recipe.lr:.2g}")
        return recipe.lr
    kept.keep_range_test(run, number, phase.name, test)
    given = "" if recipe.lr is None else f"; the rate given is {recipe.lr:.2g}"
    say(f"{phase.name}: the loss diverges at {result['divergence']:.2g}, a tenth is {result['suggestion']:.2g}{given}")
    return result["suggestion"] if recipe.lr is None else recipe.lr


def _load_start(model, start: Start):
    if start.parent is not None:
        parent = runs.read_model(start.parent.model_path)
        head = model.layer_groups["head"]
        kept.copy_weights(parent, model, but=head)
    elif start.weights is not None:
        from bach_keras.network.weights import load_weights

        load_weights(model.features(), start.weights)


def _save_model(run, model):
    """Write model.keras, whole or not at all."""
    partial = run.folder / ".part.model.keras"
    model.save(partial)
    partial.replace(run.model_path)


def _provenance(used, start: Start) -> dict:
    """Return what trained and what chose, the ancestors' images included."""
    parent = start.parent.config if start.parent else {"trained_on": [], "chosen_on": [], "ancestors": []}
    ancestors = [*parent["ancestors"], str(start.parent.folder)] if start.parent else []
    return {
        "trained_on": sorted({*used["train"], *parent["trained_on"]}),
        "chosen_on": sorted({*used.get("validation", []), *parent["chosen_on"]}),
        "ancestors": ancestors,
    }


def _versions() -> dict[str, str]:
    packages = ("tensorflow", "keras", "keras-cv", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _seed_dropout(model, seed: int, step: int):
    """Set the dropout layers' random state from (seed, step): Keras saves it nowhere."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    for number, layer in enumerate(layers):
        layer.seed_generator.state.assign([seed + number, step])


class _Dropout(keras.callbacks.Callback):
    """Gives each epoch dropout masks of its own, the same whether the run was resumed or not."""

    def __init__(self, seed: int, steps: int):
        super().__init__()
        self.seed, self.steps = seed, steps

    def on_epoch_begin(self, epoch, logs=None):
        _seed_dropout(self.model, self.seed, epoch * self.steps)
