"""Every number of the training recipe (Koné & Boulmane 2018, section 3).

Where the text is silent docs/recipe.md says what was decided and why.
"""

import math
from dataclasses import dataclass, field, replace

from bach_keras.preprocess import View
from datasets.errors import UserError

# Of a range test whose length follows the phase.
FEWEST_STEPS, MOST_STEPS = 20, 100
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
# Of a class; beyond them the other class would hardly count at all.
WEIGHT_BOUNDS = (0.001, 1000.0)


@dataclass(frozen=True)
class Recipe:
    """How one node is trained."""

    image_size: int = 288  # side of the square images, in pixels
    batch_size: int = 10
    head_epochs: int = 3  # of the first phase, one cosine cycle on the head alone
    cycles: int = 4  # warm restarts of the second phase, which trains the middle layers too
    cycle_epochs: int = 3  # of its first cycle
    cycle_mult: int = 2  # each cycle is this many times as long as the one before
    lr: float | None = None  # peak learning rate; None takes the range test's suggestion in each phase
    middle_multiplier: float = 1 / 3  # rate of the middle layers, as a share of the head's
    momentum: float = 0.9
    warm_start: bool = False  # start each cycle with a twentieth of its steps at a hundredth of the rate
    max_epochs: int = 60  # the budget of all phases together; the paper stayed below 60
    # Each batch is split into as many parts to save memory. Batch norm then sees one part at a time.
    accumulate: int = 1
    precision: str = "float32"  # one of PRECISIONS, which are Keras's policies
    range_test: bool = True  # sweep the rate before each phase, and keep the curve; needed where ``lr`` is None
    lr_steps: int | None = None  # of the range test; None for as many as fit the phase, see ``sweep_steps``
    lr_bounds: tuple[float, float] = (1e-5, 10.0)  # its first and last rate
    lr_probe: int = 30  # training images whose loss it measures between steps; 0 for none
    smallest_view: float = 0.8  # smallest window that augmentation cuts, as a share of image_size
    crops: str = "any"  # where along the longer side it cuts: at any place, or one of "three"
    stain_jitter: float = 0.0  # random change of each stain's strength, as a fraction, see ``StainJitter``
    brightness: float = 0.0  # random change of brightness, as a fraction
    stain_normalisation: str = "none"  # before all else: none, macenko or reinhard
    # How much an image counts in the loss, by its class: none for all alike, balanced for both classes alike, or two
    # numbers in the order of the node's classes.
    class_weights: str | tuple[float, float] = "none"
    seed: int = 0  # random seed of weights, data order, augmentation and dropout
    backbone: dict = field(default_factory=dict)  # arguments of ``ResNeXt``; empty for ResNeXt-50 (32x4d)

    def __post_init__(self):
        least = {
            "image_size": 32, "batch_size": 2, "head_epochs": 0, "cycles": 0, "cycle_epochs": 1,
            "cycle_mult": 1, "lr_steps": FEWEST_STEPS, "accumulate": 1, "max_epochs": 1, "lr_probe": 0,
        }  # fmt: skip
        for name, bound in least.items():
            if getattr(self, name) is not None and getattr(self, name) < bound:
                raise UserError(f"{_option(name)} must be at least {bound}, not {getattr(self, name)}.")
        for name in ("stain_jitter", "brightness"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{_option(name)} must be at least 0 and less than 1, not {getattr(self, name)}.")
        if not 0 <= self.seed < 2**31:
            raise UserError(f"--seed must be from 0 to {2**31 - 1}, not {self.seed}.")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise UserError(f"--lr must be a positive rate or 'auto', not {self.lr}.")
        if self.lr is None and not self.range_test:
            raise UserError("--no-range-test leaves nothing to choose the rate by: give the rate with --lr.")
        if not 0 < self.lr_bounds[0] < self.lr_bounds[1] < math.inf:
            raise UserError(f"The range test's rates, {self.lr_bounds}, must be positive and rise.")
        if self.class_weights not in ("none", "balanced") and not _are_weights(self.class_weights):
            raise UserError(
                "--class-weights must be none, balanced, or a weight from "
                f"{WEIGHT_BOUNDS[0]:g} to {WEIGHT_BOUNDS[1]:g} for each of the node's two classes, not "
                f"{self.class_weights}."
            )
        if self.precision not in PRECISIONS:
            raise UserError(f"--precision must be one of {', '.join(PRECISIONS)}, not {self.precision}.")
        if self.batch_size % self.accumulate or self.batch_size // self.accumulate < 2:
            raise UserError(
                f"--batch-size {self.batch_size} cannot be computed in --accumulate {self.accumulate} equal parts "
                "of at least 2 images, which batch norm needs."
            )
        self._check_epochs()

    def _check_epochs(self):
        # The lengths of more cycles could not even be counted.
        if self.cycles > self.max_epochs:
            raise UserError(
                f"--cycles {self.cycles} are beyond the budget of {self.max_epochs} epochs: choose fewer cycles, or a "
                "larger --max-epochs."
            )
        if self.epochs == 0:
            raise UserError("There is nothing to train: --head-epochs and --cycles are both 0.")
        if self.epochs > self.max_epochs:
            last = self.epochs if self.epochs < 10**9 else "1000000000 or later"
            raise UserError(
                f"The last cycle ends after epoch {last}, beyond the budget of {self.max_epochs}: "
                "choose fewer or shorter cycles, or a larger --max-epochs."
            )

    @property
    def view(self) -> View:
        """How the network sees an image."""
        return View(self.image_size, self.stain_normalisation)

    @property
    def part_size(self) -> int:
        """Images computed at once: a batch, or a part of it."""
        return self.batch_size // self.accumulate

    def weights_for(self, counts) -> tuple[float, ...] | None:
        """Return how much an image of each class counts in the loss; None where all count alike.

        ``counts`` are the images of each class. Balanced weights are the reciprocals of the classes' shares, divided by
        the number of classes that occur: their mean over the images is 1.
        """
        if self.class_weights == "none":
            return None
        if self.class_weights != "balanced":
            return self.class_weights
        occurring = sum(count > 0 for count in counts)
        return tuple(sum(counts) / (occurring * count) if count else 0.0 for count in counts)

    def sweep_steps(self, phase_steps: int) -> int:
        """Return the steps of a range test before a phase of so many; 0 for none.

        A sweep that chooses the rate has as many as its phase, one that is only drawn a quarter; both have 20 to 100.
        """
        if not self.range_test:
            return 0
        share = phase_steps if self.lr is None else phase_steps // 4
        return self.lr_steps or max(FEWEST_STEPS, min(MOST_STEPS, share))

    @property
    def cycle_lengths(self) -> tuple[int, ...]:
        """Epochs of each cycle of the second phase."""
        return tuple(self.cycle_epochs * self.cycle_mult**cycle for cycle in range(self.cycles))

    @property
    def epochs(self) -> int:
        """Epochs of both phases."""
        return self.head_epochs + sum(self.cycle_lengths)


PAPER = Recipe()

# Phantoms are drawn coarse, so that a network with random weights learns them on two processors
# in minutes: this is for trying the path out, not for science. The range test's rate, .0026 to .0035, is too careful
# for so few epochs, so a rate is given; the test is still run and drawn.
PHANTOM = replace(PAPER, image_size=96, head_epochs=0, cycles=1, cycle_epochs=5, lr=0.01)


def default_recipe(config: str) -> Recipe:
    """Return the paper's recipe, or the short one for the phantom configuration."""
    return PHANTOM if config == "phantom" else PAPER


def with_options(recipe: Recipe, **given) -> Recipe:
    """Return the recipe with the options that were given (not None) in place of its own; lr may be ``auto``."""
    if given.get("range_test") is False and given.get("lr_steps"):
        raise UserError("--lr-steps is the length of the range test, and --no-range-test leaves it out: give only one.")
    changed = {name: value for name, value in given.items() if value is not None}
    if changed.get("lr") == "auto":
        changed["lr"] = None
    return replace(recipe, **changed)


def _are_weights(given) -> bool:
    low, high = WEIGHT_BOUNDS
    return isinstance(given, tuple) and len(given) == 2 and all(low <= weight <= high for weight in given)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
