"""What augmentation and stain normalisation make of a batch: a row of pictures for each operation."""

from collections import Counter
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont

from bach_keras import preprocess
from datasets.augment import DRAW_COUNT, DRAWS, Brightness, RandomView, StainJitter, uniform_draws
from datasets.bach_bisque.prepared import Prepared
from datasets.errors import MissingError, UserError
from datasets.progress import bar
from datasets.stain import NORMALISATIONS
from datasets.whole import whole

_GAP, _TITLE = 4, 22
# The draws of a view that changes nothing: no turn, no reflection, the whole window, in the middle.
_STILL = (0.0, 1.0, 1.0, 0.5, 0.5, *[0.5] * (DRAW_COUNT - 5))


def write_contact_sheet(path, config, data_dir, count, size, seed, stain_jitter, brightness) -> list[str]:
    """Draw some images of a prepared config before and after each operation.

    Args:
        path: the PNG file, replaced if it is there.
        config: bach, bisque, bach_bisque or phantom.
        data_dir: where data sets live; None for TFDS's place.
        count: how many images, at least 1, the labels in turns.
        size: side of each picture, in pixels.
        seed: chooses the images and how they are changed.
        stain_jitter: amount of ``StainJitter``.
        brightness: amount of ``Brightness``.

    Returns:
        The names of the images, from left to right.

    Raises:
        UserError: the config is not prepared, or the folder of ``path`` is not there.
        IsADirectoryError: ``path`` is a folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise MissingError(f"The folder {path.parent} is not there: make it first, or choose another --out.")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a PNG file with --out.")
    names = _pick(Prepared(config, data_dir).records, count, seed)
    # They are read in the order of the records, not in that of the names.
    resized = {
        record["filename"].numpy().decode(): preprocess.resize_shorter(record["image"], size)
        for record in bar(preprocess.untuned(Prepared(config, data_dir).load(names)), what="Reading", total=len(names))
    }
    sheet = _joined(rows([resized[name] for name in names], size, seed, stain_jitter, brightness))
    with whole(path) as partial:
        sheet.save(partial, format="PNG")
    return names


def rows(resized, size: int, seed: int, stain_jitter: float, brightness: float) -> dict[str, np.ndarray]:
    """Return title -> uint8 [n, size, size, 3] for each operation alone, and for all of augmentation together.

    Args:
        resized: uint8 [H, W, 3], one for each image, the shorter side ``size``.
        size, seed, stain_jitter, brightness: see ``write_contact_sheet``.
    """
    draws = uniform_draws(len(resized), tf.constant([seed, 0], tf.int64))
    centred = tf.stack([preprocess.centre_crop(image, size) for image in resized])

    def viewed(columns, crops="any"):
        """Return the views that only the draws of these columns change."""
        some = tf.where(np.isin(range(DRAW_COUNT), columns), draws, _STILL)
        view = RandomView(size, crops=crops)
        pairs = zip(resized, tf.unstack(some), strict=True)
        return tf.stack([view({"images": image, DRAWS: one})["images"] for image, one in pairs])

    def coloured(images, *layers):
        for layer in layers:
            images = layer({"images": images, DRAWS: draws})["images"]
        return images

    jitter, lamp = StainJitter(stain_jitter), Brightness(brightness)
    drawn = {
        "as prepared, the central square": centred,
        "rotation": viewed([0]),
        "reflection": viewed([1]),
        "scale and crop": viewed([2, 3, 4]),
        "left, centre or right crop": viewed([3], crops="three"),
        f"stain jitter {stain_jitter:g}": coloured(centred, jitter),
        f"brightness {brightness:g}": coloured(centred, lamp),
        "all of the above": coloured(viewed([0, 1, 2, 3, 4]), jitter, lamp),
    }
    for method in NORMALISATIONS[1:]:
        drawn[f"stain normalisation: {method}"] = preprocess.normalise_stain(centred, size, method)
    return {title: np.uint8(np.round(pictures)) for title, pictures in drawn.items()}


def _pick(records, count: int, seed: int) -> list[str]:
    """Return the names of some images, the labels in turns."""
    shuffled = [records[i] for i in np.random.default_rng(seed).permutation(len(records))]
    seen, turns = Counter(), []
    for record in shuffled:
        turns.append((seen[record.label], record.label, record.filename))
        seen[record.label] += 1
    return [name for _, _, name in sorted(turns)[:count]]


def _joined(drawn: dict[str, np.ndarray]) -> Image.Image:
    count, size = next(iter(drawn.values())).shape[:2]
    step = size + _GAP + _TITLE
    sheet = Image.new("RGB", (count * (size + _GAP) + _GAP, len(drawn) * step + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for row, (title, pictures) in enumerate(drawn.items()):
        draw.text((_GAP, row * step + 2), title, "black", font)
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (_GAP + column * (size + _GAP), row * step + _TITLE))
    return sheet
