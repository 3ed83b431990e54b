"""A point in time that a computation must not pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Whether somebody has asked the work of this context to end with what it has.
_STOPPED: ContextVar[Callable[[], bool] | None] = ContextVar("stopped", default=None)


@contextmanager
def stopping(stopped: Callable[[], bool]) -> Iterator[None]:
    """Let every deadline that is made inside pass at once when somebody asks for it, as Ctrl-C does.

    Args:
        stopped: Whether it was asked for; it must return quickly, and stay true.

    Yields:
        Nothing.

    Example:
        >>> with stopping(lambda: True):
        ...     Deadline(None).passed()
        True
    """
    token = _STOPPED.set(stopped)
    try:
        yield
    finally:
        _STOPPED.reset(token)


def stop_asked() -> Callable[[], bool] | None:
    """Return what tells whether somebody asked to end the work of this context; None where nobody can."""
    return _STOPPED.get()


class Deadline:
    """A point in time that a solver must not pass.

    Args:
        time_limit_s: Seconds from now; None never expires.
    """

    def __init__(self, time_limit_s: float | None) -> None:
        self._end = None if time_limit_s is None else time.monotonic() + time_limit_s
        self._stopped = stop_asked()

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

        Returns:
            Seconds; None when there is no limit.
        """
        left_s = self.left_s()
        return None if left_s is None else share * left_s

    def passed(self) -> bool:
        """Return whether the time is up, or somebody asked to stop."""
        if self._stopped is not None and self._stopped():
            return True
        return self._end is not None and time.monotonic() >= self._end

    def left_s(self) -> float | None:
        """Return the seconds that are left, at least 1 ms; None when there is no limit."""
        if self._stopped is not None and self._stopped():
            return 1e-3
        return None if self._end is None else max(self._end - time.monotonic(), 1e-3)


#: For work that may take as long as it takes.
NEVER = Deadline(None)
