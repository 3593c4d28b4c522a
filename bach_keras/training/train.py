"""Train one node, top to bottom: the run folder of its job, the network, its phases, the best epoch."""

import contextlib
import json
import logging

from scipy.special import softmax

from bach_keras import run_fields
from bach_keras.evidence import metrics, predictions
from bach_keras.evidence.curves import curves_figure
from bach_keras.evidence.stains import in_words as stains_in_words
from bach_keras.recipe import Recipe
from bach_keras.run_folder import Run, recipe_as_json, versions
from bach_keras.run_place import check_destination
from bach_keras.training import balance, checkpoint, devices
from bach_keras.training.batches import evaluation_batches
from bach_keras.training.building import network, precision, seed_everything
from bach_keras.training.checkpoint import STATE_SHARE, Checkpoint, interruptible
from bach_keras.training.fit import fit_phase
from bach_keras.training.job import Job
from bach_keras.training.phases import phases, snapshot_epochs
from bach_keras.training.stops import writing
from datasets.errors import UserError, working

LOG = logging.getLogger(__name__)


def create(job: Job, overwrite: bool = False) -> Run:
    """Make the run folder of a job; with ``overwrite`` a run that exists is kept as ``<folder>.previous``."""
    settings = job.settings | {"tensorboard": job.tensorboard}
    try:
        run_fields.check_config(settings)
    except UserError as error:  # a run with such settings could be trained, and never be read again
        raise UserError(f"No run can have these settings: {error}.") from error
    job.check()
    check_destination(job.folder, overwrite)
    devices.wait()  # or a host that looks late would find the run that the chief creates
    run = Run.create(job.folder, settings, overwrite) if devices.is_chief() else Run(job.folder, settings)
    devices.wait()  # or one that reads early would resume the run that is replaced
    return run


def reopen(job: Job, allow_changes: bool = False) -> Run:
    """Open the run folder of a job, to resume its training from the last complete epoch.

    With ``allow_changes`` the recipe, the versions of packages and the images may differ; config.json notes it.
    """
    run = Run.open(job.folder)
    devices.check(job.recipe, devices.count())
    now = {**_settings_now(job.recipe), "images_sha256": job.digest}
    changed = _check_resumable(run, job.recipe, now, allow_changes)
    with _alone(run):
        return _reopened(run, job, now, changed)


def _reopened(run: Run, job: Job, now: dict, changed: list[str]) -> Run:
    if changed:
        LOG.info(f"resuming with changes: {'; '.join(changed)}")
        # A reader of the result must see that it is not of one recipe.
        progress = checkpoint.load(run)
        noted = [*run.settings.get("changes", []), {"after_epoch": progress.epoch, "changed": changed}]
        # Images that changed have trained it as they were, too.
        images = (run.provenance | job.provenance).fields
        run = Run(run.folder, {**run.settings, **now, **images, "changes": noted})
        if devices.is_chief():
            run.write_settings()
            checkpoint.forget_lost_best(run, progress)
    if devices.is_chief():
        run.remove_unfinished()
    return run


def check_resumable(run: Run, recipe: Recipe, allow_changes: bool = False) -> None:
    """Refuse what ``reopen`` would refuse whatever the images are, so before they are prepared."""
    _check_resumable(run, recipe, _settings_now(recipe), allow_changes)


def _settings_now(recipe: Recipe) -> dict:
    return {"recipe": recipe_as_json(recipe), "versions": versions()}


def _check_resumable(run: Run, recipe: Recipe, now: dict, allow_changes: bool) -> list[str]:
    """Return in words what differs, where that is allowed."""
    if run.is_finished:
        if devices.is_chief():
            # It may have been killed right after its last file. A folder that is read-only stays as it is.
            with contextlib.suppress(OSError, UserError), run.alone():
                checkpoint.remove(run)
        raise _nothing_to_resume(run)
    changed = run.differences(now)
    if changed and not allow_changes:
        raise UserError(
            f"Cannot resume {run.folder} because these settings changed: {'; '.join(changed)}. Give it what it had, "
            "start from scratch in another --run-dir, or use --allow-changes to resume anyway."
        )
    if changed:
        _check_changes(run, recipe)
    return changed


def _nothing_to_resume(run: Run) -> UserError:
    return UserError(f"{run.folder} is finished: there is nothing to resume.")


# A recipe cannot change the optimizer's variables, how epochs count as steps, or what an epoch is ranked by, while a
# run is under way.
_FIXED = ("precision", "batch_size", "accumulate", "head_epochs", "class_weights")


def _check_changes(run: Run, recipe: Recipe) -> None:
    fixed = [name for name in _FIXED if getattr(run.recipe, name) != getattr(recipe, name)]
    if fixed:
        raise UserError(
            f"{run.folder} cannot be resumed with another {', '.join(fixed)}, not even with --allow-changes: its state "
            "would not fit. Start from scratch in another --run-dir."
        )


def train(job: Job, run: Run, callbacks=(), state_share: float = STATE_SHARE) -> dict:
    """Train what is left of a job, and write its run folder.

    Args:
        job: what to train.
        run: its folder, as ``create`` or ``reopen`` gives it.
        callbacks: Keras callbacks that come last in every phase.
        state_share: the most of the time that may go into writing the state to resume from.

    Returns:
        What ``metrics.json`` holds; nothing on a host that is not the chief.

    Raises:
        TrainingError: the loss diverged, the disk is full, or another host was lost.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    with _alone(run), interruptible(run, job.data.data_dir), working():
        if devices.is_chief():
            _check_still_its(run)
        # The run's recipe is the job's, as the file has it: all hosts and every resumption read the same numbers.
        recipe, start = run.recipe, job.start
        seed_everything(recipe.seed)

        # Images are resized once and stay in memory; each epoch crops and turns them in its own way.
        caches = {name: job.cache(name) for name in ("train", "validation") if job.files.get(name)}
        stains = {name: cache.stains for name, cache in caches.items() if cache.stains}
        for name, found in stains.items():
            LOG.info(f"{name} images: {stains_in_words(found)}")
        if said := balance.in_words(job.node, recipe, caches["train"].counts):
            LOG.info(said)

        # Each phase takes up where the state says, so that a resumed run passes over those that are done.
        progress = checkpoint.load(run)
        with devices.scope(), precision(recipe.precision):
            model = network(recipe)
            start.load(model)
            progress.restore_weights(model)
            keeper = Checkpoint(run, model, progress, snapshot_epochs(recipe, start), state_share)
            for phase in phases(recipe, start):
                if progress.epoch < phase.first_epoch + phase.epochs and not progress.reached:
                    fit_phase(keeper, caches, phase, callbacks)
        if not devices.is_chief():
            return {}

        # The network is built again in full precision, which evaluation and export take.
        model = network(recipe)
        run.load_snapshot(model, "best")
        with writing(run.folder):
            run.write_model(model)
        best = progress.best["epoch"]
        result = {"kind": "node", "node": job.node.name, "epochs": progress.epoch, "best_epoch": best}
        result["seconds"] = round(progress.seconds, 1)
        if stains:
            result["stains"] = stains

        # The validation images chose the epoch, so their accuracy flatters; the line and the file say so.
        if validation := caches.get("validation"):
            LOG.info(f"the best epoch is {best}; checking it on the validation images")
            logits = model.predict(evaluation_batches(validation, recipe), verbose=0)
            rows = predictions.node_rows(job.node, job.data, validation.filenames, softmax(logits, axis=1))
            with writing(run.folder):
                predictions.write_predictions(run.folder / predictions.FILE, rows)
            targets, pairs = [job.node.targets[row["truth"]] for row in rows], [row[job.node.name] for row in rows]
            result |= metrics.scores(targets, pairs, job.node.classes, [row["group"] for row in rows])
            result |= {"split": "validation", "chosen_on": "validation"}
            LOG.info(f"validation accuracy {metrics.both_in_words(result)}; these images also chose the epoch")
        else:
            LOG.info("this protocol keeps no validation images, so there is no accuracy to report")
        if until := run.settings.get("until"):
            result |= {"until": until, "reached": progress.reached}
            outcome = "reached" if progress.reached else "not reached"
            LOG.info(
                f"the training loss of {until['run']}, {until['loss']:.4f}, was {outcome} by epoch {progress.epoch}"
            )

        # metrics.json is what makes a run a finished one, so it comes last.
        with writing(run.folder):
            run.write_curves(curves_figure(run.history(), best))
            run.write_metrics(result)
            checkpoint.remove(run)
        return result


def _alone(run: Run):
    return run.alone() if devices.is_chief() else contextlib.nullcontext()  # other hosts write nothing


def _check_still_its(run: Run) -> None:
    """Refuse a folder that another process used before this one could lock it."""
    if Run.open(run.folder).settings != json.loads(json.dumps(run.settings)):
        raise UserError(f"Another process started a run in {run.folder} meanwhile: choose another --run-dir.")
    if run.is_finished:
        raise _nothing_to_resume(run)


def finish(job: Job, **options) -> dict:
    """Train a job, resume a run of the same that was interrupted, or take the result of one that is finished.

    Takes ``train``'s options. Refuses a run that was trained with other settings.
    """
    if not check_destination(job.folder, overwrite=True):
        return train(job, create(job), **options)
    # It may be another run that happens to stand there, and its result would pass for this one's.
    run = Run.open(job.folder)
    wanted = {"head": "new"} | job.settings
    if run.is_finished:
        del wanted["versions"]  # a finished run keeps its result, and config.json says with which versions
    if "weights_origin" not in run.settings:
        wanted.pop("weights_origin", None)  # it is of an earlier version, which did not write it down
    if changed := run.differences(wanted):
        raise UserError(
            f"{job.folder} holds another run than the one wanted here: {'; '.join(changed)}. Move it away, or choose "
            "another place."
        )
    if not run.is_finished:
        LOG.info(f"{job.node.name}: resuming {job.folder}")
        return train(job, reopen(job), **options)
    LOG.info(f"{job.node.name}: {job.folder} is finished already")
    checkpoint.remove(run)  # it may have been interrupted right after its last file
    return run.metrics()
