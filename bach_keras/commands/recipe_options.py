"""The options that name a number of the training recipe; what is not given takes the configuration's default."""

import click

from bach_keras.commands.options import best_precision, several
from bach_keras.packed_kernels import check_kernels_may_change
from datasets.errors import UserError


class Rate(click.ParamType):
    """A number, or ``auto``."""

    name = "auto|FLOAT"

    def convert(self, value, param, ctx):
        if value == "auto":
            return value
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither 'auto' nor a number.", param, ctx)


seed_option = click.option(
    "--seed", type=int, help="Random seed of weights, data order, augmentation and dropout. [default: 0]"
)
size_options = several(
    click.option("--image-size", type=int, help="Side of the square images, in pixels. [default: 288; 96 on phantom]"),
    click.option("--batch-size", type=int, help="Images in each step. [default: 10]"),
)
recipe_options = several(
    size_options,
    click.option(
        "--accumulate",
        type=int,
        help="Split each batch into N parts to save memory (gradient accumulation). [default: 1]",
    ),
    click.option(
        "--precision",
        type=click.Choice(("float32", "mixed_float16", "mixed_bfloat16", "auto")),
        help="Number format of the computation; auto takes mixed_bfloat16 where it is faster here. [default: float32]",
    ),
    click.option("--head-epochs", type=int, help="Epochs of the head alone. [default: 3; 0 on phantom]"),
    click.option("--cycles", type=int, help="Number of SGDR cycles. [default: 4; 1 on phantom]"),
    click.option("--cycle-epochs", type=int, help="Epochs of the first cycle. [default: 3; 5 on phantom]"),
    click.option("--cycle-mult", type=int, help="Factor by which each cycle is longer than the last. [default: 2]"),
    click.option("--warm-start/--no-warm-start", default=None, help="Start each cycle at a hundredth of the rate."),
    click.option("--max-epochs", type=int, help="Most epochs of all phases together. [default: 60]"),
    click.option(
        "--lr",
        type=Rate(),
        help="Peak learning rate; auto takes the range test's suggestion. [default: auto; 0.01 on phantom]",
    ),
    click.option(
        "--range-test/--no-range-test",
        default=None,
        help="Run a range test before each phase and keep its curve, also where --lr is given. [default: run it]",
    ),
    click.option(
        "--lr-steps",
        type=click.IntRange(20),
        help="Steps of the range test. [default: the phase's, or with --lr a quarter; 20 to 100]",
    ),
    click.option(
        "--crops",
        type=click.Choice(("any", "three")),
        help="Where along the longer side to crop: any place, or left, centre or right. [default: any]",
    ),
    click.option(
        "--stain-jitter",
        type=float,
        help="Random change of each stain's strength, as a fraction (0.05 is mild). [default: 0]",
    ),
    click.option("--brightness", type=float, help="Random change of brightness, as a fraction. [default: 0]"),
    click.option(
        "--stain-normalisation",
        type=click.Choice(("none", "macenko", "reinhard")),
        help="Give every image the colours of a reference, here and in the export. [default: none]",
    ),
)


def recipe_of(recipe, **given):
    """Return the recipe of a training: one with the options that were given in place of its own."""
    from bach_keras.recipe import with_options
    from bach_keras.training import devices

    check_kernels_may_change()
    if given.get("precision") == "auto":
        if devices.hosts() > 1:
            raise UserError(
                "--precision auto is for one host, as each would choose for itself: give float32 or mixed_bfloat16."
            )
        best = best_precision()
        given["precision"] = best if best == "float32" else f"mixed_{best}"
    return with_options(recipe, **given)
