"""What the routes share: the settings, the database and the workers, opened and closed with the application."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from starlette.concurrency import run_in_threadpool

from api.jobs import Jobs
from api.jobs.stored import OwnedProfiles
from api.keys.cache import KeyCache
from api.keys.quotas import StorageQuota
from api.observability.metrics import Metrics
from api.problems.problem import ProblemError
from api.settings import Settings
from api.store import Store, open_store
from api.store.jobs import job_counts
from api.workers.pool import Pool


@dataclass(frozen=True)
class Resources:
    """What a route may use.

    Attributes:
        settings: The settings.
        store: The database; its functions block, so call them through :func:`starlette.concurrency.run_in_threadpool`.
        pool: The workers.
        profiles: Hands stored profiles to workers.
        jobs: The solves.
        quota: How much each key may store.
    """

    settings: Settings
    store: Store
    pool: Pool
    profiles: OwnedProfiles
    jobs: Jobs
    quota: StorageQuota


async def resources_of(request: Request) -> Resources:
    """Return what the routes of an application share."""
    opened: Resources = request.app.state.resources
    return opened


Shared = Annotated[Resources, Depends(resources_of)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what the routes share, and close it at the end.

    Yields:
        Nothing; ``app.state.resources`` is there meanwhile.
    """
    settings: Settings = app.state.settings
    metrics: Metrics = app.state.metrics
    async with Pool(settings, lambda done: metrics.count_solves(done.facts)) as pool:
        store = await run_in_threadpool(open_store, settings)
        try:
            profiles = OwnedProfiles(store)
            quota = StorageQuota(store, settings.max_stored_bytes_per_key)
            async with Jobs(settings, store, pool, profiles) as jobs:
                app.state.resources = Resources(settings, store, pool, profiles, jobs, quota)
                app.state.keys = KeyCache(store)
                metrics.watch_jobs(lambda: job_counts(store))
                gc.freeze()  # to look through all that was imported takes a tenth of a second, and nobody is answered
                yield
        finally:
            store.close()


async def json_body(request: Request) -> bytes:
    """Read the body of a request that has to be JSON.

    Returns:
        The body, not parsed.

    Raises:
        ProblemError: The content type is another.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        detail = "send a JSON object with Content-Type: application/json"
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)
    return await request.body()
