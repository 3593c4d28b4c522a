"""A disk that is full, for what is written under a temporary name and then renamed."""

import contextlib
import os
from pathlib import Path

import pytest

from datasets.whole import whole


def fill_the_disk(path: Path) -> None:
    """Let a file, if it is the next of this process to be written, meet a full disk."""
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    with contextlib.suppress(LookupError), whole(path) as partial:
        process, _, rest = partial.name.partition("-")
        number, _, ending = rest.partition(".part")
        raise LookupError  # so that nothing is written
    path.with_name(f"{process}-{int(number) + 1}.part{ending}").symlink_to("/dev/full")
