"""TensorProtos from outside: what one claims is checked before an array is made from it."""

import math

import numpy as np
import tensorflow as tf

# The types of requests and answers, and the field where each keeps its values.
_VALUES = {tf.string: "string_val", tf.uint8: "int_val", tf.bool: "bool_val", tf.float32: "float_val"}


class TensorError(Exception):
    """A tensor that contradicts itself; the message says how."""


def claim(tensor) -> tuple[tf.DType, tuple[int, ...]]:
    """Return the type and the shape that a tensor claims to have."""
    try:
        dtype = tf.as_dtype(tensor.dtype)
    except TypeError:
        raise TensorError(f"the type {tensor.dtype}, which TensorFlow does not know") from None
    if tensor.tensor_shape.unknown_rank:
        raise TensorError("no shape")
    return dtype, tuple(side.size for side in tensor.tensor_shape.dim)


def as_array(tensor) -> np.ndarray:
    """Return the values of a tensor whose claim was accepted."""
    dtype, shape = claim(tensor)
    if dtype not in _VALUES:
        raise TensorError(f"its type is {dtype.name}")
    # TensorFlow would repeat the last value where some are missing, and so answer for images that were not sent.
    held = len(getattr(tensor, _VALUES[dtype])) + len(tensor.tensor_content) / (dtype.size or 1)
    if held != math.prod(shape):
        raise TensorError(f"it holds {held:g} values for the shape {list(shape)}")
    try:
        return tf.make_ndarray(tensor)
    except (TypeError, ValueError, ArithmeticError) as error:  # TensorFlow, of values that do not fit the type
        raise TensorError(str(error)) from error
