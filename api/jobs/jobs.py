"""Solves, and what becomes of those that take longer than their request waits."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import time
from collections.abc import Callable
from typing import Self, TypeVar

from sqlalchemy import Connection

from allocator import BitallocError
from api.blocking import blocking
from api.jobs.answers import keep_ending
from api.jobs.leases import Leases
from api.jobs.profiles import OwnedProfiles
from api.jobs.queue import HandedBackError, Queue
from api.jobs.retention import keep_tidy
from api.jobs.runs import Run
from api.settings import Settings
from api.store import Store, StoreFullError, StoreUnavailableError, new_id
from api.store.ids import made_at
from api.store.jobs import (
    CANCELLED,
    QUEUED,
    RUNNING,
    StoredJob,
    add_job,
    begin_job,
    end_job,
    find_job,
    hand_back,
    tell,
)
from api.workers import Task
from api.workers.pool import Pool

_LOG = logging.getLogger(__name__)
#: How often news are kept, and how soon a job ends that was cancelled at another service.
_NEWS_S = 0.5
_RETRY_S = 1.0
#: A database that is away may keep the queue from being opened when the service is told to end.
_OPENING_S = 5.0
#: A job can reach a service before its row does.
_ROW_COMES_WITHIN_S = 5.0
T = TypeVar("T")
#: Answers the client, in the transaction that keeps the job.
Accept = Callable[[Connection, StoredJob], None]


class Jobs:
    """The solves of this service; use it as an asynchronous context manager.

    Args:
        settings: Limits, leases, number of jobs.
        store: The database.
        pool: The workers.
        profiles: Hands stored profiles to workers.
    """

    def __init__(self, settings: Settings, store: Store, pool: Pool, profiles: OwnedProfiles) -> None:
        self.replica = new_id()
        self._settings = settings
        self._store = store
        self._pool = pool
        self._profiles = profiles
        self._loop = asyncio.get_running_loop()
        self._queue = Queue(settings, self.replica, self._from_queue)
        self._opened = asyncio.Event()
        self._leases = Leases(store, self.replica, settings.lease_s, self._take_over)
        self._here: dict[str, Run] = {}
        self._freed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._closing = False
        self._opening: asyncio.Task[None]
        self._keeping: list[asyncio.Task[None]]

    def begin(self, owner: str, body: bytes, identifier: str | None = None) -> Run:
        """Begin a solve.

        Args:
            owner: Whose it is.
            body: The body of its request.
            identifier: Id of the answer; a new one when absent.

        Returns:
            The solve on its way.
        """
        run = Run(identifier or new_id(), owner, body)
        limit_s = self._settings.max_time_limit_s
        options = {"id": run.id, "max_time_limit_s": limit_s, "all_news": identifier is not None}
        task = Task("allocate", body, options, self._profiles.of(owner))
        doing = self._pool.run(task, limit_s + self._settings.overrun_s, run.hear)
        run.attach(asyncio.ensure_future(doing))
        return run

    async def check(self, owner: str, body: bytes) -> None:
        """Refuse a request that is plainly wrong, before it becomes a job.

        Args:
            owner: Whose it is.
            body: The body of the request.
        """
        task = Task("check", body, {}, self._profiles.of(owner))
        await self._pool.run(task, self._settings.max_time_limit_s)

    async def keep_going(self, run: Run, accept: Accept) -> None:
        """Make a job of a solve, so that it is finished whatever happens to this service.

        Args:
            run: The solve, which goes on; where there are too many jobs already, it begins anew when it is its turn.
            accept: Called in the transaction that keeps the job.
        """
        await self._opened.wait()
        if len(self._here) >= self._settings.jobs:
            await run.end()
            await self.submit(run.owner, run.body, run.id, accept)
            return
        self._here[run.id] = run
        self._pool.resize(+1)  # those who come next find as many workers as before
        try:
            await self._keep(run, RUNNING, self._queue.start, accept)
        except BaseException:
            self._forget(run)
            await run.end()
            raise

    async def submit(self, owner: str, body: bytes, identifier: str, accept: Accept) -> None:
        """Queue a job.

        Args:
            owner: Whose it is.
            body: The body of its request.
            identifier: Its id.
            accept: Called in the transaction that keeps the job.
        """
        await self._opened.wait()
        await self._keep(Run(identifier, owner, body), QUEUED, self._queue.put, accept)

    async def _keep(self, run: Run, state: str, hand_over: Callable[[str], None], accept: Accept) -> None:
        # First the queue, then the row with the answer to the client: a job that was accepted is always in the queue,
        # and one in the queue without a row was never accepted, and is dropped.
        started_at = made_at(run.id) if state == RUNNING else None
        job = StoredJob(run.id, run.owner, state, self.replica, None, None, 0, started_at, None)
        request = await blocking(gzip.compress, run.body, compresslevel=1)
        await blocking(hand_over, run.id)

        def keep() -> None:
            with self._store.writing() as connection:
                add_job(connection, job, request)
                accept(connection, job)

        await blocking(keep)

    async def cancel(self, identifier: str) -> bool:
        """Cancel a job; where its solver runs here, it is gone afterwards, elsewhere within a second.

        Args:
            identifier: Its id.

        Returns:
            False where it had ended already.
        """

        def ended() -> bool:
            with self._store.writing() as connection:
                return end_job(connection, identifier, CANCELLED)

        if not await blocking(ended):
            return False
        if (run := self._here.get(identifier)) is not None:
            await run.end()
        else:
            await self._opened.wait()
            await blocking(self._queue.cancel, identifier)
        return True

    def _forget(self, run: Run) -> None:
        if self._here.pop(run.id, None) is not None:
            self._pool.resize(-1)
            self._freed.set()

    def _from_queue(self, identifier: str) -> None:
        # In a thread of the queue, which waits here until the loop has done the job.
        doing = asyncio.run_coroutine_threadsafe(self._execute(identifier), self._loop)
        if not doing.result():
            raise HandedBackError

    async def _execute(self, identifier: str) -> bool:
        # False where it has to go on elsewhere.
        if self._closing:
            return False
        job = await self._found(identifier)
        run = self._here.get(identifier)
        if job is not None and run is None:
            run = await self._begun(job)
        if job is None or run is None:
            return not self._closing
        try:
            await self._follow(run)
            if self._closing and run.future.cancelled():
                await blocking(hand_back, self._store, run.id, self.replica)
                return False
            return True
        finally:
            self._forget(run)

    async def _found(self, identifier: str) -> StoredJob | None:
        until = time.monotonic() + _ROW_COMES_WITHIN_S
        while True:
            job = await self._patiently(lambda: find_job(self._store, identifier))
            if job is not None or time.monotonic() > until:
                return job
            await asyncio.sleep(_NEWS_S / 10)

    async def _begun(self, job: StoredJob) -> Run | None:
        # The queue counts the jobs that it handed out, not those that began as requests: some have to wait here.
        async with self._turn:
            while len(self._here) >= self._settings.jobs and not self._closing:
                self._freed.clear()
                await self._freed.wait()
            request = None
            if not self._closing:
                request = await self._patiently(lambda: begin_job(self._store, job.id, self.replica))
            if request is None:
                return None
            run = self.begin(job.owner, await blocking(gzip.decompress, request), job.id)
            self._here[job.id] = run
            self._pool.resize(+1)
            return run

    async def _follow(self, run: Run) -> None:
        while not run.future.done():
            await asyncio.wait({run.future}, timeout=_NEWS_S)
            news = run.take_news()
            try:
                mine = await blocking(tell, self._store, run.id, self.replica, news)
            except (StoreUnavailableError, StoreFullError):
                run.put_back(news)
                continue
            if not mine:  # cancelled, or taken over by a service that thought this one dead
                await run.end()
                return
        if not run.future.cancelled():
            await self._patiently(lambda: keep_ending(self._store, run, self.replica))

    async def _patiently(self, call: Callable[[], T]) -> T:
        # What a job has found must not be lost because the database is away for a while.
        while True:
            try:
                return await blocking(call)
            except (StoreUnavailableError, StoreFullError):
                await asyncio.sleep(_RETRY_S)

    async def _take_over(self, gone: list[str]) -> None:
        await self._opened.wait()
        await blocking(self._queue.recover, gone)

    async def _open(self) -> None:
        while not self._closing:
            try:
                await blocking(self._queue.open)
            except Exception as error:  # the database may be away; DBOS raises what its driver does
                _LOG.error("the queue cannot be opened yet: %s", error)
                await asyncio.sleep(_RETRY_S)
            else:
                self._opened.set()
                return

    async def __aenter__(self) -> Self:
        await self._leases.begin()
        self._opening = asyncio.ensure_future(self._open())
        tidying = keep_tidy(self._settings, self._store, self._queue, self._opened)
        self._keeping = [asyncio.ensure_future(doing) for doing in (self._leases.keep(), tidying)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._freed.set()
        for each in self._keeping:
            each.cancel()
        # A queue that is being opened in its thread goes on to be, while the process ends below it.
        await asyncio.wait({self._opening, *self._keeping}, timeout=_OPENING_S)
        self._opening.cancel()
        for run in list(self._here.values()):
            await run.end()
        while self._here:
            await asyncio.sleep(0.01)
        if self._opened.is_set():
            await blocking(self._queue.close)
        with contextlib.suppress(BitallocError):
            await self._leases.end()
