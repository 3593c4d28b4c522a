"""Augmentation of H&E images as keras-cv layers.

The layers draw nothing themselves: each image brings its own row of uniform
numbers, made from (seed, epoch, index), so the same seed gives the same
pictures whatever the threads do.
"""

import math

import keras_cv
import tensorflow as tf

DRAWS = "draws"
DRAW_COUNT = 5


class RandomView(keras_cv.layers.VectorizedBaseImageAugmentationLayer):
    """A random rotation, reflection and crop in one resampling (Koné & Boulmane 2018, section 3.1).

    Tissue has no up and no left: any angle and either hand are as likely. Places
    outside the image are filled by reflection at its border.

    Args:
        size: side of the square answer, in pixels.
        smallest: the smallest window cut from the image, as a share of ``size``.

    Takes a dict of ``images`` [N, H, W, 3] or [H, W, 3] in 0..255 with the shorter side
    at least ``size``, and ``draws`` float [N, DRAW_COUNT] or [DRAW_COUNT] in [0, 1); other
    entries pass through. ``images`` become float32 [N, size, size, 3].
    """

    def __init__(self, size, smallest=0.8, **kwargs):
        # Never drawn from; without a seed the base takes the global generator, which determinism forbids.
        super().__init__(**{"seed": 1, **kwargs})
        self.size = size
        self.smallest = smallest

    # The public hooks of keras-cv's base see no entry but images and labels; this one sees the draws.
    def _batch_augment(self, inputs):
        images = tf.cast(inputs["images"], tf.float32)
        angle, hand, scale, right, down = tf.unstack(tf.cast(inputs[DRAWS], tf.float32), axis=1)
        angle = 2 * math.pi * angle
        hand = tf.where(hand < 0.5, -1.0, 1.0)
        scale = self.smallest + (1 - self.smallest) * scale
        sides = tf.cast(tf.shape(images)[1:3], tf.float32)
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
        return {**inputs, "images": tf.ensure_shape(views, (None, self.size, self.size, 3))}

    def get_config(self):
        return {**super().get_config(), "size": self.size, "smallest": self.smallest}
