"""Forgetting: what ended long ago leaves the database."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from api.blocking import blocking
from api.jobs.queue import Queue
from api.settings import Settings
from api.store import Store
from api.store.retention import BATCH, forget_allocations, forget_jobs, forget_keys

_LOG = logging.getLogger(__name__)
#: How often to look at most and at least; between them, a quarter of the shortest time that something is kept.
_OFTEN_S, _SELDOM_S = 0.5, 3600.0


async def keep_tidy(settings: Settings, store: Store, queue: Queue, opened: asyncio.Event) -> None:
    """Forget what is old, again and again; every replica may, without getting into another's way.

    Args:
        settings: How long what is kept.
        store: The database.
        queue: The queue, which keeps rows of its own.
        opened: Set once the queue is open.
    """
    await opened.wait()
    kept_s = {
        "jobs in the queue": (settings.keep_jobs_s, queue.forget),
        "jobs": (settings.keep_jobs_s, lambda before: forget_jobs(store, before)),
        "idempotency keys": (settings.keep_idempotency_s, lambda before: forget_keys(store, before)),
    }
    if settings.keep_allocations_s is not None:
        kept_s["allocations"] = (
            settings.keep_allocations_s,
            lambda before: forget_allocations(store, before),
        )
    pause_s = min(max(min(seconds for seconds, _ in kept_s.values()) / 4, _OFTEN_S), _SELDOM_S)
    while True:
        for what, (seconds, forget) in kept_s.items():
            try:
                count = await _all(forget, time.time() - seconds)
            except Exception as error:  # the database may be away; DBOS raises what its driver does
                _LOG.warning("old %s cannot be forgotten now: %s", what, error)
            else:
                if count:
                    _LOG.info("forgot %d old %s", count, what)
        await asyncio.sleep(pause_s)


async def _all(forget: Callable[[float], int], before: float) -> int:
    # Batch by batch, so that a service that is told to end need not wait for all of them.
    total = 0
    while True:
        count = await blocking(forget, before)
        total += count
        if count < BATCH:
            return total
