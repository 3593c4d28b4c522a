import sys

import pytest

from benchmarks.processes import take

CHILD = "import time; x = bytearray(10**8); time.sleep(.4)"


def test_the_memory_of_what_a_command_starts_from_a_thread_counts():
    start = f"import subprocess, sys, threading; run = lambda: subprocess.run([sys.executable, '-c', {CHILD!r}])"
    inside = f"{start}; thread = threading.Thread(target=run); thread.start(); thread.join()"
    taken = take([sys.executable, "-c", inside], every=0.02)
    assert len(taken.peaks) == 2
    assert 100 < taken.peak < 200
    assert taken.peak > max(taken.peaks.values())


def test_processor_time_is_not_the_time_that_passes():
    taken = take([sys.executable, "-c", "import time; time.sleep(.5)"], every=0.02)
    assert taken.seconds > 0.5
    assert taken.processor < taken.seconds


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_of_a_command_is_kept(code):
    assert take([sys.executable, "-c", f"raise SystemExit({code})"], every=0.02).code == code
