"""JPEG in a graph, decoded as ``datasets.images.jpeg`` reads it."""

import tensorflow as tf

from bach_keras.decoding.fields import as_string, required
from bach_keras.decoding.size import sized
from datasets.images.jpeg import (
    BASELINE,
    EXTENDED,
    MAX_MARKS,
    MAX_SCANNED,
    MAX_SCANS,
    MAX_SEGMENTS,
    PROGRESSIVE,
    SENTINEL,
)

_EOI, _SOS, _DRI = 0xD9, 0xDA, 0xDD
_FRAMES = (BASELINE, EXTENDED, PROGRESSIVE)
_KNOWN = (*_FRAMES, 0xC4, 0xCC, _EOI, _SOS, 0xDB, 0xDC, _DRI, 0xFE, *range(0xE0, 0xF0))


def decode(data):
    """Decode the first picture of a JPEG, string scalar, to uint8 [H, W, 3].

    What ``datasets.images.jpeg`` refuses is an error when run.
    """
    file = _File(data)
    segments, end = _walk(file)
    frame = _Frame(file, segments)
    scans = _Scans(file, segments, frame)
    data = required(tf.strings.substr(data, 0, tf.cast(end, tf.int32)), *frame.conditions(), *scans.conditions())
    image = _pixels(data)
    with tf.control_dependencies([data]):  # otherwise a graph would decode what it refuses
        cuts = tf.identity(scans.cuts())
    # libjpeg only warns of a scan that ends early, and decodes the bits behind it as the rest. So the picture is
    # decoded again with other bits there, and must be the same.
    tried = _with_sentinels(file.values[:end], cuts)
    last = frame.height - 1
    rows = tf.cast(tf.where(last % 8 > 0, last, frame.height), tf.int32)
    # Without the last row libjpeg does not reach the sentinel, and does not warn of it in the log.
    window = tf.stack([0, 0, rows, tf.cast(frame.width, tf.int32)])
    is_quiet = (tf.size(cuts) == 1) & (frame.kind != PROGRESSIVE)
    other = tf.cond(
        is_quiet,
        lambda: tf.image.decode_and_crop_jpeg(tried, window, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: _pixels(tried)[:rows],
    )
    is_whole = tf.reduce_all(image[:rows] == other)
    return required(image, (is_whole, "A JPEG is cut short: a scan ends before its pixels do."))


def _with_sentinels(values, cuts):
    """Return bytes, uint8 [N], as a string with the sentinel inserted at each cut."""
    sentinel = tf.io.decode_raw(SENTINEL, tf.uint8)
    splits = tf.concat([[0], cuts, tf.size(values, tf.int64)[None], tf.size(values, tf.int64)[None] + len(SENTINEL)], 0)
    rows = tf.RaggedTensor.from_row_splits(tf.concat([values, sentinel], 0), splits, validate=False)
    between = tf.range(tf.size(cuts) + 1)
    order = tf.reshape(tf.stack([between, tf.fill(tf.shape(between), tf.size(cuts) + 1)], axis=1), [-1])
    return as_string(tf.gather(rows, order[:-1]).flat_values)


def _pixels(data):
    # Pillow decodes with this method; TensorFlow's default is up to 20 levels off.
    return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")


class _File:
    """A file's bytes, and where its markers may be."""

    def __init__(self, data):
        self.values = tf.io.decode_raw(data, tf.uint8)
        self.length = tf.size(self.values, tf.int64)
        following = tf.concat([self.values[1:], [0]], 0)
        is_mark = (self.values == 0xFF) & (following != 0) & (following != 0xFF)
        places = tf.where(is_mark)[:, 0]
        self.places = required(places, (tf.size(places) <= MAX_MARKS, "A JPEG has too many markers."))
        self.codes = self.number(self.places + 1)
        is_restart = (self.codes >= 0xD0) & (self.codes <= 0xD7)
        self.restarts = tf.boolean_mask(self.places, is_restart)
        self.others = tf.boolean_mask(self.places, ~is_restart)

    def number(self, places, size: int = 1):
        """Return the numbers of one or two bytes at some places; bytes behind the end are 0."""
        padded = [
            tf.where(at < self.length, tf.cast(tf.gather(self.values, tf.minimum(at, self.length - 1)), tf.int64), 0)
            for at in (places + i for i in range(size))
        ]
        return padded[0] if size == 1 else 256 * padded[0] + padded[1]


def _walk(file):
    """Step from segment to segment, to the end.

    Returns:
        For each segment its marker, the place and length of its content, and the end of the data behind it, int64
        [N, 4]; and where the file ends.
    """
    count = tf.size(file.places)

    def step(place, index, rows, is_good, is_over):
        # Bytes between segments are skipped, as libjpeg does.
        found = tf.searchsorted(file.places, [place])[0]
        has_more = found < count
        mark = file.places[tf.minimum(found, count - 1)]
        code = file.codes[tf.minimum(found, count - 1)]
        behind = mark + 2
        is_bare = (code == 1) | ((code >= 0xD0) & (code <= 0xD7))
        is_end = has_more & (code == _EOI)
        length = tf.where(is_bare | is_end, tf.constant(0, tf.int64), file.number(behind, 2))
        after = behind + length
        is_known = is_bare | tf.reduce_any(code == tf.constant(_KNOWN, tf.int64))
        fits = is_bare | is_end | ((length >= 2) & (after <= file.length))
        next_other = tf.searchsorted(file.others, [after])[0]
        has_end = (code != _SOS) | (next_other < tf.size(file.others))
        stop = file.others[tf.minimum(next_other, tf.size(file.others) - 1)]
        stop = tf.where(code == _SOS, stop, after)
        is_good = has_more & is_known & fits & has_end
        rows = rows.write(index, tf.stack([code, behind + 2, length - 2, stop]))
        return stop, index + 1, rows, is_good, is_end

    rows = tf.TensorArray(tf.int64, 1, dynamic_size=True, element_shape=[4])
    end, _, rows, is_good, is_over = tf.while_loop(
        lambda place, index, rows, is_good, is_over: is_good & ~is_over & (index < MAX_SEGMENTS),
        step,
        (tf.constant(2, tf.int64), 0, rows, count > 0, tf.constant(False)),
    )
    return required(rows.stack(), (is_good & is_over, "A JPEG is damaged or cut short.")), end


class _Frame:
    """The size and channels of a file."""

    def __init__(self, file, segments):
        codes = segments[:, 0]
        is_frame = tf.reduce_any(codes[:, None] == tf.constant(_FRAMES, tf.int64), axis=1)
        rows = tf.boolean_mask(segments, is_frame)
        self._count = tf.shape(rows)[0]
        row = tf.concat([rows, tf.zeros([1, 4], tf.int64)], 0)[0]
        self.kind, place, self._length = row[0], row[1], row[2]
        self.place = place
        self._depth = file.number(place)
        self.channels = file.number(place + 5)
        self.height, self.width = file.number(place + 1, 2), file.number(place + 3, 2)
        slots = place + 6 + 3 * tf.range(3, dtype=tf.int64)
        is_used = tf.range(3, dtype=tf.int64) < self.channels
        # The two channels that a grey image lacks get names that no scan can have.
        self.ids = tf.where(is_used, file.number(slots), [-1, -2, -3])
        both = tf.where(is_used, file.number(slots + 1), 0x11)
        self.across, self.down = both // 16, both % 16

    def conditions(self):
        sides = tf.stack([self.height, self.width])
        factors = tf.concat([self.across, self.down], 0)
        return (
            (self._count == 1, "A JPEG must have one frame, of a kind that is supported."),
            (self._depth == 8, "A JPEG must have 8 bits per channel."),
            ((self.channels == 1) | (self.channels == 3), "A JPEG must have one or three channels."),
            (self._length == 6 + 3 * self.channels, "A JPEG's frame is damaged."),
            (tf.reduce_all((factors >= 1) & (factors <= 4)), "A JPEG's frame is damaged."),
            (tf.size(tf.unique(self.ids)[0]) == 3, "A JPEG's frame is damaged."),
            (tf.reduce_all(sized(sides) > 0), "A JPEG has no pixels."),
        )


class _Scans:
    """The scans of a file, and where their data is."""

    def __init__(self, file, segments, frame):
        self._file, self._frame = file, frame
        is_scan = segments[:, 0] == _SOS
        rows = tf.boolean_mask(segments, is_scan)[: MAX_SCANS + 1]
        self._count = tf.shape(rows, tf.int64)[0]
        self._lengths, places = rows[:, 2], rows[:, 1]
        self._channels = file.number(places)
        self.starts, self.ends = places + self._lengths, rows[:, 3]
        slots = places[:, None] + 1 + 2 * tf.range(3, dtype=tf.int64)
        is_used = tf.range(3, dtype=tf.int64) < self._channels[:, None]
        ids = tf.where(is_used, file.number(slots), -9)
        # How often each scan contains each of the frame's channels: [scans, channels].
        self._holds = tf.cast(tf.math.count_nonzero(ids[:, :, None] == frame.ids, axis=1), tf.int64)
        tail = self.starts - 3
        bits = file.number(tail + 2)
        is_progressive = frame.kind == PROGRESSIVE
        self._first = tf.where(is_progressive, file.number(tail), 0)
        self._last = tf.where(is_progressive, file.number(tail + 1), 63)
        self._high = tf.where(is_progressive, bits // 16, 0)
        self._low = tf.where(is_progressive, bits % 16, 0)
        # An interval applies to the scans behind it.
        row = tf.range(tf.shape(segments)[0])
        is_interval = segments[:, 0] == _DRI
        self._intervals_fit = tf.reduce_all(~is_interval | (segments[:, 2] == 2))
        latest = tf.where(is_interval & (row < tf.boolean_mask(row, is_scan)[: MAX_SCANS + 1, None]), row, -1)
        latest = tf.reduce_max(latest, axis=1)
        announced = file.number(tf.gather(segments[:, 1], tf.maximum(latest, 0)), 2)
        self._interval = tf.where(latest < 0, tf.constant(0, tf.int64), announced)
        frame_row = tf.reduce_min(tf.where(segments[:, 1] == frame.place, row, tf.shape(segments)[0]))
        self._follow_frame = tf.reduce_all(tf.boolean_mask(row, is_scan) > frame_row)
        first = tf.searchsorted(file.restarts, self.starts)
        self._restarts = first, tf.searchsorted(file.restarts, self.ends) - first
        self._scan = tf.searchsorted(self.starts, file.restarts, side="right") - 1
        of_end = tf.gather(tf.concat([self.ends, [0]], 0), tf.maximum(self._scan, 0))
        self._is_inside = (self._scan >= 0) & (file.restarts < of_end)

    def cuts(self):
        """Return where each stretch of data ends."""
        inside = tf.boolean_mask(self._file.restarts, self._is_inside)
        return tf.sort(tf.concat([inside, self.ends], 0))

    def conditions(self):
        frame = self._frame
        scanned = tf.minimum(frame.width * frame.height, MAX_SCANNED + 1) * self._count
        is_few = (self._count <= MAX_SCANS) & (scanned <= MAX_SCANNED)
        names_fit = tf.reduce_all(
            (self._lengths == 4 + 2 * self._channels)
            & (self._channels >= 1)
            & (tf.reduce_sum(self._holds, axis=1) == self._channels)
            & (tf.reduce_max(self._holds, axis=1) <= 1)
        )
        return (
            ((self._count > 0) & self._follow_frame, "A JPEG has no scans."),
            (is_few, "A JPEG of so many scans is not supported."),
            (names_fit, "A JPEG's scans are damaged."),
            (self._intervals_fit, "A JPEG's restart interval is damaged."),
            (self._are_complete(), "A JPEG's scans are missing or do not follow each other."),
            (self._restarts_hold(), "A JPEG's restart markers are missing."),
        )

    def _are_complete(self):
        """Return whether each bit of each coefficient of each channel comes once, in order."""
        place = tf.range(64, dtype=tf.int64)
        covers = (place >= self._first[:, None]) & (place <= self._last[:, None])
        covers = covers[:, None, :] & (self._holds[:, :, None] > 0)

        def follow(known, scan):
            covered, high, low, is_span = scan
            is_next = known == tf.where(high > 0, high, -1)
            # No bit has this number, so it stays wrong.
            return tf.where(covered, tf.where(is_next & is_span, low, 99), known)

        is_span = (self._first <= self._last) & (self._last <= 63)
        has_channel = (tf.range(3, dtype=tf.int64) < self._frame.channels)[:, None]
        start = tf.where(has_channel, tf.fill([3, 64], tf.constant(-1, tf.int64)), 0)
        known = tf.foldl(follow, (covers, self._high, self._low, is_span), start)
        return tf.reduce_all(known == 0) & tf.reduce_all(is_span)

    def _restarts_hold(self):
        """Return whether the markers that split a scan's data are complete and in order."""
        frame = self._frame
        across, down = tf.reduce_max(frame.across), tf.reduce_max(frame.down)
        across, down = tf.maximum(across, 1), tf.maximum(down, 1)

        def pieces(total, size):
            return -(-total // size)

        together = pieces(frame.width, 8 * across) * pieces(frame.height, 8 * down)
        columns, rows = pieces(frame.width * frame.across, across), pieces(frame.height * frame.down, down)
        alone = tf.reduce_sum(self._holds * pieces(columns, 8) * pieces(rows, 8), axis=1)
        units = tf.where(self._channels > 1, together, alone)
        expected = tf.where(self._interval > 0, pieces(units, tf.maximum(self._interval, 1)) - 1, 0)
        first, count = self._restarts
        # Some programs write another one behind the last unit.
        surplus = tf.cast(count, tf.int64) - expected
        begin = tf.gather(tf.concat([first, [0]], 0), tf.maximum(self._scan, 0))
        order = (tf.range(tf.size(begin)) - begin) % 8
        is_next = self._file.number(self._file.restarts + 1) == 0xD0 + tf.cast(order, tf.int64)
        return tf.reduce_all((surplus == 0) | (surplus == 1)) & tf.reduce_all(is_next | ~self._is_inside)
