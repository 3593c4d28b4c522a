"""Which proxy of the environment is used for a server."""

import ipaddress
import os
import socket
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies, select_proxy, should_bypass_proxies

# Names of the loopback interface in hosts files, other than localhost and names that end in it.
_NAMES = ("localhost.localdomain", "localhost6", "localhost6.localdomain6", "ip6-localhost", "ip6-loopback")


def for_http(url: str, host: str) -> str | None:
    """Return the proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, as requests reads them, give a server."""
    return None if is_this_machine(host) else select_proxy(url, get_environ_proxies(url))


def for_grpc(url: str, host: str) -> str | None:
    """Return the proxy that grpc_proxy, https_proxy and http_proxy, as gRPC reads them, give a server."""
    proxy = _first("grpc_proxy", "https_proxy", "http_proxy")
    exceptions = _first("no_grpc_proxy", "no_proxy")
    if not proxy or is_this_machine(host) or should_bypass_proxies(url, no_proxy=exceptions):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    return proxy if proxy.startswith("http://") else None  # gRPC knows no other kind


def _first(*names) -> str | None:
    return next((os.environ[name] for name in names if name in os.environ), None)


def is_this_machine(host: str) -> bool:
    """Return whether a host is this machine's loopback interface, which a proxy would take for its own."""
    host = host.lower().rstrip(".")
    if host.split(".")[-1] == "localhost" or host in _NAMES:
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(host))  # as 127.1
        except (OSError, ValueError):  # a name
            return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def without_password(url: str) -> str:
    """Return an address without what must not be shown."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
