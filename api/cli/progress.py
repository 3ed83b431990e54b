"""A bar per stage in a terminal, a line per stage elsewhere."""

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
    """Shows how far each stage is; a context manager, and a ``sensitivity.study.Progress``.

    Args:
        console: Where to show it; standard error when absent.
        quiet: Show nothing.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self._console = console or Console(stderr=True)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal and not quiet
        self._quiet = quiet
        self._started = 0.0
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._live,
        )

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` steps of a stage are finished.

        Args:
            stage: Name of the stage.
            done: Steps finished.
            total: Steps in all.
        """
        if self._live:
            task = self._tasks.get(stage)
            if task is None:
                task = self._tasks[stage] = self._progress.add_task(stage, total=total)
            self._progress.update(task, completed=done)
        elif not self._quiet and done == total:
            seconds = time.monotonic() - self._started
            self._console.print(f"{stage}: {total} of {total}, {seconds:.1f} s", highlight=False)
        if done == total:
            self._started = time.monotonic()  # the next stage begins
