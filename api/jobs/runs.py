"""One solve on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from api.workers.task import Done

#: News that nobody has fetched yet; a solver that tells more often than this loses the oldest.
_MOST_PROGRESS = 1000


class Run:
    """A solve that a worker does, or is about to.

    Args:
        identifier: Id of the answer, and of the job if it becomes one.
        owner: Whose it is.
        body: The body of its request.
    """

    def __init__(self, identifier: str, owner: str, body: bytes) -> None:
        self.id = identifier
        self.owner = owner
        self.body = body
        self._progress: list[Mapping[str, Any]] = []
        self._future: asyncio.Future[Done] | None = None

    @property
    def future(self) -> asyncio.Future[Done]:
        """What comes of it."""
        assert self._future is not None
        return self._future

    def attach(self, future: asyncio.Future[Done]) -> None:
        """Say where the answer will be.

        Args:
            future: The answer.
        """
        self._future = future

    def hear(self, facts: Mapping[str, Any]) -> None:
        """Note what the solver tells, unless it is nothing new.

        Args:
            facts: The progress.
        """
        same = {name: value for name, value in facts.items() if name != "seconds"}
        if self._progress and {k: v for k, v in self._progress[-1].items() if k != "seconds"} == same:
            return
        self._progress.append(facts)
        del self._progress[:-_MOST_PROGRESS]

    def take_progress(self) -> list[Mapping[str, Any]]:
        """Fetch what was told since the last call.

        Returns:
            The progress, oldest first.
        """
        progress, self._progress = self._progress, []
        return progress

    def put_back(self, progress: list[Mapping[str, Any]]) -> None:
        """Return progress that could not be kept, for the next attempt.

        Args:
            progress: From :meth:`take_progress`.
        """
        self._progress = progress + self._progress

    async def end(self) -> None:
        """Kill the solver with everything that it started, and wait until it is gone."""
        self.future.cancel()
        await asyncio.wait({self.future})
