"""A run as a member of the tree: ``RUN[:WEIGHT]``, where RUN is a run folder or ``RUN/snapshots/NAME``."""

import logging
from dataclasses import replace
from pathlib import Path

from bach_keras import temperatures
from bach_keras.hierarchy import Member
from bach_keras.run_folder import Run
from datasets.errors import UserError

LOG = logging.getLogger(__name__)

# A whole-data member cannot be validated, so the paper trusts it less.
WHOLE_DATA_WEIGHT = 0.5


def load_members(specs: dict[str, tuple[str, ...]], views: int = 1) -> list[Member]:
    """Load all members of a tree: node name -> specs as ``load_member`` takes them."""
    return [load_member(node, spec, views) for node, given in specs.items() for spec in given]


def load_member(node: str, spec: str, views: int = 1) -> Member:
    """Load one member of the tree, with the temperature that was fitted on so many views of an image, if one was.

    Its weight is 1 for a run with validation images, else .5, unless given.

    Raises:
        UserError: no such run, another node's run, an unfinished one, a bad weight, or a temperature that was fitted
            to other weights.
    """
    member = uncalibrated_member(node, spec)
    run, weights = Run.open(run_folder(spec)), weights_of(spec)
    entry = temperatures.read(run, weights, views)
    if entry is None:
        if others := temperatures.views_of(run, weights):
            LOG.warning(
                f"{run.folder} was calibrated on {', '.join(map(str, others))} views of an image and not on {views}, "
                "so its temperature is left out."
            )
        return member
    temperatures.check_digest(run, weights, entry, member.digest)
    return replace(member, temperature=entry["temperature"], fitted_views=views)


def uncalibrated_member(node: str, spec: str) -> Member:
    """Load one member of the tree as ``load_member`` does, without a temperature that was fitted."""
    place, weight = place_and_weight(spec)
    is_snapshot = place.parent.name == "snapshots"
    run = Run.open(run_folder(spec))
    if run.node != node:
        raise UserError(f"{place} is a run of {run.node}, so it cannot be given as --{node}.")
    metrics, provenance = run.metrics(), run.provenance
    model = run.read_model()
    if is_snapshot:
        run.load_snapshot(model, place.name)
    if weight is None:
        weight = 1.0 if run.settings["split"].get("validation") else WHOLE_DATA_WEIGHT
    return Member(
        node=node,
        model=model,
        view=run.recipe.view,
        weight=weight,
        # No run writes one into its settings. A config.json that names one by hand is obeyed, until one is fitted.
        temperature=run.settings.get("temperature", 1.0),
        source=str(place),
        config=run.settings["config"],
        provenance=provenance,
        # These are the finished run's and say nothing about a snapshot.
        metrics={} if is_snapshot else metrics,
        weights_origin=run.settings.get("weights_origin", {}),
    )


def weights_of(spec: str) -> str:
    """Return which weights of its run a spec means: ``model``, or ``snapshots/NAME``."""
    place, _ = place_and_weight(spec)
    return f"snapshots/{place.name.removesuffix('.weights.h5')}" if place.parent.name == "snapshots" else "model"


def run_folder(spec: str) -> Path:
    """Return the run folder of a spec as ``load_member`` takes it."""
    place, _ = place_and_weight(spec)
    return place.parent.parent if place.parent.name == "snapshots" else place


def place_and_weight(spec: str) -> tuple[Path, float | None]:
    """Split ``RUN:WEIGHT``; a name without a weight gives None."""
    place, colon, text = spec.rpartition(":")
    if not colon or Path(spec).exists():
        return Path(spec), None
    try:
        weight = float(text)
    except ValueError:
        return Path(spec), None
    if not 0 < weight < float("inf"):
        raise UserError(f"The weight in {spec!r} must be a positive number.")
    return Path(place), weight
