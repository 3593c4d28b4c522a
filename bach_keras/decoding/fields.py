"""Numbers in a file's bytes, and conditions on them, inside a graph."""

import tensorflow as tf


def number(data, place, size: int, order: str = "big"):
    """Return the unsigned number of 1 to 4 bytes of a string scalar at a place, as int64; they must exist."""
    digits = tf.cast(tf.io.decode_raw(tf.strings.substr(data, place, size), tf.uint8), tf.int64)
    powers = [256**i for i in range(size)]
    return tf.reduce_sum(digits * tf.constant(powers if order == "little" else powers[::-1], tf.int64))


def signed(value):
    """Return the signed number of 32 bits that has the bits of an unsigned one."""
    return value - value // 2**31 * 2**32


def required(value, *conditions):
    """Return a tensor that is an error unless all conditions hold: pairs of a bool scalar and a message."""
    checks = [tf.debugging.Assert(condition, [words]) for condition, words in conditions]
    with tf.control_dependencies(checks):
        return tf.identity(value)


def as_string(values):
    """Return bytes, uint8 [N], as a string: TensorFlow has no operation for it, but its messages end in them."""
    message = tf.io.serialize_tensor(values)
    return tf.strings.substr(message, tf.strings.length(message) - tf.size(values), tf.size(values))
