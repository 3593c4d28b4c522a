"""BMP in a graph, decoded as ``datasets.images.bmp`` reads it."""

import tensorflow as tf

from bach_keras.decoding.fields import number, required, signed
from bach_keras.decoding.size import sized
from datasets.images.bmp import HEADERS, MASKS, PALETTES


def decode(data):
    """Decode one BMP, string scalar, to uint8 [H, W, 3]; what ``datasets.images.bmp`` refuses is an error when run."""
    data = required(data, (tf.strings.length(data) >= 54, "A BMP's header is cut short."))
    # The masks end 70 bytes from the start; shorter data is padded.
    field = tf.strings.join([tf.strings.substr(data, 0, 70), tf.constant(bytes(16))])
    offset, header, width, height = (number(field, at, 4, "little") for at in (10, 14, 18, 22))
    width, height = signed(width), signed(height)
    planes, bits = number(field, 26, 2, "little"), number(field, 28, 2, "little")
    compression, listed = number(field, 30, 4, "little"), number(field, 46, 4, "little")
    is_masked, is_listed = compression == 3, _is_one_of(bits, PALETTES)
    is_plain = (compression == 0) & (is_listed | (bits == 24) | (bits == 32))
    masks = tf.stack([number(field, at, 4, "little") for at in (54, 58, 62, 66)])
    alpha = tf.where(header >= 56, masks[3], 0)
    is_ordered = tf.reduce_all(masks[:3] == MASKS) & (alpha == 0)

    rows_begin = 14 + header + tf.where(is_masked & (header == 40), tf.constant(12, tf.int64), 0)
    count = tf.where(listed == 0, tf.bitwise.left_shift(tf.constant(1, tf.int64), tf.minimum(bits, 8)), listed)
    count = tf.where(is_listed, count, 0)
    rows_begin += 4 * count
    size = sized(tf.stack([tf.abs(height), width]))
    stride = (size[1] * bits + 31) // 32 * 4
    length = tf.cast(tf.strings.length(data), tf.int64)
    data = required(
        data,
        (_is_one_of(header, HEADERS), "A BMP with this header is not supported."),
        (is_plain | (is_masked & (bits == 32) & (header != 64)), "A BMP in this layout is not supported."),
        (~is_masked | is_ordered, "A BMP with its channels in another order, or with alpha, is not supported."),
        (planes == 1, "A BMP of more than one plane is not supported."),
        (count <= 256, "A BMP's palette is damaged."),
        (offset >= rows_begin, "A BMP's pixels overlap its header."),
        (offset + stride * size[0] <= length, "A BMP is cut short."),
    )

    def direct():
        # TensorFlow's own decoder is the fastest, and right about these where nothing follows the pixels.
        file = tf.strings.substr(data, tf.zeros_like(offset), offset + stride * size[0])
        return tf.cond(
            bits == 24,
            lambda: tf.io.decode_bmp(file, channels=3),
            lambda: tf.io.decode_bmp(file, channels=4)[..., :3],
        )

    def indexed():
        stored = tf.strings.substr(data, offset, stride * size[0])
        rows = tf.reshape(tf.io.decode_raw(stored, tf.uint8), tf.stack([size[0], stride]))
        rows = tf.cond(height > 0, lambda: tf.reverse(rows, [0]), lambda: rows)
        shifts = tf.range(8 - bits, -1, -bits, tf.int64)
        shifted = tf.bitwise.right_shift(rows[..., None], tf.cast(shifts, tf.uint8))
        most = tf.cast(tf.bitwise.left_shift(tf.constant(1, tf.int64), bits) - 1, tf.uint8)
        spread = tf.stack([size[0], stride * (8 // bits)])
        indices = tf.reshape(tf.bitwise.bitwise_and(shifted, most), spread)[:, : size[1]]
        highest = tf.cast(tf.reduce_max(indices), tf.int64)
        indices = required(indices, (highest < count, "A BMP uses colours that its palette does not have."))
        colours = tf.io.decode_raw(tf.strings.substr(data, 14 + header, 4 * count), tf.uint8)
        return tf.gather(tf.reshape(colours, [-1, 4])[:, 2::-1], tf.cast(indices, tf.int32))

    return tf.cond(is_listed, indexed, direct)


def _is_one_of(value, choices):
    return tf.reduce_any(value == tf.constant(choices, tf.int64))
