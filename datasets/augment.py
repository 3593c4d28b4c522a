"""Augmentation of H&E images as keras-cv layers.

The layers draw nothing themselves: each image brings its own row of uniform
numbers, made from (seed, epoch, index), so the same seed gives the same
pictures whatever the threads do.
"""

import math

import keras_cv
import tensorflow as tf

from datasets.deconvolution import separation

DRAWS = "draws"
DRAW_COUNT = 10
_VIEW, _STAIN, _LAMP = slice(0, 5), slice(5, 9), slice(9, 10)

CROPS = ("any", "three")


def uniform_draws(count: int, seed):
    """Return the numbers of some images, float32 [count, DRAW_COUNT] in [0, 1), from a seed, int [2].

    The view's and the colours' come from streams of their own.
    """
    view = tf.random.stateless_uniform((count, _VIEW.stop), seed)
    colour = tf.random.stateless_uniform((count, DRAW_COUNT - _VIEW.stop), tf.random.fold_in(seed, 1))
    return tf.concat([view, colour], axis=1)


class _FromDraws(keras_cv.layers.VectorizedBaseImageAugmentationLayer):
    """What a layer does with images and their draws; the other entries pass through.

    Takes a dict of ``images`` [N, H, W, 3] or [H, W, 3] in 0..255 and ``draws`` float [N, DRAW_COUNT]
    or [DRAW_COUNT] in [0, 1); ``images`` become float32.
    """

    def __init__(self, **kwargs):
        # Never drawn from; without a seed the base takes the global generator, which determinism forbids.
        # Mixed precision is for the network: in half precision, pictures would lose levels.
        super().__init__(**{"seed": 1, "dtype": "float32", **kwargs})

    # The public hooks of keras-cv's base see no entry but images and labels; this one sees the draws.
    def _batch_augment(self, inputs):
        draws = tf.cast(inputs[DRAWS], tf.float32)
        return {**inputs, "images": self.changed(tf.cast(inputs["images"], tf.float32), draws)}

    def changed(self, images, draws):
        """Return what becomes of float32 images [N, H, W, 3] by their draws [N, DRAW_COUNT]."""
        raise NotImplementedError


class RandomView(_FromDraws):
    """A random rotation, reflection and crop in one resampling (Koné & Boulmane 2018, section 3.1).

    Tissue has no up and no left: any angle and either hand are as likely. Places
    outside the image are filled by reflection at its border.

    Args:
        size: side of the square answer, in pixels; the shorter side of the images must be at least this.
        smallest: the smallest window cut from the image, as a share of ``size``.
        crops: where the window is: ``any`` place, or, along the longer side, one of ``three``: left, centre
            or right (the paper's outlook).
    """

    def __init__(self, size, smallest=0.8, crops="any", **kwargs):
        super().__init__(**kwargs)
        if crops not in CROPS:
            raise ValueError(f"There are no crops {crops!r}: choose one of {', '.join(CROPS)}.")
        self.size = size
        self.smallest = smallest
        self.crops = crops

    def changed(self, images, draws):
        angle, hand, scale, right, down = tf.unstack(draws[:, _VIEW], axis=1)
        angle = 2 * math.pi * angle
        hand = tf.where(hand < 0.5, -1.0, 1.0)
        scale = self.smallest + (1 - self.smallest) * scale
        sides = tf.cast(tf.shape(images)[1:3], tf.float32)
        if self.crops == "three":
            right = tf.where(sides[1] > sides[0], tf.floor(3 * right) / 2, right)
            down = tf.where(sides[0] > sides[1], tf.floor(3 * down) / 2, down)
        window = scale * self.size
        middle_x = (sides[1] - 1) / 2 + (right - 0.5) * (sides[1] - window)
        middle_y = (sides[0] - 1) / 2 + (down - 0.5) * (sides[0] - window)
        # Each place of the answer, seen from its middle, is turned, mirrored and scaled into the image.
        cosine, sine = scale * tf.cos(angle), scale * tf.sin(angle)
        half = (self.size - 1) / 2
        rows = [
            hand * cosine, -sine, middle_x - half * (hand * cosine - sine),
            hand * sine, cosine, middle_y - half * (hand * sine + cosine),
            tf.zeros_like(scale), tf.zeros_like(scale),
        ]  # fmt: skip
        views = tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=tf.stack(rows, axis=1),
            output_shape=(self.size, self.size),
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="REFLECT",
        )
        return tf.ensure_shape(views, (None, self.size, self.size, 3))

    def get_config(self):
        return {**super().get_config(), "size": self.size, "smallest": self.smallest, "crops": self.crops}


class StainJitter(_FromDraws):
    """A slide stained a little more or less, by haematoxylin and by eosin (Tellez et al. 2018).

    After "Whole-slide mitosis detection in H&E breast histology using PHH3 as a reference to train
    distilled stain-invariant convolutional networks": optical density is split into the two stains and
    a rest (Ruifrok & Johnston 2001), and each stain's concentration c becomes a·c + b. The rest is left alone.
    Evenly drawn, a is from 1 - amount to 1 + amount and b from -amount to amount.
    """

    def __init__(self, amount, **kwargs):
        super().__init__(**kwargs)
        self.amount = amount
        self._mix, self._unmix = separation()

    def changed(self, images, draws):
        a, b = tf.split(self.amount * (2 * draws[:, _STAIN] - 1), 2, axis=1)
        scales = tf.pad(1 + a, [[0, 0], [0, 1]], constant_values=1.0)
        # Splitting, scaling and mixing again are one matrix for an image.
        matrix = tf.matmul(self._unmix * scales[:, None, :], self._mix[None])
        added = tf.matmul(b, self._mix[:2])
        density = -tf.math.log(tf.maximum(images, 1.0) / 255.0)
        pixels = tf.reshape(density, tf.stack([tf.shape(images)[0], -1, 3]))
        pixels = tf.matmul(pixels, matrix) + added[:, None, :]
        return tf.reshape(tf.minimum(255.0 * tf.exp(-pixels), 255.0), tf.shape(images))

    def get_config(self):
        return {**super().get_config(), "amount": self.amount}


class Brightness(_FromDraws):
    """A lamp brighter or darker: all values times one number from 1 - amount to 1 + amount, clipped at 255."""

    def __init__(self, amount, **kwargs):
        super().__init__(**kwargs)
        self.amount = amount

    def changed(self, images, draws):
        factor = 1 + self.amount * (2 * draws[:, _LAMP] - 1)
        return tf.minimum(images * factor[:, :, None, None], 255.0)

    def get_config(self):
        return {**super().get_config(), "amount": self.amount}
