"""One bar of progress, with the time left, for work of many steps."""

import os
import sys
from collections.abc import Iterable

from tqdm import tqdm


def bar(items: Iterable | None = None, *, what: str, total: int | None = None, unit: str = "image") -> tqdm:
    """Return the items behind a bar on stderr, or without items a bar to ``update``.

    Nothing is drawn where stderr is not a terminal, and nothing is left of it at the end. There is one at a time: close
    it, or use it up, before the next begins.
    """
    counted = {"unit": unit, "unit_scale": True} if unit == "B" else {"unit": f" {unit}s"}  # bytes as kB, MB, GB
    # A terminal that does not say how wide it is, as script(1) opens one, would get no bar at all.
    width = {"dynamic_ncols": True} if _columns() else {"ncols": 80}
    return tqdm(items, desc=what, total=total, disable=None, leave=False, **width, **counted)


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (AttributeError, OSError, ValueError):  # stderr is closed, or not a terminal, and no bar is drawn
        return 0
