"""Where a training starts: what ``--init`` names, whether it may, and putting its weights into a network."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from bach_keras import exported_members
from bach_keras.exported_members import ExportedMember
from bach_keras.network.facts import Facts
from bach_keras.network.published import HISTOLOGY
from bach_keras.network.resnext import normalisation_of
from bach_keras.network.weights import default_path, facts_of_file, load_weights
from bach_keras.normalisation import IMAGENET
from bach_keras.provenance import Provenance
from bach_keras.recipe import Recipe
from bach_keras.run_folder import Run
from bach_keras.tree import ROOT
from bach_keras.wording import counted
from datasets.config_names import parts_of
from datasets.errors import UserError
from datasets.own.names import is_own

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Where a network's weights come from: a file, a run, a member of an export, or none of these."""

    init: str  # none, imagenet, histology, a file, a run folder, or EXPORT:NODE
    weights: Path | None = None  # a file of trained weights
    parent: Run | ExportedMember | None = None
    keeps_head: bool = False  # whether the parent's head is taken too, which answers the same question

    @property
    def is_random(self) -> bool:
        return self.weights is None and self.parent is None

    @property
    def name(self) -> str:
        """What a folder of runs from this start is called."""
        if isinstance(self.parent, ExportedMember):
            return f"{self.parent.folder.parent.name}-{self.parent.name}"
        return self.init if self.init in ("none", *_NAMED) else Path(self.init).stem

    @cached_property
    def facts(self) -> Facts | None:
        """What is known of the file of weights; None where there is none."""
        return facts_of_file(self.weights) if self.weights else None

    @property
    def origin(self) -> dict | None:
        """What config.json says of the public weights that a run comes from; a parent's are its own too."""
        if self.facts:
            return {"source": self.facts.source, "licence": self.facts.licence, "sha256": self.facts.sha256}
        return self.parent.weights_origin if self.parent else None

    def adapted(self, recipe: Recipe) -> Recipe:
        """Return the recipe with a network for images normalised as those were that the weights come from."""
        if self.is_random:
            return recipe
        own = self.facts.normalisation if self.facts else self.parent.backbone.get("normalisation", IMAGENET)
        others = {name: value for name, value in recipe.backbone.items() if name != "normalisation"}
        # Left out where it is the default, so that such runs stay what they were.
        return replace(recipe, backbone=others if own == IMAGENET else {**others, "normalisation": own})

    def check(self, validation: Mapping[str, str], training: Provenance) -> None:
        """Refuse validation images (name -> SHA-256) that trained the run to start from, or that train here too."""
        if seen := training.trained(validation):
            raise UserError(
                f"{len(seen)} of the {counted(len(validation), 'image')} that would validate have the pixels of a "
                f"training image ({training.in_words(seen, validation)}), so the accuracy would mean nothing: remove "
                "one of each two and prepare the set again, or choose another --protocol or --split-seed."
            )
        origin = self.parent.provenance if self.parent else Provenance()
        if seen := origin.trained(validation):
            count = len(validation)
            raise UserError(
                f"{self.parent.folder} trained on {len(seen)} of the {counted(count, 'image')} that "
                f"{'is' if count == 1 else 'are'} to validate here "
                f"({origin.in_words(seen, validation)}), so the accuracy would mean "
                "nothing: start from a run of the same --protocol and --split-seed, or train under the split it had."
            )
        if said := origin.namesakes(validation):
            LOG.warning(f"{self.parent.folder}: {said}")

    def load(self, model) -> None:
        """Put the weights into a new network; a random start leaves it as it is."""
        if self.parent is not None:
            # A parent of another node answers another question, so its head is of no use.
            copy_weights(self.parent.read_model(), model, but=None if self.keeps_head else model.layer_groups["head"])
        elif self.weights is not None:
            load_weights(model.features(), self.weights)

    def __str__(self):
        """What is taken of it, in words."""
        if self.parent is None:
            return self.init
        taken = [f"{self.parent.node}'s head kept" if self.keeps_head else "new head"]
        if isinstance(self.parent, ExportedMember) and self.parent.precision != "float32":
            taken.append(f"weights as {self.parent.precision} rounded them")
        return f"{self.init} ({', '.join(taken)})"

    @property
    def recorded(self) -> dict:
        """What config.json says of it."""
        return {"init": self.init} | ({"head": "kept"} if self.keeps_head else {})


# Start by name -> what its weights are called, and the command that gets them.
_NAMED = {
    IMAGENET: ("ImageNet weights", "weights fetch"),
    HISTOLOGY: (
        "weights trained on H&E tissue",
        "weights fetch --which pcam' or 'weights fetch --which 1aurent/resnext50_32x4d.tiatoolbox-kather100k",
    ),
}


def start_from(init: str | None, config: str, node: str | None = None, head: str | None = None) -> Start:
    """Return the start that ``--init`` names; by default ImageNet's weights, and random ones on phantom.

    ``node`` is the one that is trained, None for all three; ``head`` is ``keep``, ``new``, or None for the default: it
    is kept of a member of an export of that node, and of a run of that node where the user's own images train.
    """
    start = _start_from(init, config, node)
    parent = start.parent
    if head and parent is None:
        raise UserError(
            f"--head says what to do with the head of a run or an export, and --init {start.init} has none."
        )
    if head == "keep" and parent.node != node:
        raise UserError(
            f"--head keep is for a start of the node that is trained: {start.init} is of {parent.node}, whose head "
            f"answers another question than {node}'s."
        )
    if parent is None or parent.node != node:
        return start
    # Runs that continue on the project's own sets have had new heads from the first version on.
    keeps = isinstance(parent, ExportedMember) or any(map(is_own, parts_of(config)))
    return replace(start, keeps_head=keeps if head is None else head == "keep")


def start_of_run(settings: dict) -> Start:
    """Return the start of a run by its config.json."""
    start = _start_from(settings["init"], settings["config"], settings["node"])
    return replace(start, keeps_head=settings.get("head") == "kept")


def recorded_init(init: str, node: str) -> str:
    """Return an ``--init`` as config.json has it: a member of an export by its full name, all else as it is."""
    member = exported_members.find(init, node)
    return member.spelled if member else init


def _start_from(init: str | None, config: str, node: str | None) -> Start:
    init = init or ("none" if config == "phantom" else "imagenet")
    if init == "none":
        return Start(init)
    if init in _NAMED:
        path, (words, command) = default_path(init), _NAMED[init]
        if not path.is_file():
            raise UserError(
                f"There are no {words} at {path}: get them with '{command}', name a file with --init FILE.h5, or start "
                "from random weights with --init none."
            )
        return Start(init, weights=path)
    path = Path(init)
    if not (path / "config.json").is_file() and (member := exported_members.find(init, node)):
        return Start(member.spelled, parent=member)
    if path.is_dir():
        parent = Run.open(path)
        if not parent.is_finished:
            raise UserError(f"{path} has not finished training, so nothing can start from it: --resume it first.")
        return Start(init, parent=parent)
    if not path.is_file():
        raise UserError(
            f"--init {init} is neither imagenet, histology, none, a weights file, a run folder nor an export."
        )
    return Start(init, weights=path)


def starts_from(init: str | None, config: str, node: str, run_dir: Path, head: str | None = None) -> dict[str, Start]:
    """Return the starts to try, by name: several for ``best`` and ``best:RUN``, else the one that is asked for."""
    # best:RUN names carci's run, or its member of an export; without a name it is where train puts it by default.
    word, _, named = (init or "").partition(":")
    if word != "best":
        return {"start": start_from(init, config, node, head)}
    if head:
        raise UserError("--head is for one start, and --init best tries several, each with a new head.")
    if node == ROOT.name:
        raise UserError(f"--init best starts a specialist from {ROOT.name} or from elsewhere; {node} cannot.")
    plain = "none" if config == "phantom" else "imagenet"
    if named and (member := exported_members.find(named, ROOT.name)):
        return {plain: start_from(plain, config), ROOT.name: Start(member.spelled, parent=member)}
    carci = Path(named) if named else run_dir.with_name(f"{config}-{ROOT.name}")
    if not (carci / "config.json").is_file():
        raise UserError(
            f"--init best needs a finished run of {ROOT.name}, and there is none at {carci}: train it, "
            "or name it with --init best:RUN."
        )
    return {plain: start_from(plain, config), ROOT.name: start_from(str(carci), config)}


def copy_weights(source, target, but: str | None = None) -> None:
    """Copy a network's weights into one of the same layers, except paths that match a pattern."""
    values, wanted = (
        {weight.path: weight for weight in network.weights if but is None or not re.search(but, weight.path)}
        for network in (source, target)
    )
    if (given := normalisation_of(source)) != (own := normalisation_of(target)):
        raise UserError(
            f"The run to start from has a network for images normalised as {given}, and this one's is for {own}: "
            "start from a run like it."
        )
    # A parent of another backbone would give some layers and leave others random.
    if {p: w.shape for p, w in values.items()} != {p: w.shape for p, w in wanted.items()}:
        raise UserError("The run to start from has another network than this one: start from a run like it.")
    for path, weight in wanted.items():
        weight.assign(values[path])
