"""A disk that is full, for what is written beside its place and then renamed."""

import os
from pathlib import Path

import pytest

from datasets import whole


def fill_the_disk(folder: Path) -> None:
    """Let the next file that is written whole into a folder meet a full disk."""
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    upcoming = next(whole._COUNT) + 1
    (folder / f".{os.getpid()}-{upcoming}.part").symlink_to("/dev/full")
