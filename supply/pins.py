"""The pins of requirements*.txt, and of their twins with hashes."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
HASHED = Path(__file__).parent / "hashed"

# The peers of benchmarks/ have no twin: PyTorch has one file for processors and another for CUDA, with packages of its
# own, and which of them is wanted depends on the machine.
WITHOUT_HASHES = ("requirements-bench.txt",)

_PIN = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)(\[[a-z0-9,-]+\])?==([A-Za-z0-9.!+]+)((?:\s+--hash=sha256:[0-9a-f]{64})*)\s*"
)
# What a file says before the packages that its own ones need.
_RESOLVED = re.compile("^# What th(at|ose) resolved to", re.M)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    """One package at one version, with the SHA-256 of its files where they are known."""

    name: str  # as the file spells it
    version: str
    extras: str = ""
    digests: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name as the index has it."""
        return normalised(self.name)

    def __str__(self):
        return f"{self.name}{self.extras}=={self.version}"


@dataclass(frozen=True)
class Requirements:
    """One file of requirements: the files that it starts from, and its own pins."""

    includes: tuple[str, ...]
    pins: tuple[Pin, ...]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def files() -> list[Path]:
    """Return the files of requirements that have a twin with hashes."""
    return sorted(path for path in ROOT.glob("requirements*.txt") if path.name not in WITHOUT_HASHES)


def read(path: Path) -> Requirements:
    """Read a file of requirements; each line must be a pin, a comment or another file to include."""
    return parse(path.read_text("utf-8"), path)


def parse(text: str, path: Path) -> Requirements:
    includes, pins = [], []
    for written in text.replace("\\\n", "").splitlines():
        line = written.partition("#")[0].strip()
        if line.startswith("-r "):
            includes.append(line.removeprefix("-r ").strip())
        elif line:
            found = _PIN.fullmatch(line)
            if not found:
                raise ValueError(f"{path}: {line!r} is not a pin.")
            name, extras, version, digests = found.groups()
            pins.append(Pin(name, version, extras or "", tuple(_HASH.findall(digests))))
    return Requirements(tuple(includes), tuple(pins))


def direct(path: Path) -> tuple[Pin, ...]:
    """Return the pins of a file that this project itself needs."""
    return parse(_RESOLVED.split(path.read_text("utf-8"))[0], path).pins


def all_pins() -> list[Pin]:
    """Return the pins of all files, each package once, in the order of their names."""
    found = {pin.key: pin for path in sorted(ROOT.glob("requirements*.txt")) for pin in read(path).pins}
    return [found[key] for key in sorted(found)]
