"""Files of every kind through both doors: what reads them for Python, and what an exported model does itself."""

import numpy as np
import pytest
import tensorflow as tf

from bach_keras import preprocess
from datasets.images import bmp, jpeg, png
from datasets.images.admission import NotTakenError
from tests.picture_files.bmp import bmps
from tests.picture_files.jpeg import jpegs
from tests.picture_files.png import pngs


def read(reader, data):
    """Return the pixels, or why there are none."""
    try:
        return reader(data)
    except NotTakenError as error:
        return str(error)
    except tf.errors.InvalidArgumentError as error:
        return error.message.splitlines()[0]


# One test a format: a new seed, as each test has, has TensorFlow optimise the graph again.
@pytest.mark.parametrize(
    ("reader", "files"), [(png.decode, pngs), (jpeg.decode, jpegs), (bmp.decode, bmps)], ids=["png", "jpeg", "bmp"]
)
def test_both_doors_give_the_same_pixels_or_both_refuse(reader, files):
    decode = tf.function(preprocess.decode).get_concrete_function(tf.TensorSpec([], tf.string))
    faults = []
    for name, (data, taken) in files().items():
        here, there = read(reader, data), read(lambda data: decode(tf.constant(data)).numpy(), data)
        refusals = [answer for answer in (here, there) if isinstance(answer, str)]
        if len(refusals) == 1:
            faults.append(f"{name}: one door says: {refusals[0]}")
        elif not refusals and not np.array_equal(here, there):
            faults.append(f"{name}: the pixels differ")
        elif taken is not None and taken == bool(refusals):
            faults.append(f"{name}: {refusals or 'taken'}")
    assert not faults
