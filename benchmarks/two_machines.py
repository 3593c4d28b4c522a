"""A Ray cluster of two machines in network namespaces, joined by a cable of their own; nothing outside is reached.

The process that makes it lives in the first, as ``unshare -n`` gives it; each machine has its own address, and its own
part of Ray. It needs root.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HEAD, OTHER, PORT = "10.77.0.1", "10.77.0.2", 6379
ADDRESS = f"{HEAD}:{PORT}"
_RAY = Path(sys.executable).with_name("ray")
_STORE = 200 * 2**20


def alone(command: list[str]) -> list[str]:
    """Return a command that runs another in a network namespace of its own."""
    return ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *command]


@contextlib.contextmanager
def two_machines(place: Path, cpus: int = 1) -> Iterator["Machines"]:
    """Give a cluster of two machines with so many cores each; ``place`` is a folder for what Ray writes."""
    other = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
    machines = Machines(other.pid, place, cpus)
    try:
        machines.connect()
        machines.start_head()
        machines.start_other()
        yield machines
    finally:
        machines.stop()
        other.kill()
        other.wait()


class Machines:
    """The two machines: of the second, a process that sleeps in its namespace is known."""

    def __init__(self, other: int, place: Path, cpus: int):
        self._other, self._place, self._cpus = other, place, cpus

    def connect(self) -> None:
        while os.readlink(f"/proc/{self._other}/ns/net") == os.readlink("/proc/self/ns/net"):
            time.sleep(0.05)
        _run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb")
        _run("ip", "link", "set", "vb", "netns", str(self._other))
        _run("ip", "addr", "add", f"{HEAD}/24", "dev", "va")
        _run("ip", "link", "set", "va", "up")
        inside = f"ip link set lo up; ip addr add {OTHER}/24 dev vb; ip link set vb up"
        _run("nsenter", "-t", str(self._other), "-n", "sh", "-c", inside)

    def start_head(self) -> None:
        _run(*self._ray("a"), "--head", f"--port={PORT}", f"--node-ip-address={HEAD}", "--include-dashboard=false")

    def start_other(self) -> None:
        enter = ("nsenter", "-t", str(self._other), "-n")
        _run(*enter, *self._ray("b"), f"--address={ADDRESS}", f"--node-ip-address={OTHER}")

    def _ray(self, name: str) -> list[str]:
        store = f"--object-store-memory={_STORE}"
        return [str(_RAY), "start", f"--num-cpus={self._cpus}", f"--temp-dir={self._place / name}", store]

    def kill_other(self) -> int:
        """Kill every process of the second machine's Ray at once, as a power cut does; return how many."""
        return self._kill(f"/proc/{self._other}/ns/net")

    def kill_head(self) -> int:
        """Kill the processes of the first machine's Ray."""
        return self._kill("/proc/self/ns/net")

    def _kill(self, namespace: str) -> int:
        found = [pid for pid in _of_ray() if _link(f"/proc/{pid}/ns/net") == _link(namespace)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)

    def stop(self) -> None:
        self.kill_other()
        self.kill_head()


def _of_ray() -> list[int]:
    """Return the processes that `ray start` began, and those that these did; whose command is ours is not one."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes() if folder.name.isdigit() else b""
            if words.startswith(b"ray::") or b"/ray/" in words or b"ray/_private" in words:
                found.append(int(folder.name))
    return found


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _run(*command: str) -> None:
    done = subprocess.run(
        command, env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
