"""What a training is built from: a node's network, the precision it is built under, and the one place of the seed."""

import contextlib

import keras
import tensorflow as tf

from bach_keras.network.head import Classifier
from bach_keras.packed_kernels import check_kernels_may_change
from bach_keras.recipe import Recipe


def seed_everything(seed: int) -> None:
    """Make what follows repeatable bit for bit on the CPU: every random stream starts here.

    Refuses an environment in which TensorFlow would go on using the kernels that a training starts with.
    """
    check_kernels_may_change()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def network(recipe: Recipe) -> Classifier:
    """Return a node's network with random weights."""
    return Classifier(recipe.image_size, backbone=recipe.backbone, seed=recipe.seed)


@contextlib.contextmanager
def precision(name: str):
    """Build what is built inside under a dtype policy of Keras."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
