"""Worker processes: kept while they behave, replaced when they do not."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Self

from allocator import InvalidInputError, MissingPackageError
from api.errors import (
    PASSING,
    InvalidJsonError,
    WorkerCrashedError,
    WorkerFailedError,
    WorkerMemoryError,
)
from api.keys.cache import NOBODY
from api.problems.problem import ProblemError
from api.settings import Settings
from api.workers.child import Child, start_child
from api.workers.scheduler import QueuedTask, QueueFullError, TaskQueue
from api.workers.task import Done, OnProgress, Task

_LOG = logging.getLogger(__name__)
#: After one of these the worker is as good as before.
_HARMLESS = (
    *(InvalidInputError, MissingPackageError, InvalidJsonError, WorkerFailedError, WorkerMemoryError),
    *(ProblemError, *PASSING),  # a profile could not be handed out
)
_RETRY_S = 1.0
#: Workers in a row that could not be started, after which nobody is left waiting for one.
_MOST_FAILURES = 3


def no_workers() -> ProblemError:
    """Return the problem that nothing can be planned at the moment."""
    detail = "no worker is up; they start again by themselves, and the operator's log says what ended them"
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "no-workers", detail, headers={"Retry-After": "2"})


class Pool:
    """Workers, each with one task at a time; use it as an asynchronous context manager.

    Args:
        settings: Number of workers, their memory, their plugins.
        finished: Told of every task that a worker finished.
    """

    def __init__(self, settings: Settings, finished: Callable[[Done], None] = lambda _: None) -> None:
        # One more than cores: it works while the service gives another its next task.
        self.size = self._usual_size = settings.workers or (os.cpu_count() or 1) + 1
        self._settings = settings
        self._finished = finished
        self._queue = TaskQueue(settings.max_waiting_per_key)
        self._waiting: dict[QueuedTask, asyncio.Future[Child]] = {}
        self._idle: list[Child] = []  # the last one used has its profiles at hand
        self._living: set[Child] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._failures = 0  # to start a worker, since one was started
        self._closed = False

    async def run(self, task: Task, limit_s: float, on_progress: OnProgress | None = None) -> Done:
        """Do a task as soon as a worker is free.

        Args:
            limit_s: Seconds that it may take once it has begun; then it is killed with everything that it started.
            on_progress: Told what the task reports on its way.

        Returns:
            What came back.

        Raises:
            ProblemError: Too many tasks of the same owner wait already, or no worker can be started.
            InvalidInputError: The body cannot be used.
            InvalidJsonError: The body is not JSON.
            MissingPackageError: The solver needs a package that is not installed.
            WorkerOverrunError: The task took too long.
            WorkerMemoryError: The task needed too much memory.
            WorkerCrashedError: The worker ended.
            WorkerFailedError: The task failed in a way that nobody foresaw.
        """
        entry = self._queued(task)
        try:
            child = await self._free(entry)
            try:
                done = await child.work(task, limit_s, on_progress)
            except _HARMLESS:
                self._rest(child)
                raise
            except BaseException:
                # Killed even where it was only cancelled: what a solver does cannot be called back in another way.
                await asyncio.shield(self._replace(child))
                raise
            self._rest(child)
        finally:
            self._queue.finish(entry)
            self._dispatch()
        self._finished(done)
        return done

    @property
    def ready(self) -> bool:
        """Whether there are workers, busy or not."""
        return not self._closed and any(child.alive for child in self._living)

    def resize(self, by: int) -> None:
        """Have more or fewer workers from now on; none is stopped in the middle of a task."""
        self.size += by
        missing = self.size - len(self._living) - len(self._starting)
        for _ in range(missing):
            self._start()
        if missing < 0 and not self._stopped_one_that_starts() and self._idle:
            self._rest(self._idle.pop())
        self._dispatch()

    def _stopped_one_that_starts(self) -> bool:
        # Rather than one that works: between its end and the start of the other there might be none.
        if not self._starting:
            return False
        starting = self._starting.pop()
        self._ending.add(starting)
        starting.add_done_callback(self._ending.discard)
        starting.cancel()
        return True

    def _rest(self, child: Child) -> None:
        if len(self._living) + len(self._starting) > self.size or self._closed:
            self._living.discard(child)
            self._in_background(child.kill())
        else:
            self._idle.append(child)

    def _queued(self, task: Task) -> QueuedTask:
        try:
            return self._queue.put(task, is_limited=task.owner != NOBODY)
        except QueueFullError:
            limit = self._settings.max_waiting_per_key
            detail = (
                f"{limit} requests of this key wait for a worker already; send the next when one is answered"
            )
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS, "too-many-waiting", detail, headers={"Retry-After": "2"}
            ) from None

    async def _free(self, entry: QueuedTask) -> Child:
        given = asyncio.get_running_loop().create_future()
        self._waiting[entry] = given
        self._dispatch()
        try:
            child: Child = await given
        except asyncio.CancelledError:
            self._waiting.pop(entry, None)
            if given.done() and not given.cancelled():
                self._rest(given.result())
            raise
        return child

    def _dispatch(self) -> None:
        while self._idle:
            if not self._idle[-1].alive:  # it died while it had nothing to do
                self._in_background(self._replace(self._idle.pop()))
                continue
            entry = self._queue.take(*self._shares())
            if entry is None:
                return
            given = self._waiting.pop(entry)
            if not given.done():  # else it was cancelled a moment ago
                given.set_result(self._idle.pop())

    def _shares(self) -> tuple[int, int]:
        # Of the usual workers, one is left to short work and one to other keys; each job brings a worker of its own.
        all_but_one, of_jobs = max(1, self._usual_size - 1), self.size - self._usual_size
        return all_but_one + of_jobs, (self._settings.max_running_per_key or all_but_one) + of_jobs

    def _in_background(self, doing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(doing)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _replace(self, child: Child) -> None:
        self._living.discard(child)
        await child.kill()
        if len(self._living) + len(self._starting) < self.size:
            self._start()

    def _start(self) -> None:
        if not self._closed:
            starting = asyncio.ensure_future(self._started())
            self._starting.add(starting)
            starting.add_done_callback(self._starting.discard)

    async def _started(self) -> None:
        while True:
            try:
                child = await start_child(self._settings)
            except (WorkerCrashedError, OSError) as error:
                _LOG.error("a worker could not be started: %s", error)
                self._failures += 1
                if self._failures >= _MOST_FAILURES and not self.ready:
                    self._refuse_waiting()
                await asyncio.sleep(_RETRY_S)
            else:
                self._failures = 0
                self._living.add(child)
                self._idle.append(child)
                self._dispatch()
                return

    def _refuse_waiting(self) -> None:
        # A job waits on: nobody holds a connection open for it, and it is in the database.
        for entry, given in list(self._waiting.items()):
            if not entry.task.options.get("all_progress") and not given.done():
                del self._waiting[entry]
                given.set_exception(no_workers())

    async def __aenter__(self) -> Self:
        for _ in range(self.size):
            self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        for starting in self._starting:
            starting.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(child.kill() for child in self._living))
        await asyncio.gather(*self._ending, return_exceptions=True)
