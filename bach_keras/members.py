"""A run as a member of the tree: ``RUN[:WEIGHT]``, where RUN is a run folder or ``RUN/snapshots/NAME``."""

from pathlib import Path

from bach_keras.hierarchy import Member
from bach_keras.run_folder import Run
from datasets.errors import UserError

# A whole-data member cannot be validated, so the paper trusts it less.
WHOLE_DATA_WEIGHT = 0.5


def load_members(specs: dict[str, tuple[str, ...]]) -> list[Member]:
    """Load all members of a tree: node name -> specs as ``load_member`` takes them."""
    return [load_member(node, spec) for node, given in specs.items() for spec in given]


def load_member(node: str, spec: str) -> Member:
    """Load one member of the tree; its weight is 1 for a run with validation images, else .5, unless given.

    Raises:
        UserError: no such run, another node's run, an unfinished one, or a bad weight.
    """
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
        temperature=run.settings.get("temperature", 1.0),
        source=str(place),
        config=run.settings["config"],
        provenance=provenance,
        # These are the finished run's and say nothing about a snapshot.
        metrics={} if is_snapshot else metrics,
    )


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
