"""PNG in a graph, decoded as ``datasets.images.png`` reads it."""

import tensorflow as tf

from bach_keras.decoding.fields import number, required
from bach_keras.decoding.size import sized
from datasets.images.png import DEPTHS, END, GREY, GREY_ALPHA, MAX_CHUNKS, PALETTE, RGB, RGB_ALPHA

# So many chunks of equal kind and length are skipped at once.
_PIXELS_AT_ONCE, _OTHERS_AT_ONCE = 4096, 64


def decode(data):
    """Decode one PNG, string scalar, to uint8 [H, W, 3], on white where it is transparent.

    What ``datasets.images.png`` refuses is an error when run.
    """
    data = required(
        data,
        (tf.strings.length(data) >= 33, "A PNG's header is cut short."),
        (tf.strings.substr(data, 8, 8) == b"\0\0\0\rIHDR", "A PNG's header is damaged."),
    )
    depth, colours, compression, filters, interlace = (number(data, at, 1) for at in range(24, 29))
    known = [(d, c) for c, depths in DEPTHS.items() for d in depths]
    is_known = tf.reduce_any(tf.reduce_all(tf.stack([depth, colours]) == tf.constant(known, tf.int64), axis=1))
    size = sized(tf.stack([number(data, 20, 4), number(data, 16, 4)]))
    data = required(
        data,
        (is_known & (compression == 0) & (filters == 0) & (interlace <= 1), "A PNG's header is damaged."),
        (depth <= 8, "A PNG of 16 bits per channel is not supported."),
        (size[0] > 0, "A PNG has no pixels."),
    )
    found = _walk(data, colours)
    palette, transparency = found["palette"], found["transparency"]
    data = required(
        data,
        (~found["is_still"] | found["is_good"], "A PNG is damaged or cut short."),
        (found["is_still"], "An animation is not supported."),
        ((colours != PALETTE) | _is_palette(palette[1], depth), "A PNG's palette does not fit its header."),
        (_fits(transparency[1], palette[1], colours), "A PNG's transparency does not fit its colours."),
        (_checksum_holds(data, transparency), "A PNG's transparency is damaged."),
    )
    parts = [_chunk(data, palette), _chunk(data, transparency)]
    pixels = tf.strings.substr(data, found["begin"], found["end"] - found["begin"])
    clean = tf.strings.join([tf.strings.substr(data, 0, 33), *parts, pixels, END])
    has_alpha = (colours == GREY_ALPHA) | (colours == RGB_ALPHA) | (transparency[1] > 0)
    return tf.cond(
        has_alpha,
        lambda: _on_white(tf.io.decode_png(clean, channels=4)),
        lambda: tf.io.decode_png(clean, channels=3),
    )


def _walk(data, colours):
    """Step from chunk to chunk, to the end; return where the palette, the transparency and the pixels are."""
    length = tf.cast(tf.strings.length(data), tf.int64)
    values = tf.io.decode_raw(data, tf.uint8)
    nowhere = tf.zeros([2], tf.int64)
    zero = tf.zeros([], tf.int64)

    def step(state):
        place = state["place"]
        head = tf.strings.substr(data, place, 8)
        kind, size = tf.strings.substr(head, 4, 4), number(head, 0, 4)
        is_pixels, is_palette = kind == b"IDAT", (kind == b"PLTE") & (colours == PALETTE)
        has_pixels = state["begin"] > 0
        is_transparency = (kind == b"tRNS") & (size > 0) & ~has_pixels & (state["transparency"][1] < 0)
        is_transparency &= (colours == GREY) | (colours == RGB) | (colours == PALETTE)
        is_end = kind == b"IEND"
        is_known = tf.strings.regex_full_match(kind, "IDAT|PLTE|IEND|[a-z][A-Za-z]{3}") | (place == 8)
        fits = place + size + 12 <= length
        follows = ~has_pixels | (tf.strings.substr(state["last"], 4, 4) == b"IDAT")
        # Most of a file's chunks are alike, so they are skipped together.
        is_plain = is_pixels | ~tf.strings.regex_full_match(kind, "PLTE|tRNS|IEND|IHDR")
        at_once = tf.where(is_pixels, tf.constant(_PIXELS_AT_ONCE, tf.int64), _OTHERS_AT_ONCE)
        most = tf.where(is_plain & fits, tf.minimum((length - place) // (size + 12), at_once), 1)
        places = place + tf.range(most) * (size + 12)
        heads = tf.gather(values, places[:, None] + tf.range(8, dtype=tf.int64))
        alike = tf.math.cumprod(tf.cast(tf.reduce_all(heads == heads[0], axis=1), tf.int64))
        after = place + tf.where(fits, tf.reduce_sum(alike), 1) * (size + 12)
        runs = state["runs"] + tf.cast(head != state["last"], tf.int64)
        is_good = (
            is_known
            & fits
            & (runs <= MAX_CHUNKS)
            & (~is_pixels | (follows & ((colours != PALETTE) | (state["palette"][1] > 0))))
            & ~(is_palette & (has_pixels | (state["palette"][1] > 0)))
            & (~is_end | (has_pixels & (tf.strings.substr(data, place, 12) == END)))
        )
        moving = (kind == b"fdAT") | (
            (kind == b"acTL") & ~has_pixels & ((size < 4) | (tf.strings.substr(data, place + 8, 4) != b"\0\0\0\1"))
        )
        span = tf.stack([place, size])
        return {
            "place": after,
            "last": head,
            "runs": runs,
            "is_good": is_good,
            "is_still": ~(moving & is_good),
            "is_over": is_end,
            "palette": tf.where(is_palette, span, state["palette"]),
            "transparency": tf.where(is_transparency, span, state["transparency"]),
            "begin": tf.where(is_pixels & ~has_pixels, place, state["begin"]),
            "end": tf.where(is_pixels, after, state["end"]),
        }

    found = tf.while_loop(
        lambda state: state["is_good"] & state["is_still"] & ~state["is_over"] & (state["place"] + 12 <= length),
        lambda state: [step(state)],
        [
            {
                "place": zero + 8,
                "last": tf.constant(bytes(8)),
                "runs": zero,
                "is_good": tf.constant(True),
                "is_still": tf.constant(True),
                "is_over": tf.constant(False),
                "palette": nowhere,
                "transparency": nowhere - 1,
                "begin": zero,
                "end": zero,
            }
        ],
    )[0]
    return found | {"is_good": found["is_good"] & (found["is_over"] | ~found["is_still"])}


def _is_palette(size, depth):
    return (size % 3 == 0) & (size >= 3) & (size <= tf.bitwise.left_shift(tf.constant(3, tf.int64), depth))


def _fits(size, palette, colours):
    """Return whether a number of bytes of transparency, or -1 for none, fits the kind of colours."""
    as_key = size == tf.where(colours == GREY, tf.constant(2, tf.int64), 6)
    fits = tf.where(colours == PALETTE, size <= palette // 3, as_key)
    return (size <= 0) | fits


def _chunk(data, span):
    return tf.cond(span[1] > 0, lambda: tf.strings.substr(data, span[0], span[1] + 12), lambda: tf.constant(b""))


def _checksum_holds(data, span):
    """Return whether a small chunk's checksum is right; libpng ignores transparency where it is wrong."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    table = tf.constant(table, tf.int64)

    def fold(crc, byte):
        return tf.bitwise.bitwise_xor(
            tf.gather(table, tf.bitwise.bitwise_and(tf.bitwise.bitwise_xor(crc, byte), 255)), crc // 256
        )

    def check():
        checked = tf.strings.substr(data, span[0] + 4, tf.minimum(span[1], 256) + 4)
        values = tf.cast(tf.io.decode_raw(checked, tf.uint8), tf.int64)
        crc = tf.foldl(fold, values, tf.constant(0xFFFFFFFF, tf.int64))
        return tf.bitwise.bitwise_xor(crc, 0xFFFFFFFF) == number(data, span[0] + 8 + span[1], 4)

    return tf.cond(span[1] > 0, check, lambda: tf.constant(True))


def _on_white(image):
    """Blend uint8 [H, W, 4] with white, in integers."""

    def mixed():
        colours, alpha = tf.cast(image[..., :3], tf.int32), tf.cast(image[..., 3:], tf.int32)
        return tf.cast((colours * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)

    return tf.cond(tf.reduce_min(image[..., 3]) == 255, lambda: image[..., :3], mixed)
