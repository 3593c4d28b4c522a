"""One bar of progress, with the time left, for work of many steps."""

from collections.abc import Iterable

from tqdm import tqdm


def bar(items: Iterable | None = None, *, what: str, total: int | None = None, unit: str = "image") -> tqdm:
    """Return the items behind a bar on stderr, or without items a bar to ``update``.

    Nothing is drawn where stderr is not a terminal, and nothing is left of it at the end. There is one at a time: close
    it, or use it up, before the next begins.
    """
    counted = {"unit": unit, "unit_scale": True} if unit == "B" else {"unit": f" {unit}s"}  # bytes as kB, MB, GB
    return tqdm(items, desc=what, total=total, disable=None, leave=False, dynamic_ncols=True, **counted)
