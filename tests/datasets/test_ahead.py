import os
import threading
import time

import pytest

from datasets.ahead import ahead, image_threads, processors


def test_results_come_in_order_though_a_later_one_is_ready_first():
    second_is_done = threading.Event()

    def work(item):
        if item == 0:
            assert second_is_done.wait(60)
        if item == 1:
            second_is_done.set()
        return item

    assert list(ahead(work, range(9), threads=2)) == list(range(9))


def test_no_more_is_started_than_the_threads_hold():
    started = []
    results = ahead(started.append, range(1000), threads=3)
    next(results)
    time.sleep(0.1)
    assert len(started) <= 4
    results.close()
    assert len(started) <= 4


def test_an_error_comes_where_its_item_stands_and_work_that_goes_on_is_waited_for():
    third_began, done = threading.Event(), []

    def work(item):
        if item == 1:
            assert third_began.wait(60)
            raise ValueError("the second")
        if item == 2:
            third_began.set()
            time.sleep(0.2)
        done.append(item)

    results = ahead(work, range(9), threads=2)
    next(results)
    with pytest.raises(ValueError, match="the second"):
        next(results)
    assert {0, 2} <= set(done)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to processors")
def test_only_the_processors_that_this_process_may_use_count():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert processors() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert processors() == len(allowed)


@pytest.mark.parametrize(("count", "threads"), [(1, 1), (8, 8), (64, 8)])
def test_images_are_read_by_no_more_threads_than_memory_allows(monkeypatch, count, threads):
    monkeypatch.setattr("datasets.ahead.processors", lambda: count)
    assert image_threads() == threads
