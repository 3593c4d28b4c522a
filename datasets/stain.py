"""Stain normalisation: give an image of H&E tissue the colours of a fixed reference.

All of it is TensorFlow ops, so it runs in tf.data and inside an exported model alike. It counts in
float64: an image then rounds to the same values alone and in a batch.
"""

import numpy as np
import tensorflow as tf

NORMALISATIONS = ("none", "macenko", "reinhard")

# The reference of Macenko's method that its public implementations share: red, green and blue optical
# density of haematoxylin and eosin (rows), and the 99th percentile of their concentrations
# (github.com/mitkovetta/staining-normalization; torchstain has the same).
MACENKO_STAINS = ((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581))
MACENKO_CONCENTRATIONS = (1.9705, 1.0308)

# Mean and deviation of L*, a*, b*: slideflow's preset "v2" (github.com/slideflow/slideflow, "reinhard_fast"),
# tuned by hand, which goes with the stains above. Averages over tiles of tissue alone would turn glass pink.
REINHARD_MEAN = (69.20197, 19.82498, -4.690998)
REINHARD_DEVIATION = (17.71583, 14.156416, 5.4176064)

# Macenko et al. 2009: the transmitted light, the density below which a channel lets light through, and the share
# of pixels, in percent, beyond each of the two extreme angles and beyond the highest concentration that counts.
LIGHT = 240.0
GLASS = 0.15
_EXTREME = 1.0

# An image of which less than this share is tissue is left as it is.
_LEAST_TISSUE = 0.01
# So is one whose two stains cannot be distinguished (squared sine of their angle), or lack one of them ...
_LEAST_ANGLE = 0.003
_LEAST_CONCENTRATION = 0.05
# ... and one so even, in units of L*, that its deviation is noise.
_LEAST_DEVIATION = 1.0

# sRGB with the white point D65, as in IEC 61966-2-1.
_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)


def normalise(images, method: str, sample=None):
    """Give images the colours of the method's reference.

    ``images`` are uint8 [H, W, 3] or [N, H, W, 3]; so is ``sample``, the part of each image that its own colours are
    measured on, by default all of it. The answer is rounded, in the shape and type of ``images``. An image without the
    tissue to measure, such as a blank one, comes back as it is; ``normalise_each`` says which.
    """
    return normalise_each(images, method, sample)[0]


def normalise_each(images, method: str, sample=None):
    """Return what ``normalise`` does and whether each image was normalised.

    The second is bool [N], or a scalar for one image; with the method "none" it is always True.
    """
    if method not in NORMALISATIONS:
        raise ValueError(f"There is no stain normalisation {method!r}: choose one of {', '.join(NORMALISATIONS)}.")
    leading = tf.shape(images)[:-3]
    if method == "none":
        return images, tf.ones(leading, tf.bool)
    pixels, measured = _pixels(images), _pixels(images if sample is None else sample)
    changed, known = {"macenko": _macenko, "reinhard": _reinhard}[method](pixels, measured)
    rounded = tf.cast(tf.clip_by_value(tf.round(changed), 0, 255), tf.uint8)
    kept = tf.where(known[:, None, None], rounded, pixels)
    return tf.ensure_shape(tf.reshape(kept, tf.shape(images)), images.shape), tf.reshape(known, leading)


def _pixels(images):
    """Return uint8 [N, H * W, 3]; one image is a batch of one."""
    shape = tf.shape(images)
    return tf.reshape(images, [1 if images.shape.rank == 3 else shape[0], shape[-3] * shape[-2], 3])


def _macenko(pixels, sample):
    """Macenko et al. (2009), "A method for normalizing histology slides for quantitative analysis".

    Tissue is what absorbs in every channel, as the method's public implementations have it. Strong eosin and pale
    stains let red through, so an image full of tissue may have hardly such a pixel, or those of nuclei alone: where
    no two stains are found so, tissue is what absorbs in any channel against the image's own glass.

    Returns float64 [N, P, 3], and whether the stains could be measured, bool [N].
    """
    table = tf.constant(-np.log((np.arange(256) + 1) / LIGHT))
    pixels, sample = (tf.gather(table, tf.cast(levels, tf.int32)) for levels in (pixels, sample))
    changed, known = _recoloured(pixels, sample, tf.reduce_all(sample >= GLASS, axis=2))

    def against_own_glass():
        everywhere = tf.ones_like(sample[..., 0], tf.bool)
        clearest = tf.stack([-_upper_extreme(-sample[..., i], everywhere) for i in range(3)], axis=1)[:, None]
        # Where no glass is in sight the light is the assumed one; where it is brighter than that, a stain that lets a
        # channel through would come out negative there.
        glass = tf.minimum(clearest, 0)
        tissue = tf.reduce_any(sample - glass >= GLASS, axis=2)
        other, found = _recoloured(pixels - glass, sample - glass, tissue)
        return tf.where(known[:, None, None], changed, other), known | found

    return tf.cond(tf.reduce_all(known), lambda: (changed, known), against_own_glass)


def _recoloured(pixels, sample, tissue):
    """Unmix optical densities, float64 [N, P, 3], by the stains of the sample's tissue, and mix by the reference's.

    Returns float64 [N, P, 3] in 0..255, and whether two stains were found in the tissue, bool [N, P]: bool [N].
    """
    stains = _extreme_directions(sample, tissue)
    gram = tf.matmul(stains, stains, transpose_b=True)
    known = tf.reduce_mean(tf.cast(tissue, tf.float64), axis=1) >= _LEAST_TISSUE
    known &= tf.linalg.det(gram) >= _LEAST_ANGLE
    # A singular matrix has no inverse, and TensorFlow would stop at it.
    gram = tf.where(known[:, None, None], gram, tf.eye(2, dtype=tf.float64))
    # Least squares: density = concentrations · stains.
    unmix = tf.matmul(stains, tf.linalg.inv(gram), transpose_a=True)
    concentrations = tf.matmul(sample, unmix)
    everywhere = tf.ones_like(tissue)
    highest = tf.stack([_upper_extreme(concentrations[..., i], everywhere) for i in range(2)], axis=1)
    known &= tf.reduce_all(highest >= _LEAST_CONCENTRATION, axis=1)
    scale = MACENKO_CONCENTRATIONS / tf.where(known[:, None], highest, 1)
    matrix = tf.matmul(unmix * scale[:, None, :], tf.constant(MACENKO_STAINS, tf.float64)[None])
    return LIGHT * tf.exp(-tf.matmul(pixels, matrix)), known


def _extreme_directions(density, tissue):
    """Return haematoxylin and eosin, the more and the less red-absorbing of the extremes: [N, 2, 3]."""
    weight = tf.cast(tissue, tf.float64)[..., None]
    count = tf.maximum(tf.reduce_sum(weight, axis=1, keepdims=True), 2)
    centred = (density - tf.reduce_sum(weight * density, axis=1, keepdims=True) / count) * weight
    covariance = tf.matmul(centred, centred, transpose_a=True) / (count - 1)
    _, axes = tf.linalg.eigh(covariance)
    plane = axes[:, :, 1:]
    # An axis may point either way. Towards the tissue, so that its angles do not pass the half turn, where they jump.
    towards = tf.matmul(tf.reduce_sum(weight * density, axis=1, keepdims=True), plane)
    plane *= tf.where(towards < 0, tf.constant(-1.0, tf.float64), 1.0)
    on_plane = tf.matmul(density, plane)
    angle = tf.atan2(on_plane[..., 1], on_plane[..., 0])
    extremes = tf.stack([-_upper_extreme(-angle, tissue), _upper_extreme(angle, tissue)], axis=1)
    directions = tf.matmul(tf.stack([tf.cos(extremes), tf.sin(extremes)], axis=2), plane, transpose_b=True)
    first, second = directions[:, 0], directions[:, 1]
    swapped = (first[:, 0] <= second[:, 0])[:, None]
    return tf.stack([tf.where(swapped, second, first), tf.where(swapped, first, second)], axis=1)


def _upper_extreme(values, chosen):
    """Return the percentile 100 - _EXTREME of each row's chosen values, as NumPy counts it: [N, P] -> [N]."""
    share = _EXTREME / 100
    pixels = tf.shape(values)[1]
    # Only the top is put in order: that is ten times as fast as all.
    several = tf.minimum(tf.cast(share * tf.cast(pixels, values.dtype), tf.int32) + 2, pixels)
    top, _ = tf.math.top_k(tf.where(chosen, values, values.dtype.min), several)
    last = tf.maximum(tf.reduce_sum(tf.cast(chosen, values.dtype), axis=1) - 1, 0)
    place = last * share
    above = tf.floor(place)
    high, low = (tf.gather(top, tf.cast(edge, tf.int32), axis=1, batch_dims=1) for edge in (above, tf.math.ceil(place)))
    return high + (place - above) * (low - high)


def _reinhard(pixels, sample):
    """Reinhard et al. (2001), "Color transfer between images": match mean and deviation of each channel.

    In CIE L*a*b*, as the stain normalisers in use have it, and not in the paper's lαβ, whose logarithm
    is coarse in the dark.

    Returns float64 [N, P, 3], and whether there is any contrast to match, bool [N].
    """
    mean, variance = tf.nn.moments(_to_lab(sample), axes=[1], keepdims=True)
    deviation = tf.sqrt(variance)
    known = deviation[:, 0, 0] >= _LEAST_DEVIATION
    # A grey image has no deviation of colour: it then takes the reference's mean colour.
    standard = (_to_lab(pixels) - mean) / tf.maximum(deviation, 1e-3)
    return _from_lab(standard * REINHARD_DEVIATION + REINHARD_MEAN), known


def _to_lab(pixels):
    """Convert sRGB uint8 [..., 3] to L* in 0..100, a* and b*, float64."""
    level = np.arange(256) / 255
    linear = tf.constant(np.where(level > 0.04045, ((level + 0.055) / 1.055) ** 2.4, level / 12.92))
    matrix = np.transpose(_TO_XYZ) / _WHITE
    xyz = tf.matmul(tf.gather(linear, tf.cast(pixels, tf.int32)), tf.constant(matrix)[None])
    x, y, z = tf.unstack(tf.where(xyz > 0.008856, xyz ** (1 / 3), 7.787 * xyz + 16 / 116), axis=-1)
    return tf.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _from_lab(lab):
    """Convert L*, a*, b* to sRGB in 0..255, float64; what no screen can show is clipped."""
    lightness, a, b = tf.unstack(lab, axis=-1)
    y = (lightness + 16) / 116
    xyz = tf.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = tf.where(xyz > 0.2068966, xyz**3, (xyz - 16 / 116) / 7.787)
    matrix = np.linalg.inv(np.transpose(_TO_XYZ) / _WHITE)
    linear = tf.clip_by_value(tf.matmul(xyz, tf.constant(matrix)[None]), 0, 1)
    return 255 * tf.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
