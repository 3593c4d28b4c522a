"""The ports that `serve`, TF Serving and the page listen on."""

import contextlib
import errno
import socket
from pathlib import Path

from bach_keras.doctor.finding import Asked, Finding, passed, warned

HOST = "127.0.0.1"
PORTS = {8500: "`serve --grpc-port N`", 8501: "`serve --port N`", 7860: "`app --port N`"}

_PROC = Path("/proc")
_LISTENS = "0A"  # Linux's number of that state


def ports(asked: Asked) -> Finding:
    taken = [port for port in PORTS if _is_taken(port)]
    if not taken:
        return passed("ports", f"{', '.join(map(str, PORTS))} are free")
    said = " and ".join(f"{port} is in use by {_listener(port)}" for port in taken)
    return warned("ports", said, f"end it, or choose others: {', '.join(PORTS[port] for port in taken)}")


def _is_taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do, so that a closed connection does not count
        try:
            server.bind((HOST, port))
            server.listen()
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _listener(port: int) -> str:
    """Return which process listens on a port, as far as this one may see; on Linux alone."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    for process in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or is another user's
            if any(str(file.readlink()) in sockets for file in (process / "fd").iterdir()):
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return "a process that cannot be seen from here, such as another user's"


def _inodes(port: int) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                cells = line.split()
                if cells[3] == _LISTENS and int(cells[1].rpartition(":")[2], 16) == port:
                    found.add(cells[9])
    return found
