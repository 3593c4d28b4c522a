"""Work done in threads, ahead of whoever uses its results."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor


def processors() -> int:
    """Return how many processors this process may run on."""
    # Fewer than there are, where a scheduler or taskset gave it some of them.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Each thread may hold 300 MB of the largest image there is.
_MOST_OF_IMAGES = 8


def image_threads() -> int:
    """Return how many threads may read images at once: one for each processor, as far as memory allows."""
    return min(processors(), _MOST_OF_IMAGES)


def ahead(function: Callable, items: Iterable, threads: int, most: int | None = None) -> Iterator:
    """Yield ``function(item)`` for each item, in order; meanwhile at most ``most`` results are ready or in work.

    That is ``threads`` unless given. Close the iterator to end the work early.
    """
    most = most or threads
    pool, pending = ThreadPoolExecutor(threads, "ahead"), deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > most:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # waits for those in work, which may still use what the caller closes next
