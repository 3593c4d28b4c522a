"""Which of many images have keypoints like those of one, without looking at each of them."""

import numpy as np

# Every 16 of a code's 128 bits are a table; the first of them number its drawers.
_TABLES, _TABLE_BITS = 8, 16
# About so many keypoints lie in a drawer, and at most so many of a fuller one are looked at: what many images have says
# little, and the time that an image takes stays the same however many there are.
_USUAL, _MOST = 16, 64
# Two keypoints are alike if at most so many of the 128 bits differ.
_MOST_BITS = 24


class Index:
    """The keypoints of many images, in drawers of those whose codes share some bits."""

    def __init__(self, codes: np.ndarray, owners: np.ndarray):
        """Take codes, uint64 [n, 2], and the number of the image that each is of, int32 [n]."""
        self._codes, self._owners = codes, owners
        self._bits = int(np.clip(np.log2(max(len(codes) / _USUAL, 1)), 4, _TABLE_BITS))
        keys = self._keys(codes)
        self._orders = [keys[:, table].argsort(kind="stable").astype(np.uint32) for table in range(_TABLES)]
        drawers = np.arange(2**self._bits + 1)
        self._starts = [keys[order, table].searchsorted(drawers) for table, order in enumerate(self._orders)]

    def matches(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which of the codes, uint64 [m, 2], have like ones in which images: numbers of both, each two once."""
        keys = self._keys(codes).astype(int)
        asking, answering = [], []
        for table, (order, starts) in enumerate(zip(self._orders, self._starts, strict=True)):
            begin, end = starts[keys[:, table]], starts[keys[:, table] + 1]
            looked_at = np.minimum(end - begin, _MOST)
            who = np.repeat(np.arange(len(codes)), looked_at)
            rank = np.arange(len(who)) - np.repeat(looked_at.cumsum() - looked_at, looked_at)
            # Those of an overfull drawer are spread over it.
            asking.append(who)
            answering.append(order[begin[who] + rank * (end - begin)[who] // looked_at[who]])
        asking, answering = np.concatenate(asking), np.concatenate(answering)
        bits = sum(np.bitwise_count(self._codes[answering, half] ^ codes[asking, half]) for half in (0, 1))
        near = bits <= _MOST_BITS
        both = np.unique(asking[near] * 2**32 + self._owners[answering[near]])
        return both >> 32, both & 0xFFFFFFFF

    def _keys(self, codes: np.ndarray) -> np.ndarray:
        keys = np.ascontiguousarray(codes).view(np.uint16).reshape(-1, _TABLES)
        return keys >> np.uint16(_TABLE_BITS - self._bits)
