"""The options that name a number of the training recipe; what is not given takes the configuration's default."""

import click
from click.core import ParameterSource

from bach_keras.commands.options import best_precision, given_here, several
from bach_keras.packed_kernels import check_kernels_may_change
from bach_keras.tree import NODES
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


class ClassWeights(click.ParamType):
    """``none``, ``balanced``, or a number for each class by its name, which becomes a dict."""

    name = "none|balanced|CLASS=X,CLASS=Y"

    def convert(self, value, param, ctx):
        if value in ("none", "balanced") or isinstance(value, dict):
            return value
        pairs = [part.partition("=") for part in value.split(",")]
        try:
            weights = {name.strip(): float(number) for name, _, number in pairs}
        except ValueError:
            weights = {}
        if len(weights) < len(pairs):
            self.fail(
                f"{value!r} is neither none, balanced nor a number for each class, such as noncarcinoma=1,carcinoma=3.",
                param,
                ctx,
            )
        return weights


class_weights_option = click.option(
    "--class-weights",
    type=ClassWeights(),
    help="How much an image counts in the loss, by its class; balanced lets both classes count alike. [default: none]",
)
seed_option = click.option(
    "--seed", type=int, help="Random seed of weights, data order, augmentation and dropout. [default: 0]"
)


def _of_a_range_test(context, option, steps):
    """Leave out the steps that a file of options gives where the command line leaves the range test out."""
    of_file = context.get_parameter_source("lr_steps") is ParameterSource.DEFAULT_MAP
    left_out = context.params.get("range_test") is False
    return None if of_file and left_out and given_here(context, "range_test") else steps


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
        callback=_of_a_range_test,
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
    class_weights_option,
)


def recipe_of(recipe, node=None, **given):
    """Return the recipe of a training: one with the options that were given in place of its own.

    ``node`` is the name of the one that is trained, None for all three.
    """
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
    if isinstance(given.get("class_weights"), dict):
        given["class_weights"] = _in_order(given["class_weights"], node)
    return with_options(recipe, **given)


def weights_as_given(recipe, node: str) -> str:
    """Return the class weights of a node's recipe as ``--class-weights`` takes them."""
    weights = recipe.class_weights
    if isinstance(weights, str):
        return weights
    return ",".join(f"{name}={weight:g}" for name, weight in zip(NODES[node].classes, weights, strict=True))


def _in_order(weights: dict[str, float], node: str | None) -> tuple[float, ...]:
    """Return the weights of a node's classes in its own order."""
    if node is None:
        raise UserError("Each node has classes of its own: for all three give --class-weights balanced or none.")
    classes = NODES[node].classes
    if set(weights) != set(classes):
        raise UserError(
            f"--class-weights must give a number for each class of {node} and for no other: "
            f"{','.join(f'{name}=1' for name in classes)} lets them count alike."
        )
    return tuple(weights[name] for name in classes)
