"""Every number of the training recipe, in one frozen place.

Koné & Boulmane (2018), section 3; where the text is silent docs/recipe.md says
what was decided and why.
"""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Recipe:
    """How one node is trained.

    Attributes:
        image_size: side of the square images, in pixels.
        batch_size: images a step.
        head_epochs: epochs of the first phase, one cosine cycle on the head alone.
        cycles: warm restarts of the second phase, which trains the middle layers too.
        cycle_epochs: epochs of its first cycle.
        cycle_mult: each cycle is this many times as long as the one before.
        lr: peak learning rate; None takes the range test's suggestion in each phase. The test is run and kept
            either way.
        middle_multiplier: rate of the middle layers, as a share of the head's.
        momentum: of SGD.
        lr_steps: steps of the range test.
        lr_bounds: its first and last rate.
        smallest_view: smallest window that augmentation cuts, as a share of image_size.
        seed: of weights, order, augmentation and dropout.
        backbone: arguments of ``ResNeXt``; empty for ResNeXt-50 (32x4d).
    """

    image_size: int = 288
    batch_size: int = 10
    head_epochs: int = 3
    cycles: int = 4
    cycle_epochs: int = 3
    cycle_mult: int = 2
    lr: float | None = None
    middle_multiplier: float = 1 / 3
    momentum: float = 0.9
    lr_steps: int = 100
    lr_bounds: tuple[float, float] = (1e-5, 10.0)
    smallest_view: float = 0.8
    seed: int = 0
    backbone: dict = field(default_factory=dict)

    def __post_init__(self):
        least = {
            "image_size": 32, "batch_size": 2, "head_epochs": 0, "cycles": 0, "cycle_epochs": 1,
            "cycle_mult": 1, "lr_steps": 20,
        }  # fmt: skip
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{_option(name)} must be at least {bound}, not {getattr(self, name)}.")
        if self.lr is not None and not self.lr > 0:
            raise ValueError(f"--lr must be a positive rate or 'auto', not {self.lr}.")
        if self.epochs == 0:
            raise ValueError("There is nothing to train: --head-epochs and --cycles are both 0.")

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
# in minutes: this is for trying the path out, not for science. Batches of ten through a random network are
# too noisy for a range test this short to choose the rate, so it is given; the test is still run and drawn.
PHANTOM = replace(PAPER, image_size=96, head_epochs=0, cycles=1, cycle_epochs=4, lr=0.01, lr_steps=30)


def default_recipe(config: str) -> Recipe:
    """Return the paper's recipe, or the short one for the phantom configuration."""
    return PHANTOM if config == "phantom" else PAPER


def with_options(recipe: Recipe, **given) -> Recipe:
    """Return the recipe with the options that were given (not None) in place of its own; lr may be ``auto``."""
    changed = {name: value for name, value in given.items() if value is not None}
    if changed.get("lr") == "auto":
        changed["lr"] = None
    return replace(recipe, **changed)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
