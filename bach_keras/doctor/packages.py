"""Python and the packages: the versions that are pinned, complete as they were installed."""

import sys
from importlib import metadata
from pathlib import Path

from bach_keras.doctor.finding import ROOT, Asked, Finding, failed, passed, warned
from supply.pins import direct, read

PYTHON = (3, 11)

REQUIREMENTS = "requirements.txt"
# What each optional file of requirements is for.
PARTS = {
    "page": ("requirements-app.txt", "`app`"),
    "slides": ("requirements-slides.txt", "`slide`"),
    "cluster": ("requirements-scale.txt", "`bulk` and `reproduce --address`"),
    "CUDA": ("requirements-gpu.txt", "an NVIDIA GPU"),
}

_MOST_NAMED = 4
# Many a hospital's IT adds its own certificate to these.
_CHANGED_BY_OTHERS = ("certifi/cacert.pem",)


def python(asked: Asked) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if tuple(sys.version_info[:2]) != PYTHON:
        return failed(
            "Python", f"{version}, and the packages are pinned for 3.11",
            "install Python 3.11, remove .venv, and run `make .venv/installed PYTHON=python3.11`",
        )  # fmt: skip
    if sys.maxsize < 2**32:
        return failed("Python", f"{version} of 32 bits", "install Python 3.11 of 64 bits: TensorFlow has no other")
    return passed("Python", f"{version} ({sys.executable})")


def packages(asked: Asked) -> Finding:
    """Compare what is installed with ``requirements.txt``, and each package's files with its own list of them."""
    pins = read_pins(ROOT / REQUIREMENTS)
    installed = {name: found for name in pins if (found := distribution(name))}
    missing = [f"{name}=={version}" for name, version in pins.items() if name not in installed]
    if missing:
        return failed("packages", f"{len(missing)} of {len(pins)} are not installed: {_some(missing)}", _install())
    broken = [name for name, found in installed.items() if _is_incomplete(found)]
    if broken:
        again = " ".join(f"{name}=={pins[name]}" for name in broken)
        return failed(
            "packages", f"files of {_some(broken)} are missing or of another size than was installed",
            f"`{sys.executable} -m pip install --force-reinstall --no-deps {again}`",
        )  # fmt: skip
    others = _others(pins, {name: found.version for name, found in installed.items()})
    if others:
        return warned("packages", f"other versions than those tested: {_some(others)}", _install())
    return passed("packages", f"all {len(pins)} of {REQUIREMENTS}, complete")


def parts(asked: Asked) -> list[Finding]:
    """Compare what is installed of each optional part with its pins."""
    return [_part(name, file, use) for name, (file, use) in PARTS.items()]


def _part(part: str, file: str, use: str) -> Finding:
    name, path = f"part {part}", ROOT / file
    own = {pin.name for pin in direct(path)}
    of_all = read_pins(ROOT / REQUIREMENTS)
    pins = {each: version for each, version in read_pins(path).items() if each not in of_all}
    installed = {each: found.version for each in pins if (found := distribution(each))}
    # What only other packages need may be there for one of another part.
    if not installed.keys() & (own - of_all.keys() or pins.keys()):
        return passed(name, f"not installed; {use} would need `pip install -r {file}`")
    missing = [f"{each} is missing" for each in pins if each not in installed]
    if wrong := _others(pins, installed) + missing:
        return warned(name, f"not as {file} has it: {_some(wrong)}", _install(file))
    return passed(name, f"all {len(pins)} packages of {file}")


def read_pins(path: Path) -> dict[str, str]:
    """Return package -> version of a file of requirements."""
    return {pin.name: pin.version for pin in read(path).pins}


def distribution(name: str) -> metadata.Distribution | None:
    """Return what is known of an installed package; None where it is not installed, or half of it."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    return found if found.version else None


def _is_incomplete(found: metadata.Distribution) -> bool:
    """Return whether a file is not there or of another size, as after an installation that was interrupted."""
    for file in found.files or ():
        # Scripts are elsewhere: nothing here calls them, and some ways to install leave them out.
        if file.suffix == ".pyc" or file.parts[0] == ".." or str(file) in _CHANGED_BY_OTHERS:
            continue
        try:
            size = file.locate().stat().st_size
        except OSError:
            return True
        if file.size is not None and size != file.size:
            return True
    return False


def _others(pins: dict[str, str], installed: dict[str, str]) -> list[str]:
    return [f"{name} {version} instead of {pins[name]}" for name, version in installed.items() if version != pins[name]]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _install(file: str = REQUIREMENTS) -> str:
    return f"`{sys.executable} -m pip install -r {file}`"
