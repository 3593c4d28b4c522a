"""The images that an export is checked on before it is written, and that 8-bit forms are calibrated on."""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from bach_keras import preprocess
from bach_keras.wording import counted
from datasets.errors import UserError
from datasets.images.folder import find_images
from datasets.images.read import read_rgb
from datasets.progress import bar
from datasets.sets import open_set

# How many images are looked at; for an 8-bit form two thirds calibrate, and a third is kept to check it on.
IMAGES = 150
LEAST_IMAGES = 9


def check_count(count: int) -> None:
    """Refuse fewer images than are needed to make and check an export."""
    if count < LEAST_IMAGES:
        found = f"{counted(count, 'image')} {'is' if count == 1 else 'are'}"
        raise UserError(f"{found} too few to check an export on: give at least {LEAST_IMAGES} with --calibration DIR.")


def parts(images: Iterable, size: int, views: int = 1) -> list[np.ndarray]:
    """Return what the networks see of images (``preprocess.part``), uint8 [1, size, width, 3] each.

    Refuses too few to check an export on.
    """
    made = [preprocess.part(image, size, views).numpy()[None] for image in bar(images, what="read images")]
    check_count(len(made))
    return made


def folder_images(folder, most: int = IMAGES) -> Iterator[np.ndarray]:
    """Read some of a folder's images as uint8 [H, W, 3], always the same choice, each when it is needed."""
    return map(read_rgb, _some(find_images([folder]), most))


def training_images(members, most: int = IMAGES, data_dir: Path | None = None) -> Iterator[np.ndarray]:
    """Read some of the images that the first member was trained on, as ``folder_images`` does."""
    config = members[0].config
    names = _some(training_names(config, members[0].provenance.trained_on, data_dir), most)
    records = open_set(config, data_dir).load(names)
    return (record["image"] for record in preprocess.untuned(records).as_numpy_iterator())


def training_names(config: str, trained_on: Iterable[str], data_dir: Path | None = None) -> list[str]:
    """Return which of some images a data set that is prepared on this machine has; a UserError if it is not."""
    try:
        return sorted(set(trained_on) & {record.filename for record in open_set(config, data_dir).records})
    except UserError as error:
        raise UserError(f"The training images cannot be read ({error}) Give --calibration DIR.") from error


def _some(names: list, most: int) -> list:
    # A generator of its own draws the same images every time.
    return random.Random(0).sample(names, min(most, len(names)))
