"""The queue is the table of jobs: each service takes the next one with one conditional update when it has capacity."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from api.errors import PASSING
from api.store import Store
from api.store.database import run_in_write_thread
from api.store.jobs import ClaimedJob, claim_job

_LOG = logging.getLogger(__name__)
#: How often to look for jobs that other services queued; one's own are taken at once.
_POLL_S = 0.5


class Queue:
    """Takes jobs while there is capacity."""

    def __init__(
        self,
        store: Store,
        replica: str,
        has_capacity: Callable[[], bool],
        run: Callable[[ClaimedJob], Awaitable[None]],
    ) -> None:
        self._store = store
        self._replica = replica
        self._has_capacity = has_capacity
        self._run = run
        self._changed = asyncio.Event()
        self.taking = asyncio.Lock()  # while a job is running by the database and not yet here
        self._closed = False
        self.works = True

    def look(self) -> None:
        """Look again at once: there is a job, or capacity."""
        self._changed.set()

    async def serve(self) -> None:
        """Take jobs until the queue is closed."""
        while not self._closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._changed.wait()
            self._changed.clear()
            while self._has_capacity() and await self._took_one():
                pass

    def close(self) -> None:
        """Take no more jobs."""
        self._closed = True
        self.look()

    async def _took_one(self) -> bool:
        try:
            async with self.taking:
                job = await run_in_write_thread(claim_job, self._store, self._replica)
                if job is not None:
                    await self._run(job)
        except Exception as error:
            if self.works and not isinstance(error, PASSING):
                _LOG.exception("no job can be taken out of the queue; it is tried again and again")
            self.works = False
            return False
        self.works = True
        return job is not None
