"""In which direction images differ from those that trained a system: how strongly they are stained, and their scale."""

from collections.abc import Sequence

import numpy as np

from bach_keras.evidence.ranges import Ranges, middle
from bach_keras.fields import NOTHING, check, list_of, number, whole

# Of the strength of the stain: a smaller change is that of another slide from the same laboratory.
_ALIKE = 1.2

_NUMBER = number(0, 1e6)
_FIELDS = {
    "n": whole(1), "density": list_of(number(-1e3, 1e3), 3, 3), "training_density": list_of(number(-1e3, 1e3), 3, 3),
    "um_per_pixel": _NUMBER | NOTHING, "training_um_per_pixel": _NUMBER | NOTHING, "scaled": whole(),
    "other_field": whole() | NOTHING,
}  # fmt: skip


def looks(images: Sequence[dict], ranges: Ranges) -> dict:
    """Return what metrics.json says of some images beside those of training.

    Args:
        images: of each its ``stain`` as ``quality.measures`` has it, ``um_per_pixel`` (None where unknown) and
            ``side``, the pixels of its shorter side.
        ranges: of the training images.

    Returns:
        ``n``; ``density``, the mean optical density of red, green and blue, and that of the training images;
        ``um_per_pixel``, of the middle image, and that of the training images; ``scaled``, how many say it; and
        ``other_field``, of how many of these the shorter side shows more or less tissue than the training images' did.
    """
    scaled = [each for each in images if each["um_per_pixel"]]
    low, high = ranges.field or (None, None)
    beyond = [not low <= each["um_per_pixel"] * each["side"] <= high for each in scaled] if ranges.field else None
    return {
        "n": len(images),
        "density": np.mean([each["stain"][:3] for each in images], axis=0).tolist(),
        "training_density": list(ranges.colours[:3]),
        "um_per_pixel": middle(each["um_per_pixel"] for each in images),
        "training_um_per_pixel": ranges.um_per_pixel,
        "scaled": len(scaled),
        "other_field": None if beyond is None else sum(beyond),
    }


def check_looks(said: dict, within: str) -> dict:
    """Return what metrics.json says of the images, checked; a FieldError names a wrong field."""
    check(said, _FIELDS, within=within)
    return said


def in_words(said: dict) -> list[str]:
    """Return sentences, as those of a result."""
    here, there = float(np.mean(said["density"])), float(np.mean(said["training_density"]))
    found = []
    if there > 0 and not 1 / _ALIKE <= here / there <= _ALIKE:
        found.append(
            f"Their stain is {here / there:.2g} times as strong (mean optical density {here:.2f}, of the training "
            f"images {there:.2f})."
        )
    if said["training_um_per_pixel"] is None:
        return [*found, "The scale of the training images is not known, so scales are not compared."]
    if unknown := said["n"] - said["scaled"]:
        which = "these images" if unknown == said["n"] else f"{unknown} of these {said['n']} images"
        found.append(
            f"The scale of {which} is not known, so whether they show cells as large as the training images do "
            f"({said['training_um_per_pixel']:g} micrometres a pixel) cannot be said."
        )
    if said["scaled"]:
        other = said["other_field"]
        found.append(
            f"A pixel shows {said['um_per_pixel']:g} micrometres, of the training images "
            f"{said['training_um_per_pixel']:g}; "
            + (
                f"{other} of {said['scaled']} images show a larger or smaller field than those, so cells look smaller "
                "or larger to the network."
                if other
                else "the fields are as large."
            )
        )
    return found
