"""The one preprocessing: from encoded bytes to what the networks take.

Training and the exported model run these same functions, so they cannot drift apart. All of it is TensorFlow ops, so
all of it can be exported. Python and graphs accept the same images, by the limits in ``datasets.images.admission``.
"""

from dataclasses import dataclass

import tensorflow as tf

from bach_keras.decoding import bmp, jpeg, png
from bach_keras.decoding.fields import required
from bach_keras.normalisation import DEVIATION, MEAN
from datasets import stain
from datasets.images import png as png_format

# Turns and reflections that lay a square on itself.
SYMMETRIES = 8


def decode(data):
    """Decode one PNG, JPEG or BMP, a string scalar, to the pixels that ``datasets.images`` reads from such a file.

    Returns:
        uint8 [H, W, 3]; grey images and palettes become RGB, transparency becomes white.

    Raises:
        tf.errors.InvalidArgumentError: when run, on anything else, and on what ``datasets.images`` refuses.
    """
    # Every header is longer than this; on shorter data substr would fail with a message of its own.
    data = required(data, (tf.strings.length(data) >= 30, "This is not a complete image."))
    is_png = tf.strings.substr(data, 0, 8) == png_format.SIGNATURE
    is_jpeg = tf.strings.substr(data, 0, 3) == b"\xff\xd8\xff"
    is_bmp = tf.strings.substr(data, 0, 2) == b"BM"
    data = required(data, (is_png | is_jpeg | is_bmp, "This is not a PNG, JPEG or BMP image."))
    image = tf.cond(
        is_png,
        lambda: png.decode(data),
        lambda: tf.cond(is_jpeg, lambda: jpeg.decode(data), lambda: bmp.decode(data)),
    )
    return tf.ensure_shape(image, (None, None, 3))


def resize_shorter(images, size: int):
    """Scale uint8 [..., H, W, 3] so that the shorter side has ``size`` pixels, keeping the ratio, with antialiasing.

    The result is rounded to uint8, so that a cached training image and a served one hold the same values.
    """
    sides = tf.shape(images)[-3:-1]
    shorter = tf.reduce_min(sides)
    # Integer division, rounding half up: float division could lose a pixel of the shorter side.
    target = (2 * sides * size + shorter) // (2 * shorter)
    resized = tf.image.resize(images, target, method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


def centre_crop(images, size: int):
    """Crop the central square: [..., H, W, 3] -> [..., size, size, 3]."""
    sides = tf.shape(images)[-3:-1]
    top, left = tf.unstack((sides - size) // 2)
    cropped = images[..., top : top + size, left : left + size, :]
    return tf.ensure_shape(cropped, (*images.shape[:-3], size, size, 3))


def part(images, size: int, views: int = 1):
    """Resize images and return what so many views (one of ``tree.VIEWS``) are made of, the stain not normalised.

    uint8 [..., H, W, 3] -> uint8 [..., size, size, 3], the central square; for 24 views [..., size, 3 * size, 3], the
    three squares side by side. Of such a part it returns the same part, to the bit.
    """
    resized = resize_shorter(images, size)
    return centre_crop(resized, size) if views <= SYMMETRIES else _three_crops(resized, size)


def part_width(size: int, views: int) -> int:
    """Return the width in pixels of what ``part`` returns; its height is ``size``."""
    return size * max(1, views // SYMMETRIES)


def _three_crops(images, size):
    spare = tf.shape(images)[-3:-1] - size
    squares = []
    for place in range(3):
        top, left = tf.unstack(spare * place // 2)
        squares.append(images[..., top : top + size, left : left + size, :])
    return tf.ensure_shape(tf.concat(squares, axis=-2), (*images.shape[:-3], size, 3 * size, 3))


def views_of(image, size: int, views: int):
    """Return the views of one image's ``part``: uint8 [size, width, 3] -> uint8 [views, size, size, 3].

    View ``8 * s + 4 * m + q`` is square ``s`` (left, central, right, or the only one), mirrored left to right if ``m``
    is 1, and then turned by ``q`` quarter turns to the left.
    """
    if views == 1:
        return image[None]
    squares = tf.stack(tf.split(image, views // SYMMETRIES, axis=1))
    mirrored = tf.stack([squares, tf.reverse(squares, [2])], axis=1)
    turned = tf.reverse(tf.transpose(mirrored, (0, 1, 3, 2, 4)), [2])
    halves = [mirrored, turned, *(tf.reverse(each, [2, 3]) for each in (mirrored, turned))]
    return tf.reshape(tf.stack(halves, axis=2), (views, size, size, 3))


def central_view(views: int) -> int:
    """Return which of an image's views, as ``views_of`` orders them, is the central square as it is."""
    return SYMMETRIES * (views // SYMMETRIES // 2)


def normalise(images):
    """Turn uint8 or float [..., 3] in 0..255 into float32 with ImageNet's mean 0 and deviation 1."""
    return _normalised(images, MEAN, DEVIATION)


def normalise_squares(images):
    """Return what ``normalise`` does with squares [N, size, size, 3], in a quarter of its time, inside tf.data."""
    # TensorFlow repeats mean and deviation slowly along an axis of three colours, and fast along a whole row of pixels.
    size = images.shape[2]
    rows = tf.reshape(images, (-1, size, 3 * size))
    return tf.reshape(_normalised(rows, MEAN * size, DEVIATION * size), (-1, size, size, 3))


def _normalised(values, mean, deviation):
    return (tf.cast(values, tf.float32) / 255.0 - mean) / deviation


def normalise_stain(images, size: int, method: str):
    """Give resized images [..., H, W, 3], the shorter side ``size``, a reference's colours; return rounded uint8."""
    return normalise_stain_each(images, size, method)[0]


def normalise_stain_each(images, size: int, method: str):
    """Return what ``normalise_stain`` does, and whether each image could be normalised: bool [N] or []."""
    # Colours are measured on the central square, which is all that a served image keeps, so that it does not matter
    # whether the image is cropped before or after.
    return stain.normalise_each(images, method, sample=centre_crop(images, size))


def square(images, size: int, stain_normalisation: str = "none"):
    """Resize, crop and normalise the stain: uint8 [..., H, W, 3] -> uint8 [..., size, size, 3]."""
    return stain.normalise(centre_crop(resize_shorter(images, size), size), stain_normalisation)


@dataclass(frozen=True)
class View:
    """How a network sees an image; members with equal views can share a tree."""

    image_size: int  # side of the square that it sees, in pixels
    stain_normalisation: str = "none"  # one of datasets.stain.NORMALISATIONS

    def __str__(self):
        stains = "" if self.stain_normalisation == "none" else f" and {self.stain_normalisation} stain normalisation"
        return f"{self.image_size} pixels{stains}"

    def resized(self, images):
        """Scale the shorter side and normalise the stain; return the images, and for each whether it could be.

        uint8 [..., H, W, 3] -> uint8 [..., h, w, 3] with the shorter of h and w ``image_size``, and bool [...].
        """
        resized = resize_shorter(images, self.image_size)
        return normalise_stain_each(resized, self.image_size, self.stain_normalisation)

    def square(self, images):
        """uint8 [..., H, W, 3] -> uint8 [..., image_size, image_size, 3]: resized, cropped, its stain normalised."""
        return square(images, self.image_size, self.stain_normalisation)


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return the data set without TensorFlow's autotuning; parallel maps then take one thread a processor."""
    # The tuner's thread sleeps for up to a minute between its rounds, and an iterator that is dropped half-way waits
    # for it to wake.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
