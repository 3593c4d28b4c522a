"""``--version``: what a report of a problem should name, read without importing any of it."""

import contextlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from bach_keras import onednn
from bach_keras.commands.console import say

VERSION = "0.1.0"
PACKAGES = {"tensorflow": "TensorFlow", "keras": "Keras", "numpy": "NumPy"}
_ROOT = Path(__file__).parents[2]


def version_lines() -> list[str]:
    return [
        f"bach-keras {VERSION}{_commit()}",
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}",
        ", ".join(f"{words} {_installed(name)}" for name, words in PACKAGES.items()),
        f"oneDNN: {_onednn()}",
    ]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "is not installed"


def _onednn() -> str:
    """Say what decides whether TensorFlow computes with oneDNN."""
    given = os.environ.get(onednn.SWITCH)
    if given is None:
        return "as TensorFlow decides for this processor"
    return f"{'off' if onednn.is_switched_off() else 'on'} ({onednn.SWITCH}={given})"


def _commit() -> str:
    """Return the commit of a checkout, and whether its files differ; nothing where this is not a checkout."""
    if not (_ROOT / ".git").exists():  # it may lie in another project's
        return ""
    found = []
    for command in ("rev-parse --short=12 HEAD", "status --porcelain --untracked-files=no"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                ["git", "-C", _ROOT, *command.split()], capture_output=True, text=True, check=True, timeout=5
            )
            found.append(done.stdout.strip())
    if len(found) < 2:
        return ""
    commit, changes = found
    return f", commit {commit}{' with changes' if changes else ''}"


def _show(context, option, wanted):
    if wanted and not context.resilient_parsing:
        for line in version_lines():
            say(line)
        context.exit()


version_option = click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show,
    help="Show the versions of this project and of what it computes with.",
)  # fmt: skip
