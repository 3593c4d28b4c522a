"""How large an image may be, inside a graph."""

import tensorflow as tf

from datasets.images.admission import MAX_PIXELS, MAX_RATIO


def sized(sides):
    """Return [height, width], unless an image has no pixels, too many, or a shape that cannot be scaled."""
    # The sides are bounded so that their product does not overflow.
    pixels = tf.reduce_prod(tf.cast(tf.minimum(sides, 2**30), tf.int64))
    is_sized = (pixels > 0) & (pixels <= MAX_PIXELS)
    size_message = f"An image may have 1 to {MAX_PIXELS} pixels, and not:"
    is_good = -(-tf.reduce_max(sides) // MAX_RATIO) <= tf.reduce_min(sides)
    message = f"An image may be {MAX_RATIO} times as long as wide, and not:"
    # With 64 bits TensorFlow would wrap each check in a branch.
    shown = tf.cast(tf.minimum(sides, 2**31 - 1), tf.int32)
    # An image of no pixels fails the first check alone.
    checks = [
        tf.debugging.Assert(is_sized, [size_message, shown]),
        tf.debugging.Assert(is_good | ~is_sized, [message, shown]),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(sides)
