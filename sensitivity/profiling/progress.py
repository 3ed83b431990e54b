"""A bar per stage with rate and time left in a terminal, plain lines elsewhere.

Anything that is called like ``sensitivity.study.study.Progress`` can take its place: in a notebook, give
``profile_model`` a function ``(stage, done, total)`` that moves a widget.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bars:
    """Shows how far each stage is; a context manager, and a ``sensitivity.study.study.Progress``.

    Args:
        console: Where to show it; standard error when absent.
        quiet: Show nothing.
        every_s: Seconds between two lines about one stage, where there is no terminal; its end always is one.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False, every_s: float = 30.0) -> None:
        self._console = console or Console(stderr=True)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal and not quiet
        self._quiet = quiet
        self._every_s = every_s
        self._started = self._spoke = 0.0
        self._first: dict[
            str, tuple[float, int]
        ] = {}  # stage → when it was first heard of, and how far it was
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._live,
        )

    def __enter__(self) -> Self:
        self._started = self._spoke = time.monotonic()
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` steps of a stage are finished."""
        now = time.monotonic()
        since, before = self._first.setdefault(stage, (now, done))
        # What a journal remembered took no time, so that steps before the first report do not count.
        rate = (done - before) / (now - since) if done > before and now > since else None
        if self._live:
            self._move(stage, done, total, rate)
        elif not self._quiet and (done == total or now - self._spoke >= self._every_s):
            took = f"{now - self._started:.1f} s" if done == total else _left(rate, total - done)
            self._console.print(f"{stage}: {done} of {total}, {took}", highlight=False)
            self._spoke = now
        if done == total:
            self._first.pop(stage)
            self._started = self._spoke = now  # the next stage begins

    def _move(self, stage: str, done: int, total: int, rate: float | None) -> None:
        task = self._tasks.get(stage)
        if task is None:
            task = self._tasks[stage] = self._progress.add_task(stage, total=total, rate="")
        self._progress.update(task, completed=done, total=total, rate=_speed(rate))


def _speed(rate: float | None) -> str:
    if rate is None:
        return ""
    return f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"


def _left(rate: float | None, steps: int) -> str:
    if rate is None:
        return "time left unknown"
    seconds = steps / rate
    left = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return f"{_speed(rate)}, {left} left"
