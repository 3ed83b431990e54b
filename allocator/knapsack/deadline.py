"""A point in time that a computation must not pass."""

from __future__ import annotations

import time


class Deadline:
    """A point in time that a solver must not pass.

    Args:
        time_limit_s: Seconds from now; None never expires.
    """

    def __init__(self, time_limit_s: float | None) -> None:
        self._end = None if time_limit_s is None else time.monotonic() + time_limit_s

    def before(self, seconds: float) -> Deadline:
        """A deadline for what others have to follow.

        Args:
            seconds: How long they take.

        Returns:
            An earlier deadline; the same where there is no limit.
        """
        earlier = Deadline(None)
        earlier._end = None if self._end is None else self._end - seconds
        return earlier

    def part(self, share: float) -> float | None:
        """A part of the time that is left.

        Args:
            share: The part.

        Returns:
            Seconds; None when there is no limit.
        """
        left_s = self.left_s()
        return None if left_s is None else share * left_s

    def passed(self) -> bool:
        """Whether the time is up.

        Returns:
            True once it is.
        """
        return self._end is not None and time.monotonic() >= self._end

    def left_s(self) -> float | None:
        """Seconds left.

        Returns:
            At least 1 ms, or None when there is no limit.
        """
        return None if self._end is None else max(self._end - time.monotonic(), 1e-3)


#: For work that may take as long as it takes.
NEVER = Deadline(None)
