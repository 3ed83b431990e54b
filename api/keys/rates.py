"""How often each key asks: a sliding window, by a clock that nobody sets."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_WINDOW_S = 60.0
_MOST_KEYS = 4096


@dataclass
class _Counts:
    window: int
    before: int
    now: int


class Rates:
    """Requests of each key in the last minute: those of this minute, and the part of the last that is not over yet.

    Args:
        clock: Tells seconds, and never goes back.

    Example:
        >>> rates = Rates(clock=lambda: 90.0)
        >>> [rates.wait_s("key", most_per_minute=2) for _ in range(3)]
        [0, 0, 30]
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, _Counts] = OrderedDict()

    def wait_s(self, key: str, most_per_minute: int) -> int:
        """Count a request, if it may come now.

        Args:
            key: Id of the key.
            most_per_minute: Its limit.

        Returns:
            0 where it may; else after how many seconds one may.
        """
        window, part = divmod(self._clock() / _WINDOW_S, 1.0)
        counts = self._of(key, int(window))
        if counts.before * (1 - part) + counts.now + 1 <= most_per_minute:
            counts.now += 1
            return 0
        room = most_per_minute - 1 - counts.now
        free_at = 1 - room / counts.before if counts.before and room >= 0 else 1.0
        return max(1, math.ceil((free_at - part) * _WINDOW_S))

    def _of(self, key: str, window: int) -> _Counts:
        counts = self._counts.setdefault(key, _Counts(window, 0, 0))
        if counts.window != window:
            counts.before = counts.now if counts.window == window - 1 else 0
            counts.window, counts.now = window, 0
        self._counts.move_to_end(key)
        if len(self._counts) > _MOST_KEYS:
            self._counts.popitem(last=False)
        return counts
