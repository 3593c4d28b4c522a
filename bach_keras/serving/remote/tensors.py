"""TensorProtos from outside: what one claims is judged before an array is made of it."""

import math

import numpy as np
import tensorflow as tf

# The types that requests and answers have, and where each keeps its values.
_VALUES = {tf.string: "string_val", tf.uint8: "int_val", tf.bool: "bool_val", tf.float32: "float_val"}


def claim(tensor) -> tuple[tf.DType, tuple[int, ...]]:
    """Return the type and the shape that a tensor says it has.

    Raises:
        ValueError: they are none.
    """
    try:
        dtype = tf.as_dtype(tensor.dtype)
    except TypeError:
        raise ValueError(f"the type {tensor.dtype}, which TensorFlow does not know") from None
    if tensor.tensor_shape.unknown_rank:
        raise ValueError("no shape")
    return dtype, tuple(side.size for side in tensor.tensor_shape.dim)


def as_array(tensor) -> np.ndarray:
    """Return the values of a tensor whose claim was found good.

    TensorFlow repeats the last value where some are missing, and so answers for images that were not sent.

    Raises:
        ValueError: they do not fill its shape, or it is of a type that no request and no answer has.
    """
    dtype, shape = claim(tensor)
    if dtype not in _VALUES:
        raise ValueError(f"its type is {dtype.name}")
    held = len(getattr(tensor, _VALUES[dtype])) + len(tensor.tensor_content) / (dtype.size or 1)
    if held != math.prod(shape):
        raise ValueError(f"it holds {held:g} values for the shape {list(shape)}")
    try:
        return tf.make_ndarray(tensor)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(str(error)) from error
