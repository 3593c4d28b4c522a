"""Where a training starts: what ``--init`` names, whether it may, and putting its weights into a network."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

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
from datasets.errors import UserError


@dataclass(frozen=True)
class Start:
    """Where a network's weights come from: a file, a run, or neither."""

    init: str  # what the user asked for: none, imagenet, histology, a file or a run folder
    weights: Path | None = None  # a file of trained weights
    parent: Run | None = None

    @property
    def is_random(self) -> bool:
        return self.weights is None and self.parent is None

    @property
    def name(self) -> str:
        """What a folder of runs from this start is called."""
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
        return self.parent.settings.get("weights_origin") if self.parent else None

    def adapted(self, recipe: Recipe) -> Recipe:
        """Return the recipe with a network for images normalised as those were that the weights come from."""
        if self.is_random:
            return recipe
        own = self.facts.normalisation if self.facts else self.parent.recipe.backbone.get("normalisation", IMAGENET)
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

    def load(self, model, with_head: bool = False) -> None:
        """Put the weights into a new network; a random start leaves it as it is."""
        if self.parent is not None:
            # A parent of another node answers another question, so its head is of no use.
            copy_weights(self.parent.read_model(), model, but=None if with_head else model.layer_groups["head"])
        elif self.weights is not None:
            load_weights(model.features(), self.weights)


# Start by name -> what its weights are called, and the command that gets them.
_NAMED = {
    IMAGENET: ("ImageNet weights", "weights fetch"),
    HISTOLOGY: ("weights trained on H&E tissue", "weights fetch --which pcam' or 'weights fetch --which kather100k"),
}


def start_from(init: str | None, config: str) -> Start:
    """Return the start that ``--init`` names; by default ImageNet's weights, and random ones on phantom."""
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
    if path.is_dir():
        parent = Run.open(path)
        if not parent.is_finished:
            raise UserError(f"{path} has not finished training, so nothing can start from it: --resume it first.")
        return Start(init, parent=parent)
    if not path.is_file():
        raise UserError(f"--init {init} is neither imagenet, histology, none, a weights file nor a run folder.")
    return Start(init, weights=path)


def starts_from(init: str | None, config: str, node: str, run_dir: Path) -> dict[str, Start]:
    """Return the starts to try, by name: several for ``best`` and ``best:RUN``, else the one that is asked for."""
    # best:RUN names carci's run; without a name it is looked for where train puts it by default.
    word, _, named = (init or "").partition(":")
    if word != "best":
        return {"start": start_from(init, config)}
    if node == ROOT.name:
        raise UserError(f"--init best starts a specialist from {ROOT.name} or from elsewhere; {node} cannot.")
    carci = Path(named) if named else run_dir.with_name(f"{config}-{ROOT.name}")
    if not (carci / "config.json").is_file():
        raise UserError(
            f"--init best needs a finished run of {ROOT.name}, and there is none at {carci}: train it, "
            "or name it with --init best:RUN."
        )
    plain = "none" if config == "phantom" else "imagenet"
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
