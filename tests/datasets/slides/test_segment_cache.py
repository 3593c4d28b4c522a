import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from datasets.slides.segment_cache import SegmentCache


def block(number):
    return np.full(100, number, np.uint8)


def test_what_was_used_last_is_kept_up_to_its_bytes():
    cache, made = SegmentCache(300), []

    def make(number):
        made.append(number)
        return block(number)

    for number in (1, 2, 3, 1, 4, 1, 2):
        assert (cache.get(number, lambda number=number: make(number)) == number).all()
    assert made == [1, 2, 3, 4, 2]


def test_what_is_larger_than_the_cache_is_not_kept():
    cache = SegmentCache(50)
    assert (cache.get(1, lambda: block(1)) == 1).all()
    assert (cache.get(1, lambda: block(2)) == 2).all()


def test_threads_that_want_the_same_wait_for_the_one_that_makes_it():
    cache, made, begun = SegmentCache(1000), [], threading.Event()

    def make():
        begun.wait(10)
        made.append(1)
        return block(7)

    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(cache.get, 7, make) for _ in range(4)]
        begun.set()
        assert all((future.result() == 7).all() for future in found)
    assert made == [1]


def test_an_error_is_raised_and_not_kept():
    cache = SegmentCache(1000)
    with pytest.raises(ValueError, match="damaged"):
        cache.get(1, lambda: (_ for _ in ()).throw(ValueError("damaged")))
    assert (cache.get(1, lambda: block(1)) == 1).all()
