"""The phases of a training: which groups of layers learn, for how long, at which share of the rate."""

from dataclasses import dataclass

from bach_keras.recipe import Recipe
from bach_keras.training.start import Start
from callbacks.sgdr import cycle_ends


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one choice of trained groups."""

    name: str  # head or middle+head; where nothing is frozen all, and all-restarts for the second
    rates: dict[str, float]  # group -> multiplier of the rate; the other groups are frozen
    cycle_epochs: int  # of its first cycle
    cycles: int
    cycle_mult: int  # each cycle is this many times as long as the one before
    continues: bool = False  # whether it trains the groups of the phase before it, and so at its rate
    number: int = 0  # which of the run's phases it is, from 0
    first_epoch: int = 0  # the run's epochs before it

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
        # Two phases of one name would be one curve and one snapshot in the run folder.
        everything = {"trunk": 1.0, "middle": 1.0, "head": 1.0}
        first, second = ("all", everything), ("all-restarts" if recipe.head_epochs else "all", everything)
    else:
        # Large gradients of a new head would spoil trained layers, so it learns alone first.
        first = ("head", {"head": 1.0})
        second = ("middle+head", {"middle": recipe.middle_multiplier, "head": 1.0})
    planned = []
    if recipe.head_epochs:
        planned.append(Phase(*first, recipe.head_epochs, 1, 1))
    if recipe.cycles:
        cycles = recipe.cycle_epochs, recipe.cycles, recipe.cycle_mult
        again = bool(planned) and start.is_random
        planned.append(Phase(*second, *cycles, again, number=len(planned), first_epoch=recipe.head_epochs))
    return planned


def snapshot_epochs(recipe: Recipe, start: Start) -> dict[int, str]:
    """Return epoch -> the name of the snapshot kept at its end: the cycles' ends, over all phases."""
    return {
        phase.first_epoch + end: f"cycle-{phase.number}-{index + 1}"
        for phase in phases(recipe, start)
        for index, end in enumerate(phase.cycle_ends)
    }
