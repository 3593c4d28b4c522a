"""Memory: what this process may still take, and what training and a served tree need."""

import os
from pathlib import Path

from bach_keras.doctor.finding import Asked, Finding, failed, passed, warned

try:
    import resource
except ImportError:  # Windows
    resource = None

# Megabytes of a process at most, measured at 288 pixels: a tree of three takes up to 1800 beside TensorFlow itself
# (deploy/README.md), and training a node with batches of 10 in float32 took 4000 in all.
SERVING, TRAINING = 2000, 4500

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def memory(asked: Asked) -> Finding:
    free = available()
    if free is None:
        return passed("memory", "not known on this system")
    value = f"{free / 1000:.1f} GB free"
    wants = "close other programs, or "
    if free < SERVING:
        return failed(
            "memory", f"{value}: a tree at 288 pixels needs {SERVING / 1000:g} GB to answer",
            f"{wants}take a machine or container with more memory",
        )  # fmt: skip
    if free < TRAINING:
        return warned(
            "memory", f"{value}: training at 288 pixels with batches of 10 needs {TRAINING / 1000:g} GB",
            f"{wants}train with `--accumulate 2`, a smaller `--batch-size` or a smaller `--image-size`",
        )  # fmt: skip
    return passed("memory", value)


def available() -> float | None:
    """Return the megabytes that this process may take beside what it has: the least of all limits; None if unknown."""
    limits = [_of_machine(), *_of_cgroups(), _of_process()]
    known = [limit for limit in limits if limit is not None]
    return max(0.0, min(known)) / 1e6 if known else None


def _of_machine() -> float | None:
    try:
        lines = dict(line.split(":", 1) for line in (_PROC / "meminfo").read_text().splitlines() if ":" in line)
        return 1024 * float(lines["MemAvailable"].split()[0])
    except (OSError, LookupError, ValueError):
        return _of_other_systems()


def _of_other_systems() -> float | None:
    """Return the whole memory, where what is free is not to be read."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return None


def _of_cgroups() -> list[float]:
    """Return what each limit of a container, or of what it is in, leaves; in either version of Linux's interface."""
    try:
        lines = [line.split(":", 2) for line in (_PROC / "self" / "cgroup").read_text().splitlines()]
    except OSError:
        return []
    found = []
    for _, kinds, path in (line for line in lines if len(line) == 3):
        if kinds in ("", "memory"):
            top = _CGROUPS / kinds
            place = top / path.lstrip("/")
            found += [_left(each) for each in (place, *place.parents) if each.is_relative_to(top)]
    return [each for each in found if each is not None]


def _left(cgroup: Path) -> float | None:
    for most, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        try:
            # What only caches files is given back.
            stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
            cached = float(stat.get("inactive_file", stat.get("total_inactive_file", 0)))
            return float((cgroup / most).read_text()) - float((cgroup / used).read_text()) + cached
        except (OSError, ValueError):  # there is none, or it is "max"
            continue
    return None


def _of_process() -> float | None:
    """Return what `ulimit -v` leaves."""
    if resource is None or (most := resource.getrlimit(resource.RLIMIT_AS)[0]) == resource.RLIM_INFINITY:
        return None
    try:
        used = int((_PROC / "self" / "statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, LookupError, ValueError):
        used = 0
    return float(most - used)
