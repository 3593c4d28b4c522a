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

READERS = {"png": png, "jpeg": jpeg, "bmp": bmp}
FILES = {
    f"{kind}: {name}": (READERS[kind], *made)
    for kind, listed in (("png", pngs), ("jpeg", jpegs), ("bmp", bmps))
    for name, made in listed().items()
}


@pytest.fixture(scope="module")
def decode():
    return tf.function(preprocess.decode).get_concrete_function(tf.TensorSpec([], tf.string))


@pytest.mark.parametrize("name", FILES)
def test_both_doors_give_the_same_pixels_or_both_refuse(decode, name):
    reader, data, taken = FILES[name]
    try:
        here = reader.decode(data)
    except NotTakenError as error:
        here = None
        assert not taken, error  # noqa: PT017
    try:
        there = decode(tf.constant(data)).numpy()
    except tf.errors.InvalidArgumentError as error:
        there = None
        assert not taken, error.message  # noqa: PT017
    assert (here is None) == (there is None), "one door refuses"
    if taken is not None:
        assert (here is not None) == taken
    if here is not None:
        np.testing.assert_array_equal(here, there)
