"""How often each key may ask: a bucket of requests that fills steadily, by a clock that nobody sets."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

_MINUTE_S = 60.0
_MOST_KEYS = 4096


class Rates:
    """Buckets of keys: each holds a minute's requests, is full at first, and fills within a minute.

    Args:
        clock: Tells seconds, and never goes back.

    Example:
        >>> rates = Rates(clock=lambda: 7.0)
        >>> [rates.wait_s("key", most_per_minute=2) for _ in range(3)]
        [0, 0, 30]
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, key: str, most_per_minute: int) -> int:
        """Count a request, if it may come now.

        Args:
            key: Id of the key.
            most_per_minute: Its limit.

        Returns:
            0 where it may; else after how many seconds one may.
        """
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + _MINUTE_S / most_per_minute
        early_s = full_at - now - _MINUTE_S
        if early_s > 1e-9:
            return max(1, math.ceil(early_s - 1e-9))
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > _MOST_KEYS:
            self._full_at.popitem(last=False)
        return 0
