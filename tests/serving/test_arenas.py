"""How many arenas a process has after its threads took memory, as glibc itself counts them."""

import ctypes
import subprocess
import sys

import pytest

from bach_keras.serving.arenas import ARENAS

COUNT = """
import ctypes, sys, threading
from bach_keras.serving.arenas import share_arenas
if sys.argv[1] == "shared":
    share_arenas()
c = ctypes.CDLL(None)
c.fdopen.restype = ctypes.c_void_p
barrier = threading.Barrier(8)
def take():
    c.malloc(1000)
    barrier.wait()
threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
stream = ctypes.c_void_p(c.fdopen(1, b"w"))
c.malloc_info(0, stream)
c.fflush(stream)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="not glibc")
def test_threads_share_few_arenas():
    counts = {}
    for name in ("shared", "each its own"):
        told = subprocess.run([sys.executable, "-c", COUNT, name], capture_output=True, text=True, check=True).stdout
        counts[name] = told.count("<heap nr=")
    assert counts["shared"] <= ARENAS < counts["each its own"]
