"""A limit of processor time for work on what others wrote: patterns that backtrack, documents that unfold.

Patterns are Python's own regular expressions, because that is what the tools that read the same files use, and many of
those files look ahead (``(?!…)``), which engines without backtracking (RE2) cannot. The package ``regex`` has timeouts
for matching, but unrolls nested repeats when it compiles: ``((a{100}){100}){100}`` takes all memory there is. So the
work runs under a timer of the process, and the interpreter's own check for signals ends it, inside of a match too.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from allocator.contract.errors import BitallocError


class ProcessorTimeError(BitallocError, TimeoutError):
    """Work on an input took more processor time than it may."""


@contextmanager
def processor_time(limit_s: float) -> Iterator[None]:
    """End a block that takes too long.

    Only the main thread can be interrupted, which is where worker processes and the command work; elsewhere,
    and on Windows, this does nothing. Of two such blocks, one in the other, the limit that is reached first counts.

    Args:
        limit_s: Seconds of processor time, which a busy machine does not shorten.

    Yields:
        Nothing.

    Raises:
        ProcessorTimeError: The block took longer; raised inside of it.

    Example:
        >>> import re
        >>> with processor_time(0.2):
        ...     re.search("(a+)+$", "a" * 50 + "!")
        Traceback (most recent call last):
        allocator.contract.processor_time.ProcessorTimeError: this took more than 0.2 s of processor time
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    outer_s, _ = signal.getitimer(signal.ITIMER_VIRTUAL)
    if 0 < outer_s <= limit_s:
        yield
        return

    def end(_: int, __: FrameType | None) -> None:
        raise ProcessorTimeError(f"this took more than {limit_s:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, end)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
        yield
    finally:
        left_s, _ = signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        if outer_s:
            signal.setitimer(signal.ITIMER_VIRTUAL, outer_s - limit_s + left_s)
