"""A process apart whose libtiff hangs, crashes or eats memory on pictures that begin with such words."""

import os
import signal
import socket
import sys
import time

from datasets.apart import worker
from datasets.apart.tasks import TASKS

real = TASKS["tiff"]


def fill():
    bytearray(worker.MEMORY)


def connect():
    with socket.socket() as sent:
        sent.connect(("127.0.0.1", int(os.environ["FAULTY_PORT"])))


def write():
    with open(os.environ["FAULTY_FILE"], "wb") as file:
        file.write(b"x")


def burn():
    while True:
        pass


def stay():
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.close(3)
    time.sleep(600)


FAULTS = {
    b"hangs": lambda: time.sleep(600),
    b"burns": burn,
    b"crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    b"exits": lambda: os._exit(7),
    b"fills": fill,
    b"print": lambda: print("x" * 10**6, flush=True),
    b"nonse": lambda: os.write(3, b"nonsense" * 1000),
    b"stays": stay,
    b"fails": lambda: 1 / 0,
    b"calls": connect,
    b"write": write,
}


def tiff(data):
    for word, fault in FAULTS.items():
        if word in data:
            fault()
    return real(data)


def lies(data, length):
    return {}, bytes(length)


TASKS |= {"tiff": tiff, "lies": lies}

if __name__ == "__main__":
    assert "numpy" not in sys.modules  # it would take longer to start
    worker.main()
