"""One solve on its way, and how what became of it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from api.errors import WorkerFailedError
from api.problems.failures import problem_of
from api.store import Store
from api.store.allocations import NewAllocation, add_allocations
from api.store.jobs import FAILED, SUCCEEDED, end_job
from api.workers.task import Done

#: Progress that nobody has fetched yet; a solver that reports more often than this loses the oldest.
_MOST_PROGRESS = 1000
_NAMES = ("id", "profile_sha256", "status", "version")


@dataclass(eq=False)
class Run:
    """A solve that a worker does, or is about to.

    Attributes:
        id: Id of the answer, and of the job if it becomes one.
        owner: Whose it is.
        body: The body of its request.
        progress: What the solver reported and nobody has fetched yet, oldest first.
    """

    id: str
    owner: str
    body: bytes
    progress: list[Mapping[str, Any]] = field(default_factory=list)
    _future: asyncio.Future[Done] | None = None

    @property
    def future(self) -> asyncio.Future[Done]:
        """What comes of it."""
        assert self._future is not None
        return self._future

    def start(self, doing: Coroutine[Any, Any, Done]) -> None:
        """Let a worker do it, as soon as one is free."""
        self._future = asyncio.ensure_future(doing)

    def note(self, facts: Mapping[str, Any]) -> None:
        """Note what the solver reports, unless it is nothing new."""
        same = {name: value for name, value in facts.items() if name != "seconds"}
        if self.progress and {k: v for k, v in self.progress[-1].items() if k != "seconds"} == same:
            return
        self.progress.append(facts)
        del self.progress[:-_MOST_PROGRESS]

    async def end(self) -> None:
        """Kill the solver with everything that it started, and wait until it is gone."""
        self.future.cancel()
        await asyncio.wait({self.future})


def stored_rows(done: Done) -> list[NewAllocation]:
    """Return one row for each plan that the task ``allocate`` gave back."""
    if not done.facts["rows"]:
        return []
    asked, *stored = done.parts[1:]
    return [
        NewAllocation(**{name: facts[name] for name in _NAMES}, request=asked, answer=answer)
        for facts, answer in zip(done.facts["rows"], stored, strict=True)
    ]


def keep_ending(store: Store, run: Run, replica: str) -> None:
    """Keep what became of a job, unless it is no longer this service's.

    Raises:
        BaseException: The solver ended in a way that says nothing about the job.
    """
    error = run.future.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    done = run.future.result() if error is None else Done({"rows": []})
    problem = None if error is None else problem_of(error).model_dump(mode="json")
    with store.writing() as connection:
        state = SUCCEEDED if error is None else FAILED
        rows = stored_rows(done)
        owner = end_job(connection, run.id, state, replica=replica, problem=problem, plans=len(rows))
        if owner is not None and rows:
            add_allocations(connection, owner, rows)


def keep_failure(store: Store, run: Run, replica: str) -> None:
    """Keep that what became of a job could not be kept."""
    problem = problem_of(WorkerFailedError("the answer of a job could not be kept")).model_dump(mode="json")
    with store.writing() as connection:
        end_job(connection, run.id, FAILED, replica=replica, problem=problem)
