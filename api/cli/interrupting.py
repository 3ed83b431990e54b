"""Ctrl-C while a plan is searched: the search ends with the best plan so far, and a second Ctrl-C ends the command."""

from __future__ import annotations

import contextvars
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TypeVar

from allocator.knapsack.deadline import stopping

#: As shells say it of what Ctrl-C ended.
INTERRUPTED = 130
#: How long a search may take to notice; solvers that are not ours may only look at their time limit.
_GRACE_S = 3.0
#: Launchers pass a signal on to those who had it already; nobody presses a key twice as fast.
_TWICE_S = 0.5
_NAME = "bitalloc search"

T = TypeVar("T")


def until_interrupted(
    run: Callable[[], T], otherwise: Callable[[], T] | None = None, *, grace_s: float = _GRACE_S
) -> tuple[T, bool]:
    """Do work that ends early with what it has when somebody presses Ctrl-C.

    Args:
        run: The work; its deadlines pass when the key is pressed. It runs in a thread, so that the key is heard while
            a solver that is not ours computes.
        otherwise: What to do in place of work that goes on all the same.
        grace_s: Seconds to wait before that.

    Returns:
        What the work gave, and whether the key was pressed.

    Raises:
        KeyboardInterrupt: It was pressed twice.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as of what a shell runs in the background
    if ignored or threading.current_thread() is not threading.main_thread():
        return run(), False
    asked, ended = threading.Event(), threading.Event()
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with stopping(asked.is_set):
                results.append(run())
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    presses_s: list[float] = []

    def heard(_: int, __: FrameType | None) -> None:
        presses_s.append(time.monotonic())
        if len(presses_s) > 1 and presses_s[-1] - presses_s[0] > _TWICE_S:
            raise KeyboardInterrupt
        if len(presses_s) > 1:
            return
        asked.set()
        sys.stderr.write("\nstopping with the best plan so far; Ctrl-C again to give up\n")

    out = _standard_output()
    before = signal.signal(signal.SIGINT, heard)
    try:
        threading.Thread(target=contextvars.copy_context().run, args=(work,), name=_NAME, daemon=True).start()
        _wait(asked, ended, None if otherwise is None else grace_s)
        if not ended.is_set() and otherwise is not None:
            instead = otherwise()
            _restore(out)
            return instead, True
    finally:
        signal.signal(signal.SIGINT, before)
    if errors:
        raise errors[0]
    return results[0], asked.is_set()


def left_behind() -> bool:
    """Whether work goes on that nobody waits for any more.

    Returns:
        True while it does; Python cannot end it in good order then.
    """
    return any(thread.name == _NAME for thread in threading.enumerate())


def _wait(asked: threading.Event, ended: threading.Event, grace_s: float | None) -> None:
    # In short steps: a wait without an end would not let the signal through on every system.
    waited_s, step_s = 0.0, 0.1
    while not ended.wait(step_s):
        waited_s += step_s if asked.is_set() else 0.0
        if grace_s is not None and waited_s >= grace_s:
            return


def _standard_output() -> int | None:
    with suppress(OSError, ValueError):
        return os.dup(sys.stdout.fileno())
    return None


def _restore(out: int | None) -> None:
    # A solver that is not ours may still hold standard output, led elsewhere for as long as it runs.
    if out is not None:
        os.dup2(out, sys.stdout.fileno())
