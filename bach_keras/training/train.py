"""Train one node, top to bottom: data, network, two phases, the best epoch, its run folder."""

import contextlib
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from bach_keras import run_folder as runs
from bach_keras.evidence import metrics
from bach_keras.evidence.stains import in_words as stains_in_words
from bach_keras.fields import shown
from bach_keras.network.head import Classifier
from bach_keras.recipe import Recipe
from bach_keras.training import batches as pipeline
from bach_keras.training import checkpoint as kept
from bach_keras.training import devices as strategy
from bach_keras.training.fit import fit_phase
from bach_keras.training.phases import Start, phases, snapshot_epochs
from bach_keras.training.stops import writing
from bach_keras.tree import Node, get_node
from bach_keras.wording import counted
from datasets.errors import UserError
from datasets.labels import LABELS


def seed_everything(seed: int) -> None:
    """Make what follows repeatable bit for bit on the CPU: every random stream starts here."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def train(
    data,
    node_name: str,
    start: Start,
    recipe: Recipe,
    run_dir,
    overwrite=False,
    say=print,
    until: runs.Run | None = None,
    tensorboard: bool = False,
) -> dict:
    """Train one node and write its run folder.

    Args:
        data: a ``datasets.split_data.SplitData``: the configuration under a protocol.
        node_name: ``carci``, ``norbe`` or ``invis``.
        start: where the weights come from.
        recipe: the numbers.
        run_dir: the run folder.
        overwrite: keep a run that is there as ``<run_dir>.previous`` and begin anew.
        say: prints a line of progress.
        until: stop after the epoch whose training loss reaches that of this run's best validated epoch; the
            recipe's epochs are then the most that are trained.
        tensorboard: write the event files of ``callbacks.tensorboard`` into ``<run_dir>/tensorboard``.

    Returns:
        What ``metrics.json`` holds; nothing on a host that is not the chief.

    Raises:
        UserError: the data cannot train this node, the run folder is taken, ``until`` does not fit, or
            the recipe is not for as many devices.
        TrainingError: the loss diverged, the disk is full, or another host was lost.
    """
    node = get_node(node_name)
    used = node_files(data, node)
    config = _config(data, node, used, start, recipe, until) | {"tensorboard": tensorboard}
    strategy.check(recipe)
    _check(start, until, used, recipe, run_dir)
    runs.check_destination(run_dir, overwrite)
    strategy.wait()  # or a host that looks late would find the run that the chief begins
    run = runs.create_run(run_dir, config, overwrite) if strategy.is_chief() else runs.Run(Path(run_dir), config)
    strategy.wait()  # or one that reads early would go on from the run that is replaced
    return _train(run, data, node, start, used, say)


def _check(start, until, used, recipe, run_dir) -> None:
    """Refuse what would fail, or flatter, once a run has begun."""
    check_start(start, used)
    pipeline.steps_per_epoch(len(used["train"]), recipe)
    for other in filter(None, (start.parent, until)):
        if Path(run_dir).resolve() == other.folder.resolve():
            raise UserError(f"{run_dir} is the run that this one comes from: choose another --run-dir.")
    if not start.is_random:
        load_start(network(recipe), start)


def check_start(start: Start, used: dict[str, list[str]]) -> None:
    """Refuse a start from a run that trained on images which are to validate.

    Args:
        start: where the weights come from.
        used: split name -> the node's file names.

    Raises:
        UserError: names a few of the images.
    """
    before = start.parent.names("trained_on") if start.parent else ()
    seen = sorted(set(before) & set(used.get("validation", ())))
    if seen:
        count = len(used["validation"])
        raise UserError(
            f"{start.parent.folder} trained on {len(seen)} of the {counted(count, 'image')} that "
            f"{'is' if count == 1 else 'are'} to validate here "
            f"({', '.join(seen[:3])}{', ...' if len(seen) > 3 else ''}), so the accuracy would mean "
            "nothing: start from a run of the same --protocol and --split-seed, or train under the split it had."
        )


def _config(data, node, used, start, recipe, until) -> dict:
    """Return what config.json says of a run that begins."""
    return {
        "node": node.name,
        "config": data.config,
        "protocol": data.protocol,
        "init": start.init,
        "recipe": runs.recipe_as_json(recipe),
        "versions": runs.versions(),
        "split": data.files,
        "split_origin": data.origin,
        "images_sha256": data.digest(name for names in used.values() for name in names),
        **runs.provenance(used, start.parent, until),
        **({"until": runs.loss_to_reach(until, node.name)} if until else {}),
    }


def resume(data, start: Start, run: runs.Run, say=print, recipe: Recipe | None = None, allow_changes=False) -> dict:
    """Go on with a run that was cut, from its last whole epoch.

    Args:
        data: its data, split as it was.
        start: where it began.
        run: the run.
        say: prints a line of progress.
        recipe: the numbers that are asked for now; its own if not given.
        allow_changes: go on though the recipe or the versions of packages differ, and note it in config.json.

    Raises:
        UserError: the run is finished, or what is asked for differs from it.
        TrainingError: the loss diverged, or the disk is full.
    """
    if run.is_finished:
        raise UserError(f"{run.folder} is finished: there is nothing to resume.")
    recipe = recipe or run.recipe
    strategy.check(recipe)
    node = get_node(run.config["node"])
    used = node_files(data, node)
    now = {
        "recipe": runs.recipe_as_json(recipe),
        "versions": runs.versions(),
        "images_sha256": data.digest(name for names in used.values() for name in names),
    }
    changed = runs.differences(run, now)
    if changed and not allow_changes:
        raise UserError(
            f"{run.folder} cannot go on as it began: {'; '.join(changed)}. Give it what it had, train anew in another "
            "--run-dir, or go on regardless with --allow-changes."
        )
    if changed:
        _check_changes(run, recipe)
        say(f"going on with changes: {'; '.join(changed)}")
        progress = kept.load(run)
        noted = [*run.config.get("changes", []), {"after_epoch": progress.epoch, "changed": changed}]
        run = runs.Run(run.folder, {**run.config, **now, "changes": noted})
        if strategy.is_chief():
            runs.write_json(run.folder / "config.json", run.config)
            kept.forget_lost_best(run, progress)
    return _train(run, data, node, start, used, say)


# What a recipe cannot change on the way: the optimizer's variables, and how epochs count as steps.
_FIXED = ("precision", "batch_size", "accumulate", "head_epochs")


def _check_changes(run, recipe) -> None:
    fixed = [name for name in _FIXED if getattr(run.recipe, name) != getattr(recipe, name)]
    if fixed:
        raise UserError(
            f"{run.folder} cannot go on with another {', '.join(fixed)}, with --allow-changes either: its state would "
            "not fit. Train anew in another --run-dir."
        )


def train_or_go_on(
    data, node_name: str, start: Start, recipe: Recipe, run_dir, say=print, until=None, tensorboard=False
) -> dict:
    """Train a node, go on with a run of the same that was cut, or take the result of one that is finished.

    Takes, returns and raises what ``train`` does.

    Raises:
        UserError: a run is there that was trained otherwise.
    """
    if not runs.check_destination(run_dir, overwrite=True):
        return train(data, node_name, start, recipe, run_dir, say=say, until=until, tensorboard=tensorboard)
    run = runs.open_run(run_dir)
    node = get_node(node_name)
    wanted = _config(data, node, node_files(data, node), start, recipe, until)
    if run.is_finished:
        del wanted["versions"]  # what is done is done, and config.json says with which
    changed = runs.differences(run, wanted)
    if changed:
        raise UserError(
            f"{run_dir} holds another run than the one wanted here: {'; '.join(changed)}. Move it away, or choose "
            "another place."
        )
    if not run.is_finished:
        say(f"{node_name}: going on with {run_dir}")
        return resume(data, start, run, say)
    say(f"{node_name}: {run_dir} is finished already")
    kept.remove(run)  # it may have been cut right after its last file
    return runs.read_metrics(run)


def node_files(data, node: Node) -> dict[str, list[str]]:
    """Return split name -> the file names whose label trains this node.

    Raises:
        UserError: one of the node's two classes has no training image, or an image is not there.
    """
    labels = data.labels
    unknown = sorted({file for files in data.files.values() for file in files} - set(labels))
    if unknown:
        raise UserError(
            f"The split names {len(unknown)} images that config {data.config} does not hold, such as "
            f"{shown(unknown[0])}: it is another config's, or was changed."
        )
    used = {name: [file for file in files if labels[file] in node.targets] for name, files in data.files.items()}
    there = {node.targets[labels[file]] for file in used["train"]}
    for index, answer in enumerate(node.classes):
        if index not in there:
            wanted = " or ".join(node.labels[index])
            raise UserError(
                f"{node.title} tells {node.classes[0]} from {node.classes[1]}, but no training image of "
                f"config {data.config} is labelled {wanted}, so it cannot learn {answer}: "
                "train carci on it, or choose --config bach or bach_bisque."
            )
    return used


def _train(run: runs.Run, data, node, start, used, say) -> dict:
    """Train what is left of a run.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM.
    """
    try:
        return _train_to_the_end(run, data, node, start, used, say)
    except KeyboardInterrupt as cause:
        raise kept.interrupted(run, getattr(data, "data_dir", None), cause) from cause


def _train_to_the_end(run: runs.Run, data, node, start, used, say) -> dict:
    recipe = run.recipe
    seed_everything(recipe.seed)
    targets = {LABELS.index(label): answer for label, answer in node.targets.items()}
    caches = {
        name: pipeline.cache_images(data.images(used[name]), targets, recipe)
        for name in ("train", "validation")
        if used.get(name)
    }
    stains = {name: cache.stains for name, cache in caches.items() if cache.stains}
    for name, found in stains.items():
        say(f"{name} images: {stains_in_words(found)}")
    progress = kept.load(run)
    with strategy.scope(), precision(recipe.precision):
        model = network(recipe)
        load_start(model, start)
        progress.restore_weights(model)
        keeper = kept.Keeper(run, model, progress, snapshot_epochs(recipe, start))
        first_epoch = 0
        for number, phase in enumerate(phases(recipe, start)):
            if progress.epoch < first_epoch + phase.epochs and not progress.reached:
                fit_phase(keeper, caches, phase, number, first_epoch, say)
            first_epoch += phase.epochs

    if not strategy.is_chief():
        return {}
    # Anew in full precision: evaluation and export take it so.
    model = network(recipe)
    runs.load_snapshot(model, run.folder / "snapshots" / "best")
    with writing(run.folder):
        _save_model(run, model)
    validation = caches.get("validation")
    best = progress.best["epoch"]
    result = {"kind": "node", "node": node.name, "epochs": progress.epoch, "best_epoch": best}
    result["seconds"] = round(progress.seconds, 1)
    if stains:
        result["stains"] = stains
    if validation:
        say(f"the best epoch is {best}; checking it on the validation images")
        answers = np.argmax(model.predict(pipeline.evaluation_batches(validation, recipe), verbose=0), axis=1)
        matrix = metrics.confusion(validation.targets, answers, 2)
        result |= metrics.scores(matrix)
        result |= {"split": "validation", "confusion_matrix": matrix.tolist(), "chosen_on": "validation"}
        say(f"validation accuracy {metrics.in_words(result)}; these images also chose the epoch")
    else:
        say("this protocol keeps no validation images, so there is no accuracy to report")
    if until := run.config.get("until"):
        result |= {"until": until, "reached": progress.reached}
        outcome = "reached" if progress.reached else "not reached"
        say(f"the training loss of {until['run']}, {until['loss']:.4f}, was {outcome} by epoch {progress.epoch}")
    with writing(run.folder):
        runs.write_json(run.folder / "metrics.json", result)
        kept.remove(run)
    return result


def network(recipe: Recipe) -> Classifier:
    """Return a node's network with random weights."""
    return Classifier(recipe.image_size, backbone=recipe.backbone, seed=recipe.seed)


@contextlib.contextmanager
def precision(name: str):
    """Build what is built inside under a dtype policy of Keras."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def load_start(model, start: Start):
    """Put the weights that a run starts from into a new network; none leaves it random."""
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
