import threading
import time
from contextlib import closing
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from datasets.errors import UserError
from datasets.images.ahead import THREADS, read_ahead
from datasets.images.read import read_rgb

COUNT = 40


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Small images, each of its own grey, some of them broken."""
    folder = tmp_path_factory.mktemp("images")
    made = []
    for number in range(COUNT):
        made.append(folder / f"{number:02d}.png")
        Image.new("RGB", (8, 8), (number,) * 3).save(made[-1])
    for number in (3, 4, 39):
        made[number].write_bytes(made[number].read_bytes()[:60])
    return made


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead_")]


@pytest.mark.parametrize("most", [1, 8, 100])
def test_files_come_in_order_and_errors_stand_in_their_places(paths, most):
    found = list(read_ahead(paths, lambda pixels: int(pixels[0, 0, 0]), most))
    assert len(found) == COUNT
    for number, each in enumerate(found):
        if number in (3, 4, 39):
            with pytest.raises(UserError) as expected:
                read_rgb(paths[number])
            assert isinstance(each, UserError)
            assert str(each) == str(expected.value)
            assert each.__traceback__ is each.__context__ is None
        else:
            assert each == number
    assert readers() == []


def test_no_more_is_read_than_was_asked_for(paths):
    started, held, most_held, lock = [], [], [], threading.Lock()

    def prepare(pixels):
        with lock:
            started.append(int(pixels[0, 0, 0]))
            held.append(1)
            most_held.append(len(held))
        time.sleep(0.001)
        with lock:
            held.pop()
        return started[-1]

    with closing(read_ahead(paths[5:39], prepare, 6)) as images:
        list(islice(images, 10))
        assert len(started) <= 16
    assert max(most_held) <= THREADS
    assert len(started) < 34
    assert readers() == []


def test_an_iterator_that_is_dropped_leaves_no_thread(paths):
    images = read_ahead(paths, np.mean, 8)
    next(images)
    assert readers() != []
    del images
    assert readers() == []


def test_a_bug_in_the_work_is_raised_where_its_file_stands(paths):
    def prepare(pixels):
        if pixels[0, 0, 0] == 7:
            raise ZeroDivisionError
        return pixels

    images = read_ahead(paths, prepare, 8)
    assert len(list(islice(images, 7))) == 7
    with pytest.raises(ZeroDivisionError):
        next(images)
    assert readers() == []


def test_an_interrupt_leaves_no_thread(paths):
    images = read_ahead(paths, np.mean, 8)
    next(images)
    with pytest.raises(KeyboardInterrupt):
        images.throw(KeyboardInterrupt)
    assert readers() == []


def test_files_read_at_once_are_as_those_read_alone(tmp_path):
    """Nothing that the decoders share, such as filters of warnings, may be mixed up between threads."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3)).astype(np.uint8)
    kinds = {
        "a.png": {},
        "b.jpg": {},
        "c.tif": {"compression": "tiff_lzw"},
        "d.tif": {"compression": "jpeg"},
        "e.bmp": {},
    }
    for name, options in kinds.items():
        Image.fromarray(noise).save(tmp_path / name, **options)
    names = sorted(tmp_path.iterdir()) * 20
    alone = {path: read_rgb(path) for path in names}
    for path, pixels in zip(names, read_ahead(names, np.copy, 20), strict=True):
        np.testing.assert_array_equal(pixels, alone[path])
