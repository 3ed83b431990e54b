"""How much each key may store, and how many jobs it may have: refused before anything is worked on."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus

from sqlalchemy import Connection, func, select
from starlette.concurrency import run_in_threadpool

from api.keys.cache import NOBODY
from api.problems.problem import ProblemError
from api.store.database import Store
from api.store.jobs import QUEUED, RUNNING
from api.store.tables import allocations, idempotency, jobs, profiles

#: A measure is believed for so long, and for so many times as long as it took.
_BELIEVED_S, _TIMES = 10.0, 20
_MOST = 4096
_BODIES = (
    (profiles, (profiles.c.body,)),
    (allocations, (allocations.c.request, allocations.c.answer)),
    (jobs, (jobs.c.request,)),
    (idempotency, (idempotency.c.answer,)),
)


@dataclass
class _Measure:
    made_at: float
    took_s: float
    size_bytes: int

    def is_old(self, now: float) -> bool:
        return now - self.made_at > max(_BELIEVED_S, _TIMES * self.took_s)


class StorageQuota:
    """What each key stores, measured now and then, and what came since.

    Args:
        most_bytes: What a key may store; who has no key has the disk for itself.
    """

    def __init__(self, store: Store, most_bytes: int) -> None:
        self._store = store
        self._most_bytes = most_bytes
        self._measures: OrderedDict[str, _Measure] = OrderedDict()

    async def check(self, owner: str, coming_bytes: int) -> None:
        """Refuse what would exceed the quota of a key.

        Args:
            coming_bytes: What is to be stored, unpacked.

        Raises:
            ProblemError: It stores as much as it may.
        """
        if owner == NOBODY:
            return
        known = self._measures.get(owner)
        # What came is counted unpacked, which is more than it takes: nobody is refused for it without a measure.
        if known is None or known.is_old(time.monotonic()) or known.size_bytes > self._most_bytes:
            known = await self._measured(owner)
        if known.size_bytes >= self._most_bytes:
            detail = (
                f"this key stores {known.size_bytes} of {self._most_bytes} bytes; delete profiles that are not needed, "
                "or ask the operator"
            )
            raise ProblemError(HTTPStatus.INSUFFICIENT_STORAGE, "quota-used-up", detail)
        known.size_bytes += coming_bytes

    async def _measured(self, owner: str) -> _Measure:
        began = time.monotonic()
        size_bytes = await run_in_threadpool(stored_bytes, self._store, owner)
        now = time.monotonic()
        measure = self._measures[owner] = _Measure(now, now - began, size_bytes)
        self._measures.move_to_end(owner)
        if len(self._measures) > _MOST:
            self._measures.popitem(last=False)
        return measure


def require_job_quota(connection: Connection, owner: str, most: int) -> None:
    """Refuse one job too many.

    Args:
        most: How many may be queued or running.

    Raises:
        ProblemError: There are as many.
    """
    if open_jobs(connection, owner) >= most:
        detail = f"{most} jobs of this key are queued or running; wait until one has ended, or cancel one"
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS, "too-many-jobs", detail, headers={"Retry-After": "5"}
        )


def stored_bytes(store: Store, owner: str) -> int:
    """Return the packed bytes of an owner's profiles, plans, jobs and answers; takes some microseconds for each row."""
    total = 0
    with store.reading() as connection:
        for table, columns in _BODIES:
            sizes = [func.coalesce(func.sum(func.length(column)), 0) for column in columns]
            total += sum(connection.execute(select(*sizes).where(table.c.owner == owner)).one())
    return total


def open_jobs(connection: Connection, owner: str) -> int:
    """Return how many jobs of an owner have not ended."""
    mine = jobs.c.owner == owner, jobs.c.state.in_((QUEUED, RUNNING))
    return connection.execute(select(func.count()).select_from(jobs).where(*mine)).scalar_one()
