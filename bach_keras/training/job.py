"""A job: one node to train, on which images, from which start, by which recipe, into which folder."""

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bach_keras.fields import shown
from bach_keras.provenance import Provenance
from bach_keras.recipe import Recipe
from bach_keras.run_folder import Run, recipe_as_json, versions
from bach_keras.training import devices
from bach_keras.training.batches import ImageCache, cache_images, steps_per_epoch
from bach_keras.training.building import network
from bach_keras.training.labels import check_answers
from bach_keras.training.start import Start
from bach_keras.tree import Node
from datasets.errors import UserError
from datasets.labels import LABELS
from datasets.sets import note_on_patients, patients_in_common
from datasets.split_data import SplitData

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One node to train."""

    node: Node
    data: SplitData
    start: Start
    recipe: Recipe
    folder: Path  # the run folder
    # Stop after the epoch whose training loss reaches that of this run's best validated epoch; the recipe's epochs are
    # then the most that are trained (Koné & Boulmane 2018, section 5).
    stop_at: Run | None = None
    tensorboard: bool = False  # write event files into the run folder

    @cached_property
    def files(self) -> dict[str, list[str]]:
        """Split name -> the file names whose label trains this node; refuses a split that cannot train it."""
        labels, config = self.data.labels, self.data.config
        unknown = sorted({file for files in self.data.files.values() for file in files} - set(labels))
        if unknown:
            raise UserError(
                f"The split names {len(unknown)} images that config {config} does not hold, such as "
                f"{shown(unknown[0])}: it belongs to another config, or was changed."
            )
        targets = self.node.targets
        files = {name: [file for file in held if labels[file] in targets] for name, held in self.data.files.items()}
        check_answers(self.node, {labels[file] for file in self.data.files["train"]}, config)
        return files

    @property
    def digest(self) -> str:
        """SHA-256 of all images of the node, as they were prepared."""
        return self.data.digest(name for names in self.files.values() for name in names)

    @property
    def provenance(self) -> Provenance:
        """The images that train and choose, those of the runs that it comes from included."""
        found = Provenance.of(self.data.prepared.digests, self.files["train"], self.files.get("validation", []))
        if self.start.parent:
            found |= self.start.parent.provenance
        # These chose the epoch of the run that says when to stop, so they choose here as well.
        if self.stop_at:
            found |= self.stop_at.provenance.choice
        return found

    @property
    def settings(self) -> dict:
        """What config.json says of a run that starts now."""
        parent = self.start.parent
        settings = {
            "node": self.node.name,
            "config": self.data.config,
            "protocol": self.data.protocol,
            **self.start.recorded,
            "recipe": recipe_as_json(self.recipe),
            "versions": versions(),
            "split": self.data.files,
            "split_origin": self.data.origin,
            "images_sha256": self.digest,
            **self.provenance.fields,
            "ancestors": parent.lineage if parent else [],
        }
        settings |= {"weights_origin": self.start.origin} if self.start.origin else {}
        return settings | ({"until": self.stop_at.loss_to_reach(self.node.name)} if self.stop_at else {})

    def check_validation(self) -> None:
        """Refuse validation images that trained the start, or that also train: their accuracy would flatter."""
        digests = self.data.prepared.digests
        validation = {name: digests[name] for name in self.files.get("validation", [])}
        self.start.check(validation, Provenance.of(digests, self.files["train"]))
        trained = self.start.parent.provenance.trained_on if self.start.parent else ()
        if said := note_on_patients(patients_in_common(trained, validation, self.data.data_dir)):
            LOG.warning(said)

    def cache(self, split: str) -> ImageCache:
        """Read the node's images of a split, resized, with the node's answers."""
        targets = {LABELS.index(label): answer for label, answer in self.node.targets.items()}
        return cache_images(self.data.images(self.files[split]), targets, self.recipe.view)

    def check(self) -> None:
        """Refuse what would fail, or flatter, once a run has started."""
        devices.check(self.recipe, devices.count())
        self.check_validation()
        steps_per_epoch(len(self.files["train"]), self.recipe)
        for other in filter(None, (self.start.parent, self.stop_at)):
            if self.folder.resolve() == other.folder.resolve():
                raise UserError(f"{self.folder} is the run that this one comes from: choose another --run-dir.")
        if self.stop_at and self.stop_at.recipe.class_weights != self.recipe.class_weights:
            raise UserError(
                f"The loss of {self.stop_at.folder} is weighted otherwise than this run's would be, so it cannot say "
                "when to stop: train with its --class-weights."
            )
        # Weights that do not fit are found now, and not after a folder was made.
        if not self.start.is_random:
            self.start.load(network(self.recipe))
