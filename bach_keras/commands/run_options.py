"""Training a run again: the options of ``train`` by its config.json, and whether they come to the same training."""

from pathlib import Path

import click

from bach_keras.commands.console import say
from bach_keras.commands.options import given_here
from bach_keras.tree import NODES
from datasets.errors import UserError

# Where a context keeps the run that its options are from.
_RUN = "bach_keras.run_to_train_again"

# What config.json says of a training beside its recipe, and the options that decide it.
_SPLIT = frozenset(("config", "protocol", "split_seed", "patients"))
_START = frozenset(("init", "head"))
_DECIDED_BY = {
    "config": _SPLIT, "protocol": _SPLIT, "split": _SPLIT, "split_origin": _SPLIT, "images_sha256": _SPLIT,
    "init": _START, "head": _START, "ancestors": _START, "weights_origin": _START, "until": frozenset(("stop_at",)),
}  # fmt: skip
_RECIPE = (
    "image_size", "batch_size", "accumulate", "precision", "head_epochs", "cycles", "cycle_epochs", "cycle_mult",
    "warm_start", "max_epochs", "range_test", "lr_steps", "crops", "stain_jitter", "brightness", "stain_normalisation",
    "seed",
)  # fmt: skip


def options_of_run(context: click.Context, file: Path) -> dict:
    """Return the options that train a run again, as a TOML file would say them; places of files are not among them."""
    from bach_keras.run_folder import Run

    if file.name != "config.json":
        raise UserError(f"--options {file}: the only JSON file it takes is a run's config.json.")
    run = Run.open(file.parent)
    if run.settings.get("changes"):
        raise UserError(
            f"{run.folder} was resumed with other settings (see changes in its config.json), so no one training is "
            "like it: give the options yourself."
        )
    context.meta[_RUN] = run
    settings, recipe = run.settings, run.recipe
    options = {name: settings[name] for name in ("node", "config", "protocol", "init")}
    options["split-seed"] = settings.get("split_origin", {}).get("seed", 0)
    options |= {name.replace("_", "-"): getattr(recipe, name) for name in _RECIPE}
    options |= {"lr": "auto" if recipe.lr is None else recipe.lr, "class-weights": _weights(recipe, run.node)}
    if not recipe.range_test:
        options["lr-steps"] = None  # which train takes with a range test alone
    if "until" in settings:
        options["until"] = settings["until"]["run"]
    if _has_head(settings, run.node):
        options["head"] = {"kept": "keep"}.get(settings.get("head"), "new")
    options["tensorboard"] = settings.get("tensorboard", False)
    return {name: value for name, value in options.items() if value is not None}


def _weights(recipe, node: str) -> str:
    """Return the class weights as ``--class-weights`` takes them, to the last digit."""
    weights = recipe.class_weights
    if isinstance(weights, str):
        return weights
    return ",".join(f"{name}={weight!r}" for name, weight in zip(NODES[node].classes, weights, strict=True))


def _has_head(settings: dict, node: str) -> bool:
    """Say whether a run started from a member of its own node, whose head could be kept or not."""
    from bach_keras.training.start import start_of_run

    try:
        parent = start_of_run(settings).parent
    except UserError:  # the start is not there, which matters only if the training takes it
        return False
    return parent is not None and parent.node == node


def check_same_training(job) -> None:
    """Refuse a job by a run's config.json that would not train as that run did; what the user gave may differ."""
    context = click.get_current_context()
    run = context.meta.get(_RUN)
    if run is None:
        return
    given = {name for name in context.params if given_here(context, name)}
    changed = run.differences(_compared(run, job, given))
    if changed:
        sheet = run.settings.get("split_origin", {}).get("patients_sha256") and "patients" not in given
        hint = " Give its sheet of patients with --patients." if sheet else ""
        raise UserError(
            f"The options of {run.folder / 'config.json'} do not train the same here: {'; '.join(changed)}. Bring back "
            f"what it had, or give the options yourself.{hint}"
        )
    if versions := run.differences({"versions": job.settings["versions"]}):
        say(f"Figures can differ from those of {run.folder} in their last digits: {'; '.join(versions)}.", err=True)


def _compared(run, job, given: set[str]) -> dict:
    """Return what config.json would say of a job, as far as the run decides it."""
    from bach_keras.run_folder import recipe_as_json

    now, held = {"head": "new"} | job.settings, recipe_as_json(run.recipe)
    wanted = {name: now.get(name) for name, options in _DECIDED_BY.items() if not options & given}
    if "weights_origin" not in run.settings:
        wanted.pop("weights_origin", None)  # a run of an earlier version did not write it down
    # The normalisation of a network's images comes from its start.
    free = given | ({"backbone"} if _START & given else set()) | ({"lr_steps"} if "range_test" in given else set())
    recipe = {name: held[name] if name in free else value for name, value in recipe_as_json(job.recipe).items()}
    return wanted | {"recipe": recipe}
