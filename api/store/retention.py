"""Forget what is old, a batch at a time; on several replicas at once, each takes rows that no other has."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select, tuple_

from api.settings import Settings
from api.store.database import Store, run_in_write_thread
from api.store.tables import allocations, idempotency, job_events, jobs, replicas

#: Rows in one transaction; others get their turn between two of them.
BATCH = 500
#: Digits of an id that tell when it was made; the plans of a job share them with it.
_TIME = 16
_LOG = logging.getLogger(__name__)
#: How often to look at most and at least; between them, a quarter of the shortest time that something is kept.
_OFTEN_S, _SELDOM_S = 0.5, 3600.0


def forget_jobs(store: Store, before: float) -> int:
    """Forget jobs that ended long ago, with their progress.

    Args:
        before: Those that ended before this, in seconds since 1970; what is queued or running has not ended.

    Returns:
        How many, at most :data:`BATCH`.
    """
    return _forget(store, jobs, jobs.c.ended_at < before)


def forget_allocations(store: Store, before: float) -> int:
    """Forget answers that were asked for long ago, but none of a job that is still known.

    Args:
        before: Those asked for before this, in seconds since 1970.

    Returns:
        How many, at most :data:`BATCH`.
    """
    of_jobs = select(func.substr(jobs.c.id, 1, _TIME))
    old = allocations.c.id < f"{max(int(before * 1e9), 0):016x}"
    return _forget(store, allocations, old & func.substr(allocations.c.id, 1, _TIME).not_in(of_jobs))


def forget_keys(store: Store, before: float) -> int:
    """Forget idempotency keys that were used long ago, but none whose request a service still works on.

    Args:
        before: Those used before this, in seconds since 1970.

    Returns:
        How many, at most :data:`BATCH`.
    """
    answered = idempotency.c.status.is_not(None) | idempotency.c.replica.not_in(select(replicas.c.id))
    return _forget(store, idempotency, (idempotency.c.made_at < before) & answered)


def _forget(store: Store, table: Table, old: ColumnElement[bool]) -> int:
    key = list(table.primary_key)
    # On PostgreSQL rows that another replica is about to forget are passed over; SQLite has one writer anyway.
    query = select(*key).where(old).order_by(*key).limit(BATCH).with_for_update(skip_locked=True)

    def gone(connection: Connection) -> int:
        rows = [tuple(row) for row in connection.execute(query)]
        if table is jobs:
            connection.execute(delete(job_events).where(job_events.c.job.in_([row[0] for row in rows])))
        connection.execute(delete(table).where(tuple_(*key).in_(rows)))
        return len(rows)

    return store.freeing(gone)


async def keep_tidy(settings: Settings, store: Store) -> None:
    """Forget what is old, again and again; every replica may, without getting into another's way.

    Args:
        settings: How long what is kept.
    """
    kept_s = {
        "jobs": (settings.keep_jobs_s, forget_jobs),
        "idempotency keys": (settings.keep_idempotency_s, forget_keys),
    }
    if settings.keep_allocations_s is not None:
        kept_s["allocations"] = settings.keep_allocations_s, forget_allocations
    pause_s = min(max(min(seconds for seconds, _ in kept_s.values()) / 4, _OFTEN_S), _SELDOM_S)
    while True:
        for what, (seconds, forget) in kept_s.items():
            try:
                count = await _all(forget, store, time.time() - seconds)
            except Exception as error:  # the database may be away
                _LOG.warning("old %s cannot be forgotten now: %s", what, error)
            else:
                if count:
                    _LOG.info("forgot %d old %s", count, what)
        await asyncio.sleep(pause_s)


async def _all(forget: Callable[[Store, float], int], store: Store, before: float) -> int:
    # Batch by batch, so that a service that is told to end need not wait for all of them.
    total = 0
    while True:
        count = await run_in_write_thread(forget, store, before)
        total += count
        if count < BATCH:
            return total
