"""The folder of a run: the only room that knows which files are in it, what they say, and how they are written."""

import csv
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from bach_keras import run_changes, run_fields
from bach_keras.fields import FieldError, read_object
from bach_keras.provenance import Provenance
from bach_keras.recipe import Recipe
from bach_keras.run_place import is_finished, link_or_copy, only_trainer, set_aside
from datasets.errors import UserError
from datasets.whole import whole, whole_folder, write_json

_WEIGHTS = ".weights.h5"


@dataclass(frozen=True)
class Run:
    """A run folder."""

    folder: Path
    # What config.json says: node, config, protocol, init, head (where it was kept), recipe, versions, split (split name
    # -> file names), split_origin (its seed and note; the sheet of patients as patients and patients_sha256),
    # trained_on, chosen_on and pixels (the ancestors' included), ancestors.
    settings: dict

    @classmethod
    def open(cls, folder: str | os.PathLike) -> "Run":
        """Read a run folder; refuses one whose config.json is not what a run writes."""
        folder = Path(folder)
        path = folder / "config.json"
        if not path.is_file():
            raise UserError(f"{folder} is not a run folder: it has no config.json. Train one with 'train --run-dir'.")
        try:
            settings = read_object(path)
            run_fields.check_config(settings)
        except UserError as error:
            raise _not_written(path, error) from error
        return cls(folder, settings)

    @classmethod
    def create(cls, folder: str | os.PathLike, settings: dict, overwrite: bool = False) -> "Run":
        """Make a new run folder and write its config.json; see ``set_aside`` for one that exists."""
        folder = Path(folder)
        # A folder without config.json would be taken for something that is not a run.
        with whole_folder(folder) as partial:
            (partial / "snapshots").mkdir()
            write_json(partial / "config.json", settings)
            set_aside(folder, overwrite)
        return cls(folder, settings)

    @property
    def node(self) -> str:
        return self.settings["node"]

    @property
    def recipe(self) -> Recipe:
        return run_fields.read_recipe(self.settings["recipe"])

    @property
    def provenance(self) -> Provenance:
        """Which images trained this run and its ancestors; refuses a config.json that does not say."""
        for name in ("trained_on", "chosen_on"):
            # A run without training images does not exist: a leak would not be seen.
            if name not in self.settings or (name == "trained_on" and not self.settings[name]):
                raise _not_written(self.folder / "config.json", f"{name} is missing or empty")
        try:
            return Provenance.read(self.settings, {self.settings["protocol"]})
        except UserError as error:
            raise _not_written(self.folder / "config.json", error) from error

    @property
    def backbone(self) -> dict:
        """How its network differs from ResNeXt-50."""
        return self.recipe.backbone

    @property
    def weights_origin(self) -> dict | None:
        """The public weights that it comes from."""
        return self.settings.get("weights_origin")

    @property
    def lineage(self) -> list[str]:
        """What a run that starts here has as its ancestors: those of this one, and this one."""
        return [*self.settings.get("ancestors", []), str(self.folder)]

    @property
    def is_finished(self) -> bool:
        return is_finished(self.folder)

    @property
    def model_path(self) -> Path:
        return self.folder / "model.keras"

    @property
    def state_path(self) -> Path:
        """The state to resume from; a finished run has none."""
        return self.folder / "state.npz"

    @property
    def snapshots(self) -> list[str]:
        """The names of the snapshots: ``best``, and the ends of cycles."""
        return sorted(path.name.removesuffix(_WEIGHTS) for path in self.folder.glob(f"snapshots/*{_WEIGHTS}"))

    def write_settings(self) -> None:
        """Write config.json again, with settings that changed."""
        write_json(self.folder / "config.json", self.settings)

    def metrics(self) -> dict:
        """Return what metrics.json holds; refuses a run that has not finished."""
        path = self.folder / "metrics.json"
        if not self.is_finished:
            raise UserError(f"{self.folder} has not finished training: resume it with 'train --resume'.")
        try:
            return run_fields.check_metrics(read_object(path), self.node)
        except UserError as error:
            raise _not_written(path, error) from error

    def write_metrics(self, metrics: dict) -> None:
        """Write metrics.json, which makes the run a finished one."""
        write_json(self.folder / "metrics.json", metrics)

    def history(self) -> list[dict[str, str]]:
        """Return the rows of history.csv, one an epoch."""
        path = self.folder / "history.csv"
        try:
            return run_fields.read_rows(path)
        except FieldError as error:
            raise _not_written(path, error) from error

    @property
    def has_history(self) -> bool:
        return (self.folder / "history.csv").is_file()

    def write_history(self, rows: list[dict]) -> None:
        """Write the epochs as CSV."""
        with whole(self.folder / "history.csv") as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def range_tests(self) -> list[dict]:
        """Return what lr_range_test.json holds, one entry a phase; a run without range tests has none."""
        path = self.folder / "lr_range_test.json"
        try:
            return run_fields.read_range_tests(path) if path.is_file() else []
        except FieldError as error:
            raise _not_written(path, error) from error

    def write_curves(self, figure) -> None:
        """Write a figure of the history as curves.png."""
        with whole(self.folder / "curves.png") as partial:
            figure.savefig(partial, dpi=110)

    def best_row(self) -> dict[str, str]:
        """Return the row of history.csv of the best epoch of a finished run."""
        metrics = self.metrics()
        try:
            return run_fields.best_row(self.history(), metrics)
        except FieldError as error:
            raise _not_written(self.folder / "history.csv", error) from error

    def loss_to_reach(self, node: str) -> dict:
        """Return the training loss of the best validated epoch, where another run of the node is to stop."""
        if self.node != node:
            raise UserError(f"{self.folder} is a run of {self.node}, so it cannot say when {node} stops.")
        metrics = self.metrics()
        if "accuracy" not in metrics:
            raise UserError(
                f"{self.folder} kept no validation images, so none of its epochs is the best: name another run."
            )
        return {"run": str(self.folder), "epoch": metrics["best_epoch"], "loss": float(self.best_row()["loss"])}

    def write_range_test(self, phase, test) -> None:
        """Add a phase's range test to lr_range_test.json, and draw it."""
        # A phase that was interrupted in its first epoch runs its test again.
        entries = [*self.range_tests()[: phase.number], {"phase": phase.name, **test.result()}]
        write_json(self.folder / "lr_range_test.json", entries)
        with whole(self.folder / f"lr_range_test{f'_{phase.number + 1}' if phase.number else ''}.png") as partial:
            test.plot(partial)

    def write_snapshots(self, model, names: list[str]) -> None:
        """Write a model's weights once, under each of the names."""
        from bach_keras.network.h5 import room_of

        first, *others = (self.folder / "snapshots" / f"{name}{_WEIGHTS}" for name in names)
        with whole(first, room_of(model.weights)) as partial:
            model.save_weights(partial)
        for other in others:
            with whole(other) as partial:
                link_or_copy(first, partial)

    def load_snapshot(self, model, name: str) -> None:
        """Read a snapshot's weights into a model; refuses one that is missing or does not fit."""
        from bach_keras.network.saved import read_weights

        name = name.removesuffix(_WEIGHTS)
        path = self.folder / "snapshots" / f"{name}{_WEIGHTS}"
        if not path.is_file():
            there = ", ".join(self.snapshots) or "none"
            raise UserError(f"There is no snapshot {path.parent / name}: this run has {there}.")
        try:
            read_weights(model, path)
        except UserError as error:
            reason = str(error).rstrip(".")
            raise UserError(f"{reason}: the snapshot does not fit its run's network. Train the run again.") from error

    def write_model(self, model) -> None:
        """Write model.keras."""
        with whole(self.model_path) as partial:
            model.save(partial)

    def read_model(self):
        """Build the run's network, and fill it from model.keras.

        Nothing that the file names is built or called: it gives numbers, if they are those of the run's network.
        """
        from bach_keras.network.head import Classifier, weight_count
        from bach_keras.network.saved import read_keras

        path, recipe = self.model_path, self.recipe
        if not path.is_file():
            raise UserError(f"{path} is not there: the run has not finished. Resume it with 'train --resume'.")
        if path.stat().st_size < 4 * weight_count(**recipe.backbone):
            raise UserError(f"{path} is too small for the network that its run says it holds: train the run again.")
        model = Classifier(recipe.image_size, backbone=recipe.backbone, seed=recipe.seed)
        try:
            read_keras(model, path)
        except UserError as error:
            reason = str(error).rstrip(".")
            raise UserError(f"{reason}: it cannot be read as a model of this project. Train the run again.") from error
        return model

    def alone(self):
        """Let only this process train the run in this context; a ``UserError`` says that another one does."""
        return only_trainer(self.folder)

    def remove_unfinished(self) -> None:
        """Remove what a process that was interrupted or killed left half-written."""
        for folder in (self.folder, self.folder / "snapshots"):
            for path in folder.glob(".*part*"):  # the names that earlier versions gave among them
                path.unlink(missing_ok=True)

    def differences(self, wanted: dict) -> list[str]:
        """Return in words where the run's settings differ from those that are wanted; empty where they agree."""
        # A run that is older than a number of the recipe has that number's default, and one that kept a head says so.
        held = {"head": "new", **self.settings, "recipe": recipe_as_json(self.recipe)}
        return run_changes.differences(held, wanted)


def _not_written(path: Path, reason) -> UserError:
    return UserError(f"{path} is not what a run writes ({str(reason).rstrip('.')}): train the run again.")


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers depend on."""
    packages = ("tensorflow", "keras", "keras-cv", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def recipe_as_json(recipe: Recipe) -> dict:
    """Return a recipe as config.json holds it."""
    return asdict(recipe)
