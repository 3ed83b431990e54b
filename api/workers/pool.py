"""Worker processes: kept while they behave, replaced when they do not."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Self

from allocator import InvalidInputError, MissingPackageError
from api.problems.problem import ProblemError
from api.settings import Settings
from api.store import StoreFullError, StoreUnavailableError
from api.workers.child import Child, start_child
from api.workers.errors import InvalidJsonError, WorkerCrashedError, WorkerFailedError, WorkerMemoryError
from api.workers.task import Done, Heard, Task

_LOG = logging.getLogger(__name__)
#: After one of these the worker is as good as before.
_HARMLESS = (
    *(InvalidInputError, MissingPackageError, InvalidJsonError, WorkerFailedError, WorkerMemoryError),
    *(ProblemError, StoreUnavailableError, StoreFullError),  # a profile could not be handed out
)
_RETRY_S = 1.0


class Pool:
    """Workers, each with one task at a time; use it as an asynchronous context manager.

    Args:
        settings: Number of workers, their memory, their plugins.
        finished: Told of every task that a worker finished.
    """

    def __init__(self, settings: Settings, finished: Callable[[Done], None] = lambda _: None) -> None:
        # One more than cores: it works while the service gives another its next task.
        self.size = settings.workers or (os.cpu_count() or 1) + 1
        self._settings = settings
        self._finished = finished
        self._idle: asyncio.LifoQueue[Child] = (
            asyncio.LifoQueue()
        )  # the last one used has its profiles at hand
        self._living: set[Child] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def run(self, task: Task, limit_s: float, heard: Heard | None = None) -> Done:
        """Do a task as soon as a worker is free.

        Args:
            task: The task.
            limit_s: Seconds that it may take once it has begun; then it is killed with everything that it started.
            heard: Told what the task reports on its way.

        Returns:
            What came back.

        Raises:
            InvalidInputError: The body cannot be used.
            InvalidJsonError: The body is not JSON.
            MissingPackageError: The solver needs a package that is not installed.
            WorkerOverrunError: The task took too long.
            WorkerMemoryError: The task needed too much memory.
            WorkerCrashedError: The worker ended.
            WorkerFailedError: The task failed in a way that nobody foresaw.
        """
        child = await self._free()
        try:
            done = await child.work(task, limit_s, heard)
        except _HARMLESS:
            self._rest(child)
            raise
        except BaseException:
            # Killed even where it was only cancelled: what a solver does cannot be called back in another way.
            await asyncio.shield(self._replace(child))
            raise
        self._rest(child)
        self._finished(done)
        return done

    @property
    def ready(self) -> bool:
        """Whether there are workers, busy or not."""
        return not self._closed and any(child.alive for child in self._living)

    def resize(self, by: int) -> None:
        """Have more or fewer workers from now on; none is stopped in the middle of a task.

        Args:
            by: How many more.
        """
        self.size += by
        missing = self.size - len(self._living) - len(self._starting)
        for _ in range(missing):
            self._start()
        if missing < 0 and not self._stopped_one_that_starts() and not self._idle.empty():
            self._rest(self._idle.get_nowait())

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
            ending = asyncio.ensure_future(child.kill())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
        else:
            self._idle.put_nowait(child)

    async def _free(self) -> Child:
        while True:
            child = await self._idle.get()
            if child.alive:
                return child
            await self._replace(child)  # it died while it had nothing to do

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
                await asyncio.sleep(_RETRY_S)
            else:
                self._living.add(child)
                self._idle.put_nowait(child)
                return

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
