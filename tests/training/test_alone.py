"""Work in a process of its own: what comes back from it, and how it ends."""

import os
import signal
import threading
import time

import pytest

from bach_keras.training.alone import alone
from datasets.errors import UserError, WorkError


def process():
    return os.getpid()


def refuse(words):
    raise UserError(words)


def fail():
    return 1 / 0


def be_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def wait_and_say(kept):
    from bach_keras.training.stops import Interrupted

    try:
        (kept.parent / "ready").touch()
        time.sleep(60)
    except KeyboardInterrupt as error:
        kept.touch()
        raise Interrupted("an epoch is kept.", "Resume it.", error) from error


def test_the_answer_comes_from_another_process():
    assert alone(process) != os.getpid()


def test_a_mistake_is_the_same_error_here():
    with pytest.raises(UserError, match=r"^choose another$"):
        alone(refuse, "choose another")


def test_a_bug_shows_where_in_the_child_it_was():
    with pytest.raises(ZeroDivisionError) as raised:
        alone(fail)
    assert "return 1 / 0" in str(raised.value.__cause__)


def test_a_process_that_is_killed_is_said_in_one_sentence():
    with pytest.raises(WorkError, match=r"ended by signal 9, as happens where memory runs out\. What is finished"):
        alone(be_killed)


def test_ctrl_c_ends_the_child_which_says_what_is_kept(tmp_path):
    def interrupt():
        while not (tmp_path / "ready").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt, match=r"an epoch is kept\. Resume it\.") as raised:
        alone(wait_and_say, tmp_path / "kept")
    assert (tmp_path / "kept").exists()
    assert type(raised.value.cause) is KeyboardInterrupt
