"""How far a long search is: one line that changes in a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status
from rich.text import Text

from allocator.answer.solve import SolveProgress
from api.cli.comparing import none_better

#: What takes no longer needs no line.
_FIRST_S = 2.0
#: For several solves one after the other.
LATER_S = 5.0
_LIVE_S, _PLAIN_S = 0.5, 5.0


class Watch:
    """Says on standard error how far a search is; a context manager.

    Args:
        what: What is going on.
        console: Where to say it; standard error when absent.
        first_s: Seconds before the first line.
        every_s: Seconds between two lines where there is no terminal.
        plain: Whether there are such lines.
    """

    def __init__(
        self,
        what: str,
        console: Console | None = None,
        *,
        first_s: float = _FIRST_S,
        every_s: float = _PLAIN_S,
        plain: bool = True,
    ) -> None:
        self._what = what
        self._console = console or Console(stderr=True, soft_wrap=True, markup=False)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._plain = plain
        self._first_s, self._every_s = first_s, _LIVE_S if self._live else every_s
        self._known = ""
        self._done = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._start = time.monotonic()

    def solving(self, progress: SolveProgress) -> None:
        """Take note of a better plan or bound.

        Args:
            progress: What is known now.
        """
        self._known = f", {described(progress)}"

    def counted(self, done: int, total: int) -> None:
        """Take note of a part that is finished.

        Args:
            total: Parts in all.
        """
        self._known, self._done = "", f", {done} of {total}"

    def seconds(self) -> float:
        """Return the seconds since the context was entered."""
        return time.monotonic() - self._start

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _tell(self) -> None:
        if self._ended.wait(self._first_s) or not (self._live or self._plain):
            return
        if not self._live:
            self._console.print(self._line())
            while not self._ended.wait(self._every_s):
                self._console.print(self._line())
            return
        with Status(self._line(), console=self._console, spinner="line") as status:
            while not self._ended.wait(self._every_s):
                status.update(self._line())

    def _line(self) -> Text:
        return Text(f"{self._what}: {self.seconds():.0f} s{self._done}{self._known}")


def described(progress: SolveProgress) -> str:
    """Say how far a search is.

    Args:
        progress: What is known.

    Returns:
        Plan, bound and gap.

    Example:
        >>> described(SolveProgress(objective=0.4, bound=0.3, gap=0.25, seconds=3.0))
        'plan 0.4, bound 0.3, no plan is more than 25% better'
        >>> described(SolveProgress(objective=None, bound=0.3, gap=None, seconds=3.0))
        'no plan yet, bound 0.3'
    """
    plan = "no plan yet" if progress.objective is None else f"plan {progress.objective:.6g}"
    bound = "" if progress.bound is None else f", bound {progress.bound:.6g}"
    return f"{plan}{bound}{none_better(progress.objective, progress.bound)}"
