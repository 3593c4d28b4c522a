"""Where a model answers: how TF Serving names it, and what is wrong with a place where nothing can listen."""

import errno
import re
import socket
from dataclasses import dataclass
from urllib.parse import quote, unquote

from datasets.errors import UserError

# The default name of a model; deploy/models.config has the same.
NAME = "bach"

_WORD = "(?:[^/:%]|%[0-9A-Fa-f]{2})+"
PATH = rf"/v1/models/(?P<name>{_WORD})(?:/versions/(?P<version>[0-9]{{1,18}})|/labels/(?P<label>{_WORD}))?"


@dataclass(frozen=True)
class Address:
    """A model, and which version of it: by number, by label, or the newest where neither is given."""

    name: str = NAME
    version: int | None = None
    label: str = ""

    @classmethod
    def parse(cls, path: str):
        """Read ``/v1/models/NAME``, with ``/versions/N`` or ``/labels/LABEL`` or neither; None for any other path."""
        found = re.fullmatch(PATH, path)
        if not found:
            return None
        try:
            name, label = (unquote(found[part] or "", errors="strict") for part in ("name", "label"))
        except UnicodeDecodeError:
            return None
        return cls(name, found["version"] and int(found["version"]), label)

    @property
    def path(self) -> str:
        """The path that ``parse`` reads."""
        version = "" if self.version is None else f"/versions/{self.version}"
        label = f"/labels/{quote(self.label, safe='')}" if self.label else ""
        return f"/v1/models/{quote(self.name, safe='')}{version}{label}"


def cannot_listen(host: str, port: int, option: str, error: Exception | None = None) -> UserError:
    """Return in a sentence why a server cannot begin, by the error of its socket if there is one."""
    if isinstance(error, socket.gaierror) or getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
        return UserError(f"{host} is not an address of this machine: choose another --host.")
    return UserError(f"Cannot listen on {host}:{port}: the port is in use or not permitted; choose another {option}.")
