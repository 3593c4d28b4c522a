"""How TF Serving names a model, as the client writes it and the development server reads it."""

import re
from dataclasses import dataclass

# What a model is called where nobody names it; deploy/models.config says the same.
NAME = "bach"

PATH = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]{1,18})|/labels/(?P<label>[^/:]+))?"


def is_version(name: str) -> bool:
    """Say whether a folder's name is a version number: ASCII digits that fit TF Serving's 64 bits."""
    return name.isascii() and name.isdigit() and len(name) <= 18


def is_plain(path) -> bool:
    """Say whether TensorFlow takes a path as it stands: it looks a model's variables up by a pattern, of UTF-8."""
    try:
        return not set("[\\") & set(str(path).encode().decode())
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True)
class Address:
    """A model, and which version of it: by number, by label, or the newest.

    Attributes:
        name: the model.
        version: its number, or None.
        label: its label, or "".
    """

    name: str = NAME
    version: int | None = None
    label: str = ""

    @classmethod
    def parse(cls, path: str):
        """Read ``/v1/models/NAME``, with ``/versions/N`` or ``/labels/LABEL`` or neither; None if it is not that."""
        found = re.fullmatch(PATH, path)
        if not found:
            return None
        return cls(found["name"], found["version"] and int(found["version"]), found["label"] or "")

    @property
    def path(self) -> str:
        """The path that ``parse`` reads."""
        version = "" if self.version is None else f"/versions/{self.version}"
        return f"/v1/models/{self.name}{version}" + (f"/labels/{self.label}" if self.label else "")
