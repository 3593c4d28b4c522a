"""The order of predictions."""

import threading
import time

from bach_keras.serving.remote.admission import Admission


def test_slots_are_given_in_the_order_in_which_predictions_were_accepted():
    admission, ran = Admission(1), []
    numbers = [admission.enter() for _ in range(5)]

    def run(number):
        with admission.slot(number):
            ran.append(number)

    with admission.slot(admission.enter()):
        threads = [threading.Thread(target=run, args=(number,)) for number in (3, 1, 4, 0, 2)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 60
        while len(admission._waiting) < len(numbers):
            assert time.monotonic() < end, "they do not wait"
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert ran == numbers


def test_as_many_run_at_once_as_there_are_slots():
    admission = Admission(2)
    with admission.accepted() as first, admission.accepted() as second, admission.slot(first), admission.slot(second):
        assert admission.close() == 2
        third = threading.Thread(target=lambda: admission.slot(2).__enter__())
        third.start()
        third.join(0.05)
        assert third.is_alive()
    third.join(10)
    assert not third.is_alive()
    assert admission.wait(0) == 0
