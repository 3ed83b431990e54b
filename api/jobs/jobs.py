"""Solves, and what becomes of those that take longer than their request waits."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
from collections.abc import Callable
from typing import Self, TypeVar

from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from allocator import BitallocError
from api.errors import PASSING
from api.ids import made_at
from api.jobs.leases import Leases
from api.jobs.queue import Queue
from api.jobs.runs import Run, keep_ending, keep_failure
from api.jobs.stored import OwnedProfiles
from api.keys.quotas import require_job_quota
from api.settings import Settings
from api.store import Store, new_id
from api.store.database import run_in_write_thread
from api.store.jobs import CANCELLED, QUEUED, RUNNING, ClaimedJob, StoredJob, add_job, add_progress, end_job
from api.store.retention import keep_tidy
from api.workers.pool import Pool
from api.workers.task import Task

_LOG = logging.getLogger(__name__)
#: How often progress is kept, and how soon a job ends that was cancelled at another service.
_PROGRESS_S = 0.5
_RETRY_S = 1.0
#: How long a service that ends waits for a database that does not answer.
_CLOSING_S = 5.0
T = TypeVar("T")
#: Answers the client, in the transaction that keeps the job.
Accept = Callable[[Connection, StoredJob], None]


class Jobs:
    """The solves of this service; use it as an asynchronous context manager.

    Args:
        settings: Limits, leases, number of jobs.
    """

    def __init__(self, settings: Settings, store: Store, pool: Pool, profiles: OwnedProfiles) -> None:
        self.replica = new_id()
        self._settings = settings
        self._store = store
        self._pool = pool
        self._profiles = profiles
        self._queue = Queue(store, self.replica, self._may_claim, self._run_claimed)
        self._leases = Leases(store, self.replica, settings.lease_s, self._queue.look)
        self._here: dict[str, Run] = {}
        self._following: set[asyncio.Task[None]] = set()
        self._keeping: list[asyncio.Task[None]] = []
        self._closing = False

    @property
    def accepting(self) -> bool:
        """Whether jobs can be taken in and out of the queue."""
        return self._queue.works and not any(each.done() for each in self._keeping)

    def begin(self, owner: str, body: bytes, identifier: str | None = None) -> Run:
        """Begin a solve.

        Args:
            identifier: Id of the answer; a new one when absent.

        Returns:
            The solve on its way.
        """
        run = Run(identifier or new_id(), owner, body)
        limit_s = self._settings.max_time_limit_s
        options = {"id": run.id, "max_time_limit_s": limit_s, "all_progress": identifier is not None}
        task = Task("allocate", owner, body, options, self._profiles.of(owner))
        run.start(self._pool.run(task, limit_s + self._settings.overrun_s, run.note))
        return run

    async def check(self, owner: str, body: bytes) -> None:
        """Refuse a request that is plainly wrong, before it becomes a job."""
        task = Task("check", owner, body, {}, self._profiles.of(owner))
        await self._pool.run(task, self._settings.max_time_limit_s)

    async def keep_going(self, run: Run, accept: Accept) -> None:
        """Make a job of a solve, so that it is finished whatever happens to this service.

        Args:
            run: The solve, which goes on; where there are too many jobs already, it begins anew when it is its turn.
            accept: Called in the transaction that keeps the job.
        """
        if not self._has_capacity():
            await run.end()
            await self.submit(run.owner, run.body, run.id, accept)
            return
        self._adopt(run)
        try:
            await self._keep(run, RUNNING, accept)
        except BaseException:
            self._forget(run)
            await run.end()
            raise
        self._follow(run)

    async def submit(self, owner: str, body: bytes, identifier: str, accept: Accept) -> None:
        """Queue a job.

        Args:
            accept: Called in the transaction that keeps the job.
        """
        await self._keep(Run(identifier, owner, body), QUEUED, accept)
        self._queue.look()

    async def cancel(self, identifier: str) -> bool:
        """Cancel a job; where its solver runs here, it is gone afterwards, elsewhere within a second.

        Returns:
            False where it had ended already.
        """

        def ended(store: Store) -> bool:
            return store.freeing(lambda connection: end_job(connection, identifier, CANCELLED)) is not None

        if not await run_in_write_thread(ended, self._store):
            return False
        async with self._queue.taking:  # it may have been on its way here when it was cancelled
            run = self._here.get(identifier)
        if run is not None:
            await run.end()
        return True

    async def _keep(self, run: Run, state: str, accept: Accept) -> None:
        started_at = made_at(run.id) if state == RUNNING else None
        job = StoredJob(run.id, run.owner, state, self.replica, None, None, 0, started_at, None)
        request = await run_in_threadpool(gzip.compress, run.body, compresslevel=1)

        def keep(store: Store) -> None:
            with store.writing() as connection:
                require_job_quota(connection, job.owner, self._settings.max_jobs_per_key)
                add_job(connection, job, request)
                accept(connection, job)

        await run_in_write_thread(keep, self._store)

    def _has_capacity(self) -> bool:
        # A job that is just being taken is not counted: a request that becomes one meanwhile makes it one too many,
        # which is better than to throw away what either has found.
        return len(self._here) < self._settings.jobs and not self._closing

    def _may_claim(self) -> bool:
        return (
            self._has_capacity() and self._pool.ready
        )  # without workers, a job runs nowhere and others may have some

    async def _run_claimed(self, job: ClaimedJob) -> None:
        run = self.begin(job.owner, await run_in_threadpool(gzip.decompress, job.request), job.id)
        self._adopt(run)
        self._follow(run)

    def _adopt(self, run: Run) -> None:
        self._here[run.id] = run
        self._pool.resize(+1)  # those who come next find as many workers as before

    def _forget(self, run: Run) -> None:
        del self._here[run.id]
        self._pool.resize(-1)
        self._queue.look()

    def _follow(self, run: Run) -> None:
        following = asyncio.ensure_future(self._followed(run))
        self._following.add(following)
        following.add_done_callback(self._following.discard)

    async def _followed(self, run: Run) -> None:
        try:
            while not run.future.done():
                await asyncio.wait({run.future}, timeout=_PROGRESS_S)
                progress, run.progress = run.progress, []
                try:
                    mine = await run_in_write_thread(
                        add_progress, self._store, run.id, self.replica, progress
                    )
                except PASSING:
                    run.progress[:0] = progress
                    continue
                if not mine:  # cancelled, or taken over by a service that thought this one dead
                    await run.end()
            if not run.future.cancelled():
                await self._keep_with_retries(keep_ending, run)
        except Exception:
            _LOG.exception("job %s cannot be kept", run.id)
            await run.end()
            await self._keep_with_retries(keep_failure, run)
        finally:
            self._forget(run)

    async def _keep_with_retries(self, keep: Callable[[Store, Run, str], None], run: Run) -> None:
        # What a job has found must not be lost because the database is away for a while.
        while True:
            try:
                return await run_in_write_thread(keep, self._store, run, self.replica)
            except PASSING:
                if self._closing:
                    return None  # another service finds it again
                await asyncio.sleep(_RETRY_S)

    async def __aenter__(self) -> Self:
        await self._leases.begin()
        doing = self._queue.serve(), self._leases.keep(), keep_tidy(self._settings, self._store)
        self._keeping = [asyncio.ensure_future(each) for each in doing]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._queue.close()
        for each in self._keeping[1:]:
            each.cancel()
        await asyncio.wait(self._keeping, timeout=_CLOSING_S)
        self._keeping[0].cancel()
        for run in list(self._here.values()):
            await run.end()
        if self._following:
            await asyncio.wait(set(self._following), timeout=_CLOSING_S)
        with contextlib.suppress(BitallocError):
            await self._leases.end()  # what ran here goes on elsewhere
