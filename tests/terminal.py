"""A terminal of the tests' own, for what is drawn only on one."""

import fcntl
import os
import struct
import subprocess
import termios


def run_in_terminal(command: list[str], columns: int = 100, stderr=None) -> str:
    """Run a command whose stdout and stderr are a terminal, and return all that it shows; ``columns`` 0: not known."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=stderr or theirs) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # the last process at the other end is gone
        return b""
