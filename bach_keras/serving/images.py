"""Pixels in the forms that models take: as a PNG, and as the part that the networks see."""

import functools

import numpy as np
import tensorflow as tf

from bach_keras import preprocess
from datasets.errors import UserError
from datasets.images.admission import NotTakenError, check_size
from datasets.images.png import encode


def as_png(pixels: np.ndarray) -> bytes:
    """Encode uint8 RGB [H, W, 3] as PNG, fast: the file travels once and is thrown away."""
    return encode(pixels)


def as_seen(pixels: np.ndarray, size: int, views: int = 1) -> np.ndarray:
    """Resize and crop uint8 [H, W, 3] to what so many views are made of: ``preprocess.part``.

    A model that does the same again leaves it as it is. The stain is not normalised: the models do that, and would do
    it twice.
    """
    return _part(size, views)(pixels).numpy()


@functools.cache
def _part(size: int, views: int):
    """Return ``preprocess.part`` as one graph: of small images, its operations one by one take three times as long."""
    taken = tf.TensorSpec([None, None, 3], tf.uint8)
    return tf.function(lambda image: preprocess.part(image, size, views), input_signature=[taken])


def check_pixels(pixels: np.ndarray) -> None:
    """Refuse what is not the pixels of one image, or not of an image that is accepted."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
        raise UserError(f"An image must be uint8 [H, W, 3], but this is {pixels.dtype} {list(pixels.shape)}.")
    height, width = pixels.shape[:2]
    try:
        check_size(width, height)
    except NotTakenError as error:
        raise UserError(f"The image {error}.") from error
