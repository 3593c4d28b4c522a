"""Keeps a process of the tests off the network: only this machine itself can be reached, and no name is looked up.

The tests import it, and every Python process that they start finds it on its path and imports it of itself.
"""

import ipaddress
import sys

_CONNECTING = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_LOOKING_UP = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}


def _is_here(host) -> bool:
    """Say so of this machine's own address, and of none, which a server that listens gives."""
    name = host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else host
    if name in (None, "", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _refuse_network(event: str, args: tuple) -> None:
    if event in _CONNECTING:
        address = args[1]
        host = address[0] if isinstance(address, tuple) else ""  # else a socket of this machine's file system
    elif event in _LOOKING_UP:
        host = args[0][0] if isinstance(args[0], tuple) else args[0]
    else:
        return
    if not _is_here(host):
        raise ConnectionRefusedError(f"The tests have no network: {host!r} was asked for.")


sys.addaudithook(_refuse_network)
