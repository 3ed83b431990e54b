"""Forgetting: what ended long ago leaves the database."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from api.settings import Settings
from api.store import Store
from api.store.lanes import in_writing
from api.store.retention import BATCH, forget_allocations, forget_jobs, forget_keys

_LOG = logging.getLogger(__name__)
#: How often to look at most and at least; between them, a quarter of the shortest time that something is kept.
_OFTEN_S, _SELDOM_S = 0.5, 3600.0


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
        count = await in_writing(forget, store, before)
        total += count
        if count < BATCH:
            return total
