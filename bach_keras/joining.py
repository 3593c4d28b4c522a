"""The nodes' answers for an image joined into one: the tree's product, the label, what is doubtful, what is near."""

import tensorflow as tf

from bach_keras.tree import ROOT, SPECIALISTS, products


def soft(nodes):
    """Return the soft probabilities of nodes' pairs [..., 2]: each class's group's times its own within the group."""
    if len(nodes) == 1:
        return next(iter(nodes.values()))
    return tf.concat(products(nodes[ROOT.name], nodes), axis=-1)


def routed(nodes):
    """Return the routed probabilities: the pair of the specialist that was chosen; the other's is 0 already."""
    return tf.concat([nodes[node.name] for node in SPECIALISTS], axis=-1)


def answer(pairs, product, classes, calibration=None) -> dict[str, tf.Tensor]:
    """Return ``probabilities``, ``label``, each node's pair, and ``unsure``, ``set`` and ``spread`` where they are had.

    Args:
        pairs: each node's, float32 [N, 2], or of several views [N, views, 2].
        product: ``soft`` or ``routed``.
        classes: the names of the probabilities.
        calibration: the tree's thresholds.
    """
    nodes = {name: over_views(each) for name, each in pairs.items()}
    probabilities = product(nodes)
    label = tf.argmax(probabilities, axis=1)
    answers = {"probabilities": probabilities, "label": tf.gather(tf.constant(classes), label), **nodes}
    if calibration:
        doubt = calibration.routed_doubt(nodes[ROOT.name], probabilities) if product is routed else None
        answers |= doubt or calibration.doubt(probabilities)
    if next(iter(pairs.values())).shape.rank == 3:
        of_label = tf.gather(product(pairs), label[:, None], axis=2, batch_dims=1)
        answers["spread"] = tf.math.reduce_std(of_label, axis=(1, 2))
    return answers


def over_views(pairs):
    """Average pairs [N, views, 2] over the views; [N, 2] is returned as it is."""
    return tf.reduce_mean(pairs, axis=1) if pairs.shape.rank == 3 else pairs


def distance(features, known):
    """Return how far features [N, width] are from the nearest of those that are known [n, width], float32 [N]."""
    # |a - b|^2 = |a|^2 + |b|^2 - 2ab loses its digits where a is near b. So it only chooses the nearest.
    nearer = tf.matmul(features, known, transpose_b=True) - tf.reduce_sum(known**2, axis=1) / 2
    return tf.norm(features - tf.gather(known, tf.argmax(nearer, axis=1)), axis=1)
