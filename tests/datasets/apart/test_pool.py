import errno
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import psutil
import pytest

from datasets.apart import child, pool
from datasets.apart.pool import Pool
from datasets.errors import UserError, WorkError
from datasets.images.admission import NotTakenError
from datasets.images.ahead import read_ahead
from datasets.images.read import read_rgb
from tests.datasets.apart import faulty_worker
from tests.datasets.images import tiff_files as t
from tests.datasets.images.tiff_files import tiff
from tests.picture_files import saved, tissue

PACKBITS = 32773


@pytest.fixture
def faulty(monkeypatch, tmp_path):
    """Let image files be read with the help of the faulty process."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("FAULTY_FILE", str(tmp_path / "written"))
    with closing(Pool(faulty_worker.__name__, seconds=30.0)) as made:
        monkeypatch.setattr(pool, "SHARED", made)
        yield made


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a TIFF whose picture begins with a word."""

    def written(word: str):
        pixels = word.encode().ljust(48, b".")
        path = tmp_path / f"{word}.tif"
        path.write_bytes(tiff({t.COMPRESSION: PACKBITS}, [bytes([47]) + pixels]))
        return path

    return written


SENTENCES = {
    "hangs": "was not decoded within 2 s: it is damaged, or made to keep a program busy",
    "burns": "was not decoded within 2 s: it is damaged, or made to keep a program busy",
    "crash": "ended the process that decoded it (signal 11): it is damaged, or made to do harm",
    "exits": "ended the process that decoded it (exit code 7): it is damaged, or made to do harm",
    "fills": "needs more memory to be decoded than the 2 GiB it may have",
    "nonse": "misled the process that decoded it: it is damaged, or made to do harm",
    "fails": "is damaged or cut short (a strip or tile cannot be unpacked: division by zero)",
}


@pytest.mark.parametrize("word", SENTENCES)
def test_a_decoder_that_breaks_is_an_error_of_its_file_and_the_next_is_read(faulty, write, word):
    if word in ("hangs", "burns"):
        faulty.seconds = 2.0  # on a busy machine the others may take one
    bad, good = write(word), write("whole")
    first, *others = read_ahead([bad, good, good], lambda pixels: pixels, 1)
    assert str(first) == f"{bad} {SENTENCES[word]}."
    for pixels in others:
        assert pixels.tobytes() == b"whole".ljust(48, b".")


def test_what_a_decoder_prints_is_no_answer(faulty, write):
    assert read_rgb(write("print")).tobytes() == b"print".ljust(48, b".")


def test_a_decoder_writes_no_file_and_reaches_no_network(faulty, write, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="File too large"):
        read_rgb(write("write"))
    assert (tmp_path / "written").read_bytes() == b""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("FAULTY_PORT", str(server.getsockname()[1]))
        faulty.close()  # so that one starts that knows the port
        read_rgb(write("whole"))
        if faulty._idle[0].hello["has_network"]:
            pytest.skip("the system does not let this process leave the network")
        with pytest.raises(UserError, match="Network is unreachable"):
            read_rgb(write("calls"))


@pytest.mark.parametrize("length", [9, 11])
def test_an_answer_that_is_not_as_long_as_it_must_be_is_not_taken(faulty, length):
    assert faulty.ask("lies", exactly=10, length=10)[1] == bytes(10)
    with pytest.raises(NotTakenError, match="misled the process"):
        faulty.ask("lies", exactly=10, length=length)
    assert not faulty._idle


def test_tasks_of_one_file_share_its_time(faulty):
    faulty.seconds = 600.0
    with pytest.raises(NotTakenError, match="within 600 s"):
        faulty.ask("tiff", b"hangs", exactly=10, until=time.monotonic() - 5)


def test_a_process_that_closes_its_answer_and_stays_is_ended(faulty, write, monkeypatch):
    monkeypatch.setattr(child, "_END", 0.5)
    with pytest.raises(UserError, match=r"ended the process that decoded it \(signal 9\)"):
        read_rgb(write("stays"))


def test_a_process_that_the_system_does_not_start_is_no_fault_of_the_file(faulty, write, monkeypatch):
    def refuse(*given, **how):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(child.subprocess, "Popen", refuse)
    with pytest.raises(WorkError, match=r"did not start \(Resource temporarily unavailable\)"):
        read_rgb(write("whole"))


def test_threads_have_a_process_each_and_none_is_left(write):
    before = set(psutil.Process().children())
    with closing(Pool()) as made:
        asked = {"args": ("tiff", write_grey()), "kwargs": {"exactly": 6}}
        threads = [threading.Thread(target=made.ask, **asked) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        started = set(psutil.Process().children()) - before
        assert 1 <= len(started) <= 3
        made.ask("tiff", write_grey(), exactly=6)
        assert set(psutil.Process().children()) - before == started
    assert not any(process.is_running() for process in started)


def write_grey() -> bytes:
    return saved(np.arange(6, dtype=np.uint8).reshape(2, 3), "TIFF")


def test_a_process_that_was_ended_while_nobody_asked_is_replaced():
    with closing(Pool()) as made:
        made.ask("tiff", write_grey(), exactly=6)
        made._idle[0]._process.kill()
        made._idle[0]._process.wait()
        assert made.ask("tiff", write_grey(), exactly=6)[1] == bytes(range(6))


def test_modules_of_the_folder_that_a_command_runs_in_are_not_imported(tmp_path):
    for name in ("PIL", "datasets", "json", "struct"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    code = (
        "import sys; sys.path.remove(''); from datasets.apart.pool import Pool;"
        f"print(Pool().ask('tiff', {write_grey()!r}, exactly=6))"
    )
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert b"x02" in done.stdout
    assert not (tmp_path / "run").exists()


ASKS = """
import os, signal, sys, threading
from datasets.apart.pool import Pool
made = Pool("tests.datasets.apart.faulty_worker")
made.ask("tiff", sys.stdin.buffer.read(), exactly=6)
print(made._idle[0].pid, flush=True)
if sys.argv[2]:
    made.seconds = 1
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
    made.ask("tiff", b"hangs", exactly=6)
if sys.argv[1] != "exit":
    os.kill(os.getpid(), int(sys.argv[1]))
"""


@pytest.mark.parametrize(("end", "moment"), [("exit", ""), ("9", ""), ("2", ""), ("9", "while it hangs")])
def test_the_process_ends_with_the_one_that_asks(end, moment):
    words = [sys.executable, "-c", ASKS, end, moment]
    done = subprocess.run(words, input=write_grey(), capture_output=True, check=False)
    child = int(done.stdout)
    for _ in range(50):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    pytest.fail("it is still there")


def test_a_process_that_does_not_start_is_told_of_in_one_sentence():
    with pytest.raises(WorkError, match="did not start: is there memory for it"):
        Pool("tests.datasets.apart.nowhere").ask("tiff", b"", exactly=0)


def test_a_user_who_has_no_more_room_in_pipes_waits_a_little_longer(monkeypatch):
    def refuse(*given):
        raise PermissionError

    monkeypatch.setattr("fcntl.fcntl", refuse)
    with closing(Pool()) as made:
        assert made.ask("tiff", write_grey(), exactly=6)[1] == bytes(range(6))


def test_a_process_that_was_forked_starts_its_own():
    with closing(Pool()) as made:
        made.ask("tiff", write_grey(), exactly=6)
        made.detach()  # what a fork calls
        assert made._idle == []
        assert made.ask("tiff", write_grey(), exactly=6)[1] == bytes(range(6))


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits"])
def test_pixels_are_those_of_this_process(tmp_path, compression):
    path = tmp_path / "a.tif"
    path.write_bytes(saved(tissue(), "TIFF", compression=compression))
    np.testing.assert_array_equal(read_rgb(path), tissue())
