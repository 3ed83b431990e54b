"""Which half plans fit together: their spends must fill the room up to a window, in cells as wide as the window."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from allocator.knapsack.problem import FloatArray, IntArray, ascending

#: Pairs at a time.
_BATCH = 1_000_000
#: Cells along a limit.
_MOST_CELLS = 2**20


class Pairs:
    """Pairs of half plans that together leave between nothing and a window of two limits unused.

    Under one limit left half plans are sorted by what they spend. Under several they are sorted into cells over the two
    limits that tell them apart best, so that all partners of a right one lie in two rows of two neighbouring cells;
    some pairs besides the wanted ones are found too.

    Args:
        left: (S, R) spends.
        right: (T, R) spends.
        room: (R,) most that a pair may spend.
        window: (R,) most that a wanted pair leaves unused; +inf where it may leave anything.

    Attributes:
        pairs: How many there are.

    Example:
        >>> left, right = np.array([[0.0], [4.0], [9.0]]), np.array([[0.0], [3.0]])
        >>> table = Pairs(left, right, np.array([8.0]), np.array([2.0]))
        >>> [(i.tolist(), j.tolist()) for i, j in table.batches()]  # 4 + 3
        [([1], [1])]
    """

    def __init__(self, left: FloatArray, right: FloatArray, room: FloatArray, window: FloatArray) -> None:
        self._ranges: list[
            tuple[IntArray, IntArray]
        ] = []  # of right half plans, in their order: first left one, how many
        if room.size == 1:
            self._by_spend(left[:, 0], room[0] - right[:, 0], float(window[0]))
        else:
            self._by_cell(left, right, room, window)
        self.pairs = sum(int(count.sum()) for _, count in self._ranges)

    def _by_spend(self, spend: FloatArray, most: FloatArray, window: float) -> None:
        self._left, self._right = ascending(spend), ascending(most)  # searched in order, which is faster
        spend, most = spend[self._left], most[self._right]
        begin = np.searchsorted(spend, most - window, side="left")
        self._ranges.append((begin, np.searchsorted(spend, most, side="right") - begin))

    def _by_cell(self, left: FloatArray, right: FloatArray, room: FloatArray, window: FloatArray) -> None:
        least = left.min(axis=0)  # (R,)
        span = left.max(axis=0) - least
        width = np.maximum(window, span / _MOST_CELLS)
        width[width == 0] = 1.0
        rows = np.argsort(-span / width, kind="stable")[:2]
        least, width, room = least[rows], width[rows], room[rows]
        cell = np.floor((left[:, rows] - least) / width).astype(np.int64)  # (S, 2)
        last = np.floor(
            (room - least - right[:, rows]) / width
        )  # (T, 2), -1 where not even the lightest fits
        last = np.where(np.isfinite(width) | (room - least >= right[:, rows]), last, -1)
        last = np.minimum(np.maximum(last, -1), cell.max(axis=0) + 1).astype(np.int64)
        stride = int(cell[:, 1].max()) + 3
        key = cell[:, 0] * stride + cell[:, 1]
        self._left = np.argsort(key, kind="stable")
        self._right = np.argsort(last[:, 0] * stride + last[:, 1], kind="stable")
        key, last = key[self._left], last[self._right]
        for row in (last[:, 0] - 1, last[:, 0]):
            begin = np.searchsorted(key, row * stride + np.maximum(last[:, 1] - 1, 0), side="left")
            end = np.searchsorted(key, row * stride + last[:, 1], side="right")
            end[(row < 0) | (last[:, 1] < 0)] = 0
            self._ranges.append((begin, np.maximum(end - begin, 0)))

    def batches(self) -> Iterator[tuple[IntArray, IntArray]]:
        """Go through the pairs.

        Yields:
            Indices of left and right half plans.
        """
        for begin, count in self._ranges:
            some = count.nonzero()[0]
            right, begin, count = self._right[some], begin[some], count[some]
            total = np.cumsum(count)
            at, done = 0, 0
            while at < right.size:
                until = max(int(np.searchsorted(total, done + _BATCH, side="right")), at + 1)
                which = np.repeat(np.arange(at, until), count[at:until])
                offset = np.arange(which.size) - (total[which] - count[which] - done)
                yield self._left[begin[which] + offset], right[which]
                at, done = until, int(total[until - 1])
