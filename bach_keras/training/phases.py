"""Where a training starts, and its phases: which groups of layers learn, for how long, at which share of the rate."""

from dataclasses import dataclass
from pathlib import Path

from bach_keras import run_folder as runs
from bach_keras.recipe import Recipe
from callbacks.sgdr import cycle_ends


@dataclass(frozen=True)
class Start:
    """Where a network's weights come from.

    Attributes:
        init: what the user asked for: ``none``, ``imagenet``, a file or a run folder.
        weights: a file of ImageNet weights, or None.
        parent: the run it starts from, or None.
    """

    init: str
    weights: Path | None = None
    parent: runs.Run | None = None

    @property
    def is_random(self) -> bool:
        return self.weights is None and self.parent is None


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one choice of trained groups.

    Attributes:
        name: ``head`` or ``middle+head``; where nothing is frozen ``all``, and ``all-restarts`` for the second.
        rates: group -> multiplier of the rate; the other groups are frozen.
        cycle_epochs: epochs of its first cycle.
        cycles: how many.
        cycle_mult: each is this many times as long as the one before.
        continues: whether it trains the groups of the phase before it, and so at its rate.
    """

    name: str
    rates: dict[str, float]
    cycle_epochs: int
    cycles: int
    cycle_mult: int
    continues: bool = False

    @property
    def cycle_ends(self) -> tuple[int, ...]:
        """After how many epochs of the phase each cycle ends."""
        return cycle_ends(self.cycle_epochs, self.cycles, self.cycle_mult)

    @property
    def epochs(self) -> int:
        return self.cycle_ends[-1]


def phases(recipe: Recipe, start: Start) -> list[Phase]:
    """Return the phases of Koné & Boulmane (2018), section 3.3; from random weights nothing is frozen."""
    if start.is_random:
        everything = {"trunk": 1.0, "middle": 1.0, "head": 1.0}
        first, second = ("all", everything), ("all-restarts" if recipe.head_epochs else "all", everything)
    else:
        first = ("head", {"head": 1.0})
        second = ("middle+head", {"middle": recipe.middle_multiplier, "head": 1.0})
    planned = []
    if recipe.head_epochs:
        planned.append(Phase(*first, recipe.head_epochs, 1, 1))
    if recipe.cycles:
        again = bool(planned) and start.is_random
        planned.append(Phase(*second, recipe.cycle_epochs, recipe.cycles, recipe.cycle_mult, continues=again))
    return planned


def snapshot_epochs(recipe: Recipe, start: Start) -> dict[int, str]:
    """Return epoch -> the name of the snapshot kept at its end: the cycles' ends, over all phases."""
    names, first_epoch = {}, 0
    for number, phase in enumerate(phases(recipe, start)):
        names |= {first_epoch + end: f"cycle-{number}-{index + 1}" for index, end in enumerate(phase.cycle_ends)}
        first_epoch += phase.epochs
    return names
