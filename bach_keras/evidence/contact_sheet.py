"""Augmentation and stain normalisation as pictures: a row for each operation, a column for each image."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont

from bach_keras import preprocess
from datasets.augment import DRAW_COUNT, DRAWS, Brightness, RandomView, StainJitter, uniform_draws
from datasets.errors import MissingError, UserError, working
from datasets.progress import bar
from datasets.stain import NORMALISATIONS
from datasets.whole import whole

# In pixels: around each picture, and the height of a row's title.
GAP, TITLE = 4, 22
# These draws of a view change nothing: no turn, no reflection, the largest window, in the middle.
_STILL = (0.0, 1.0, 1.0, 0.5, 0.5, *[0.5] * (DRAW_COUNT - 5))


@dataclass(frozen=True)
class Settings:
    """How a sheet is drawn."""

    size: int  # side of each picture, in pixels
    seed: int  # chooses the images and how they are changed
    stain_jitter: float  # the amounts that ``StainJitter`` and ``Brightness`` take
    brightness: float


def write_contact_sheet(path: Path, prepared, count: int, settings: Settings) -> list[str]:
    """Draw some images before and after each operation as one PNG, and return their names from left to right.

    Args:
        path: the PNG file, replaced if it is there.
        prepared: a prepared data set: has ``records``, and ``load(names)``.
        count: how many images, at least 1, spread evenly over the labels.
        settings: of the pictures.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise MissingError(f"The folder {path.parent} is not there: make it first, or choose another --out.")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a PNG file with --out.")
    names = _pick(prepared.records, count, settings.seed)
    with working():
        # Records come in an order of their own.
        resized = {
            record["filename"].numpy().decode(): preprocess.resize_shorter(record["image"], settings.size)
            for record in bar(preprocess.untuned(prepared.load(names)), what="Reading", total=len(names))
        }
        sheet = _joined(rows([resized[name] for name in names], settings))
        with whole(path) as partial:
            sheet.save(partial, format="PNG")
    return names


def rows(resized, settings: Settings) -> dict[str, np.ndarray]:
    """Return title -> uint8 [n, size, size, 3] for each operation alone, and for all of augmentation together.

    Args:
        resized: uint8 [H, W, 3], one for each image, the shorter side ``size``.
        settings: of the pictures.
    """
    size = settings.size
    draws = uniform_draws(len(resized), tf.constant([settings.seed, 0], tf.int64))
    centred = tf.stack([preprocess.centre_crop(image, size) for image in resized])

    def viewed(columns, crops="any"):
        """Return views that differ from the central square only by the draws of these columns."""
        some = tf.where(np.isin(range(DRAW_COUNT), columns), draws, _STILL)
        view = RandomView(size, crops=crops)
        pairs = zip(resized, tf.unstack(some), strict=True)
        return tf.stack([view({"images": image, DRAWS: one})["images"] for image, one in pairs])

    def coloured(images, *layers):
        for layer in layers:
            images = layer({"images": images, DRAWS: draws})["images"]
        return images

    jitter, lamp = StainJitter(settings.stain_jitter), Brightness(settings.brightness)
    drawn = {
        "as prepared, the central square": centred,
        "rotation": viewed([0]),
        "reflection": viewed([1]),
        "scale and crop": viewed([2, 3, 4]),
        "left, centre or right crop": viewed([3], crops="three"),
        f"stain jitter {settings.stain_jitter:g}": coloured(centred, jitter),
        f"brightness {settings.brightness:g}": coloured(centred, lamp),
        "all of the above": coloured(viewed([0, 1, 2, 3, 4]), jitter, lamp),
    }
    for method in NORMALISATIONS[1:]:
        drawn[f"stain normalisation: {method}"] = preprocess.normalise_stain(centred, size, method)
    return {title: np.uint8(np.round(pictures)) for title, pictures in drawn.items()}


def _pick(records, count: int, seed: int) -> list[str]:
    """Return the names of some images, alternating between the labels."""
    seen, ranked = Counter(), []
    for i in np.random.default_rng(seed).permutation(len(records)):
        record = records[i]
        ranked.append((seen[record.label], record.label, record.filename))
        seen[record.label] += 1
    return [name for _, _, name in sorted(ranked)[:count]]


def _joined(drawn: dict[str, np.ndarray]) -> Image.Image:
    count, size = next(iter(drawn.values())).shape[:2]
    step = size + GAP + TITLE
    sheet = Image.new("RGB", (count * (size + GAP) + GAP, len(drawn) * step + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for row, (title, pictures) in enumerate(drawn.items()):
        draw.text((GAP, row * step + 2), title, "black", font)
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (GAP + column * (size + GAP), row * step + TITLE))
    return sheet
