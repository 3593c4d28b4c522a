"""Which process made a file or a folder that others find, and whether it still runs."""

import hashlib
import os
import platform
from pathlib import Path


def _machine() -> str:
    """Return a digest that two processes share only if one system gave them their numbers.

    Containers on one machine or on several may have the same host name, and each numbers its own processes.
    """
    known = [platform.node()]
    for place, read in (
        ("/proc/sys/kernel/random/boot_id", Path.read_text),
        ("/proc/self/ns/pid", os.readlink),
    ):
        try:
            known.append(read(Path(place)).strip())
        except OSError:  # elsewhere than on Linux
            known.append("")
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:6]


# A process is known by its number only where this is the same; that of a container or of a restart is another.
MACHINE = _machine()


def is_running(process: int) -> bool:
    """Say whether a process with the same ``MACHINE`` runs, by its number."""
    if os.name != "posix":  # where asking would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        pass
    return True
