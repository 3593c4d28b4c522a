"""Where a network looked: Grad-CAM (Selvaraju et al. 2017, equations 1 and 2) of its last feature map, in closed form.

The head behind the map is its maxima and means, batch norms, dense layers and one ReLU, so the gradient is a few
products of its weights. No gradient of a convolution is needed, and the graph of an export holds plain products.
"""

import keras
import tensorflow as tf

# How many pixels of the network's square lie between the centres of two cells of the map; the first cell's centre is
# the square's first pixel, as every layer of stride 2 is padded on both sides alike.
STRIDE = 32


def last_map(network: keras.Model):
    """Return the feature map that the head pools, [N, h, w, C], as a part of the functional model."""
    return network.get_layer("head.max").input


def evidence(head: keras.Model, maps, hidden):
    """Return at each place what speaks for the second class rather than the first, float32 [N, h, w]; signed.

    It is the sum over channels of the map times the mean gradient, over the places, of the second logit minus the
    first. The two classes differ in its sign alone. The difference is taken, and not one logit, as only the difference
    changes the answer.

    Args:
        head: a model with the head's layers.
        maps: ``last_map``, [N, h, w, C].
        hidden: what ``head.relu`` answers, [N, width]; in inference, where dropout does nothing.
    """
    norms = [head.get_layer(f"head.bn{number}") for number in (1, 2)]
    first, second = (_value(head.get_layer(f"head.dense{number}").kernel) for number in (1, 2))
    scales = [_value(norm.gamma) * tf.math.rsqrt(_value(norm.moving_variance) + norm.epsilon) for norm in norms]
    of_hidden = tf.cast(hidden > 0, tf.float32) * (scales[1] * (second[:, 1] - second[:, 0]))
    of_maximum, of_mean = tf.split(scales[0] * tf.matmul(of_hidden, first, transpose_b=True), 2, axis=1)
    # The gradient of a maximum is at its place, and that of a mean everywhere alike; both have the same sum.
    weights = (of_maximum + of_mean) / tf.cast(maps.shape[1] * maps.shape[2], tf.float32)
    return tf.einsum("nhwc,nc->nhw", tf.cast(maps, tf.float32), weights)


def as_map(signed):
    """Keep what is above 0, and scale each map [N, h, w] by its own largest value; all 0 where nothing is above 0."""
    above = tf.nn.relu(signed)
    return tf.math.divide_no_nan(above, tf.reduce_max(above, axis=(1, 2), keepdims=True))


def _value(weight):
    return tf.cast(weight.value, tf.float32)
