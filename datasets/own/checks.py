"""What is wrong with a user's images, as far as it can be found before the long work of encoding them begins."""

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.ahead import ahead, image_threads
from datasets.errors import UserError
from datasets.images.read import read_rgb, read_size
from datasets.own.listed import Listed
from datasets.progress import bar
from datasets.wording import counted

LOG = logging.getLogger(__name__)

# Nothing of a tissue can be seen in fewer pixels, and no network of this project takes fewer.
SMALLEST_SIDE = 32

# A mask or a drawing of labels has few colours, tissue thousands.
_FEW_COLOURS = 16
# JPEG blurs the borders of a mask: nearly all of its pixels still have one of these few coarse shades of grey, and most
# of them, between the borders, exactly the same few values. Pale tissue in grey has few coarse shades and many values.
_FEW_SHADES, _NEARLY_ALL, _MOST = 3, 0.99, 0.5

# How many images of each label are looked at before the work begins.
_SAMPLE = 6
# How many of those that are refused are listed one by one.
_LISTED = 20

_MASK_NAME = re.compile(
    r"(?:^|[\W_])(?:masks?|ground[ _-]?truth|segmentations?|annotations?)(?:[\W_]|$)", re.IGNORECASE
)


def check_headers(images: Iterable[Listed]) -> int:
    """Refuse images whose headers show that they cannot be read or are too small; return their pixels' bytes in all."""
    images, total, refused = list(images), 0, []

    def look(image: Listed):
        try:
            return read_size(image.path)
        except UserError as error:
            return UserError(str(error))

    for image, size in zip(images, bar(_ahead(look, images), what="Checking", total=len(images)), strict=True):
        if isinstance(size, UserError):
            refused.append(str(size))
        elif min(size) < SMALLEST_SIDE:
            refused.append(
                f"{image.path} has {size[0]}x{size[1]} pixels, too few to see tissue in: at least {SMALLEST_SIDE} a "
                "side are taken."
            )
        else:
            total += 3 * size[0] * size[1]
    refuse_all(refused)
    return total


def check_tissue(images: Iterable[tuple[Listed, str]]) -> None:
    """Look at some images of each label, and refuse labels whose images all look like masks."""
    of_label = defaultdict(list)
    for image, label in images:
        of_label[label].append(image)
    for label, members in of_label.items():
        sample = members[:: -(-len(members) // _SAMPLE)]
        if all(_ahead(_is_mask, sample)):
            raise UserError(
                f"The images of {label} look like masks or blank pictures, not like tissue ({sample[0].path} has "
                "hardly any colours): give the images themselves."
            )


def _is_mask(image: Listed) -> bool:
    try:
        return is_like_mask(read_rgb(image.path))
    except UserError:  # it will be named with all others that cannot be read
        return False


def is_like_mask(pixels: np.ndarray) -> bool:
    """Say whether an image, uint8 RGB [H, W, 3], has as few colours as a mask or a blank picture."""
    if has_few_colours(Image.fromarray(pixels)):
        return True
    if (pixels != pixels[..., :1]).any():
        return False
    values = np.bincount(pixels[..., 0].ravel(), minlength=256)
    shares = ((values.reshape(8, 32).sum(axis=1), _NEARLY_ALL), (values, _MOST))
    return all(np.sort(counts)[-_FEW_SHADES:].sum() >= least * values.sum() for counts, least in shares)


def has_few_colours(picture: Image.Image) -> bool:
    """Say whether a picture has as few colours as a mask; of a photograph only its first pixels are looked at."""
    return picture.getcolors(_FEW_COLOURS) is not None


def is_named_like_mask(name: str) -> bool:
    """Say whether a path calls its image a mask."""
    return any(_MASK_NAME.search(Path(part).stem) for part in name.split("/"))


def refuse_all(refused: list[str]) -> None:
    """Raise for images that are refused, each by its sentence, if there are any; some of many are listed above."""
    if refused:
        for sentence in refused[1 : 1 + _LISTED]:
            LOG.warning(sentence)
        more = f" {counted(len(refused) - 1, 'more image')} cannot be used either." if len(refused) > 1 else ""
        raise UserError(f"{refused[0]}{more} Nothing was prepared: mend these files, or take them out of the source.")


def _ahead(function: Callable, images: list[Listed]):
    return ahead(function, images, image_threads())
