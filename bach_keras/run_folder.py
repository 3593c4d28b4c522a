"""The folder of a run: what is in it, how it is written, and how it is read as a member of the tree."""

import csv
import json
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from bach_keras import run_fields
from bach_keras.fields import FieldError, plain, read_object
from bach_keras.recipe import Recipe
from bach_keras.wording import counted
from datasets.errors import UserError

# A whole-data member cannot be validated, so the paper trusts it less.
WHOLE_DATA_WEIGHT = 0.5


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        folder: where it is.
        config: what ``config.json`` says: ``node``, ``config``, ``protocol``, ``init``, ``recipe``,
            ``versions``, ``split`` (split name -> file names), ``split_origin`` (its ``seed``,
            ``patients_sha256`` and ``note``), ``trained_on`` and ``chosen_on`` (file names, the
            ancestors' included), ``ancestors``.
    """

    folder: Path
    config: dict

    @property
    def recipe(self) -> Recipe:
        return run_fields.read_recipe(self.config["recipe"])

    def names(self, field: str) -> list[str]:
        """Return the file names under ``trained_on`` or ``chosen_on``, or the folders under ``ancestors``.

        Raises:
            UserError: config.json does not say, so that no leak could be seen.
        """
        if field not in self.config or (field == "trained_on" and not self.config[field]):
            raise _not_written(self.folder / "config.json", f"{field} is missing or empty")
        return self.config[field]

    @property
    def model_path(self) -> Path:
        return self.folder / "model.keras"

    @property
    def is_finished(self) -> bool:
        return _is_finished(self.folder)


def _is_finished(folder: Path) -> bool:
    return (folder / "metrics.json").is_file()


def open_run(folder: str | os.PathLike) -> Run:
    """Read a run folder.

    Raises:
        UserError: there is no run, or its config.json is broken.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{folder} is no run folder: it has no config.json. Train one with 'train --run-dir'.")
    try:
        config = read_object(path)
        run_fields.check_config(config)
    except ValueError as error:
        raise _not_written(path, error) from error
    return Run(folder, config)


def _not_written(path: Path, reason) -> UserError:
    return UserError(f"{path} is not what a run writes ({str(reason).rstrip('.')}): train the run again.")


def read_metrics(run: Run) -> dict:
    """Return what a finished run's metrics.json holds.

    Raises:
        UserError: the run has not finished, or the file is broken.
    """
    path = run.folder / "metrics.json"
    if not run.is_finished:
        raise UserError(f"{run.folder} has not finished training: go on with 'train --resume'.")
    try:
        return run_fields.check_metrics(read_object(path), run.config["node"])
    except ValueError as error:
        raise _not_written(path, error) from error


def read_system(path: Path) -> dict:
    """Return what the metrics.json of an evaluation holds.

    Raises:
        UserError: the file is broken.
    """
    try:
        return run_fields.check_system(read_object(path))
    except ValueError as error:
        raise UserError(f"{path} is not what an evaluation writes ({error}): delete it to score again.") from error


def best_epoch(run: Run) -> dict[str, str]:
    """Return the row of history.csv of a finished run's best epoch.

    Raises:
        UserError: the run has not finished, or a file of it is broken.
    """
    metrics = read_metrics(run)
    try:
        return run_fields.best_row(read_history(run), metrics)
    except FieldError as error:
        raise _not_written(run.folder / "history.csv", error) from error


def create_run(folder: str | os.PathLike, config: dict, overwrite: bool = False) -> Run:
    """Make a new run folder and write its config.json; see ``set_aside`` for one that is there.

    Raises:
        UserError: the folder holds something already.
    """
    folder = Path(folder)
    set_aside(folder, overwrite)
    # Whole or not at all: a folder without config.json would be taken for something that is no run.
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "snapshots").mkdir(parents=True)
    write_json(partial / "config.json", config)
    partial.rename(folder)
    return Run(folder, config)


def set_aside(folder: Path, overwrite: bool) -> None:
    """Make room for a new run; with ``overwrite`` one that is there is kept as ``<folder>.previous``.

    An unfinished run does not take the place of a finished one that is kept so: it goes.

    Raises:
        UserError: the folder holds something, and it may not be moved.
    """
    if check_destination(folder, overwrite):
        previous = folder.with_name(f"{folder.name}.previous")
        if _is_finished(previous) and not _is_finished(folder):
            shutil.rmtree(folder)
            return
        if previous.exists():
            shutil.rmtree(previous)
        folder.rename(previous)
    elif folder.exists():
        folder.rmdir()  # empty


def check_destination(folder: str | os.PathLike, overwrite: bool = False) -> bool:
    """Return whether a run is there that would be replaced.

    Raises:
        UserError: the folder holds a run and ``overwrite`` is not set, or holds something else.
    """
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds something that is no run: choose another --run-dir.")
    if not overwrite:
        raise UserError(
            f"{folder} holds a run already: choose another --run-dir, go on with --resume, "
            "or start again with --overwrite."
        )
    return True


def provenance(used: dict[str, list[str]], parent: Run | None, until: Run | None = None) -> dict:
    """Return what trains and what chooses, as config.json holds it.

    The images of the runs it comes from are its own too; those that chose the epoch of a run that says when to
    stop have chosen here.
    """
    before = {name: parent.names(name) if parent else [] for name in ("trained_on", "chosen_on", "ancestors")}
    told = until.names("chosen_on") if until else []
    return {
        "trained_on": sorted({*used["train"], *before["trained_on"]}),
        "chosen_on": sorted({*used.get("validation", []), *before["chosen_on"], *told}),
        "ancestors": [*before["ancestors"], *([str(parent.folder)] if parent else [])],
    }


def differences(run: Run, wanted: dict) -> list[str]:
    """Return what differs between a run and what is asked of it, in words; empty where they agree.

    Args:
        run: the run.
        wanted: the parts of a ``config.json`` to compare.
    """
    found = []
    # As a file gives it back: lists, no tuples.
    for name, value in json.loads(json.dumps(wanted)).items():
        # A run that was begun before a number of the recipe was thought of has that number's default.
        there = json.loads(json.dumps(recipe_as_json(run.recipe))) if name == "recipe" else run.config.get(name)
        if name in ("recipe", "versions"):
            there = there or {}
            keys = sorted({*there, *value})
            found += [_changed(key, there.get(key), value.get(key)) for key in keys if there.get(key) != value.get(key)]
        elif name == "split":
            moved = sum(set(there.get(part, [])) != set(value.get(part, [])) for part in {*there, *value})
            found += (
                [f"{counted(moved, 'part')} of the split hold{'s' if moved == 1 else ''} other images"] if moved else []
            )
        elif there != value:
            found.append(_changed(name, there, value))
    return found


def _changed(name: str, was, now) -> str:
    return f"{plain(name, 60)} was {plain(str(was), 200)}, is {plain(str(now), 200)}"


def loss_to_reach(run: Run, node: str) -> dict:
    """Return the training loss of a run's best validated epoch, as config.json holds it.

    Raises:
        UserError: another node's run, an unfinished one, or one without validation images.
    """
    if run.config["node"] != node:
        raise UserError(f"{run.folder} is a run of {run.config['node']}, so it cannot say when {node} stops.")
    metrics = read_metrics(run)
    if "accuracy" not in metrics:
        raise UserError(f"{run.folder} kept no validation images, so no epoch of it is the best: name another run.")
    return {"run": str(run.folder), "epoch": metrics["best_epoch"], "loss": float(best_epoch(run)["loss"])}


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers depend on."""
    packages = ("tensorflow", "keras", "keras-cv", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def recipe_as_json(recipe: Recipe) -> dict:
    """Return a recipe as config.json holds it."""
    return asdict(recipe)


def write_json(path: Path, value) -> None:
    """Write JSON whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)


def read_history(run: Run) -> list[dict[str, str]]:
    """Return the rows of history.csv, one an epoch.

    Raises:
        UserError: the file is missing or broken.
    """
    path = run.folder / "history.csv"
    try:
        return run_fields.read_rows(path)
    except FieldError as error:
        raise _not_written(path, error) from error


def write_history(path: Path, rows: list[dict]) -> None:
    """Write the epochs as CSV, whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)


def read_model(path: Path):
    """Build the network of a run folder, and fill it from the ``model.keras`` in it.

    Nothing that the file names is built or called: it gives numbers, if they are those of the run's network.

    Raises:
        UserError: the file is missing, broken or of another network.
    """
    from bach_keras.network.head import Classifier, weight_count
    from bach_keras.network.saved import read_keras

    if not path.is_file():
        raise UserError(f"{path} is not there: the run has not finished. Go on with 'train --resume'.")
    recipe = open_run(path.parent).recipe
    if path.stat().st_size < 4 * weight_count(**recipe.backbone):
        raise UserError(f"{path} is too small for the network that its run says it holds: train the run again.")
    model = Classifier(recipe.image_size, backbone=recipe.backbone, seed=recipe.seed)
    try:
        read_keras(model, path)
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise UserError(f"{reason}: it cannot be read as a model of this project. Train the run again.") from error
    return model


def load_member(node: str, spec: str):
    """Load one member of the tree from ``RUN`` or ``RUN:WEIGHT``.

    RUN is a run folder or ``RUN/snapshots/NAME``. The weight is 1 for a run trained
    on a split, .5 for one trained on all its images, unless given.

    Returns:
        A ``bach_keras.hierarchy.Member``.

    Raises:
        UserError: no such run, another node's run, an unfinished one, or a bad weight.
    """
    from bach_keras.hierarchy import Member
    from bach_keras.preprocess import View
    from bach_keras.provenance import Provenance

    place, weight = place_and_weight(spec)
    snapshot = place.parent.name == "snapshots"
    run = open_run(run_folder(spec))
    if run.config["node"] != node:
        raise UserError(f"{place} is a run of {run.config['node']}, so it cannot be given as --{node}.")
    metrics = read_metrics(run)
    trained_on, chosen_on = (frozenset(run.names(name)) for name in ("trained_on", "chosen_on"))
    model = read_model(run.model_path)
    if snapshot:
        load_snapshot(model, place)
    if weight is None:
        weight = 1.0 if run.config["split"].get("validation") else WHOLE_DATA_WEIGHT
    return Member(
        node=node,
        model=model,
        view=View(run.recipe.image_size, run.recipe.stain_normalisation),
        weight=weight,
        temperature=run.config.get("temperature", 1.0),
        source=str(place),
        config=run.config["config"],
        provenance=Provenance(trained_on, chosen_on, frozenset([run.config["protocol"]])),
        # What was measured is the finished run's, and says nothing of a snapshot.
        metrics={} if snapshot else metrics,
    )


def load_members(specs: dict[str, tuple[str, ...]]) -> list:
    """Load all members of a tree: node name -> specs as ``load_member`` takes them."""
    return [load_member(node, spec) for node, given in specs.items() for spec in given]


def load_snapshot(model, path: Path) -> None:
    """Read a snapshot's weights, ``snapshots/NAME`` with or without its ending, into a model.

    Raises:
        UserError: there is none, or it does not fit.
    """
    file = path if path.name.endswith(".weights.h5") else path.with_name(f"{path.name}.weights.h5")
    if not file.is_file():
        there = sorted(each.name.removesuffix(".weights.h5") for each in path.parent.glob("*.weights.h5"))
        raise UserError(f"There is no snapshot {path}: this run has {', '.join(there) or 'none'}.")
    from bach_keras.network.saved import read_weights

    try:
        read_weights(model, file)
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise UserError(f"{reason}: the snapshot does not fit its run's network. Train the run again.") from error


def run_folder(spec: str) -> Path:
    """Return the run folder of a spec as ``load_member`` takes it."""
    place, _ = place_and_weight(spec)
    return place.parent.parent if place.parent.name == "snapshots" else place


def place_and_weight(spec: str) -> tuple[Path, float | None]:
    """Part ``RUN:WEIGHT``; a name without a weight gives None."""
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
