"""``/v1/jobs``: plans that take longer than a request waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.ids import made_at, numbered
from api.keys.cache import KeyCache, Owner
from api.problems.problem import ProblemError, answers
from api.routes.resources import Shared
from api.store.jobs import StoredJob, find_job, list_jobs, progress_since
from bitalloc.problem_details import ProblemDetails
from bitalloc.wire import JobDetails, JobPage, JobProgress

router = APIRouter(prefix="/v1", tags=["jobs"])
_ERRORS = answers(
    HTTPStatus.NOT_FOUND,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.INSUFFICIENT_STORAGE,
)
#: How often the database is asked for progress.
_POLL_S = 0.3


def job_details(job: StoredJob) -> JobDetails:
    """Show a job.

    Returns:
        As it is shown.
    """
    progress: Any = job.progress
    return JobDetails(
        id=job.id,
        state=job.state,
        created_at=made_at(job.id),
        started_at=job.started_at,
        ended_at=job.ended_at,
        progress=None if progress is None else JobProgress.model_validate(progress),
        allocations=tuple(f"/v1/allocations/{each}" for each in numbered(job.id, job.plans)),
        problem=None if job.problem is None else ProblemDetails.model_validate(job.problem),
    )


async def _mine(
    identifier: Annotated[str, Path(alias="id", pattern="^[0-9a-f]{32}$", description="Id of the job.")],
    owner: Owner,
    shared: Shared,
) -> StoredJob:
    job = await run_in_threadpool(find_job, shared.store, identifier, owner)
    if job is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, "no-such-job", f"there is no job {identifier}")
    return job


Mine = Annotated[StoredJob, Depends(_mine)]


@router.get("/jobs", summary="List jobs, newest first", responses=_ERRORS)
async def jobs(
    owner: Owner,
    shared: Shared,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
    cursor: Annotated[
        str | None, Query(pattern="^[0-9a-f]{32}$", description="`next_cursor` of a page.")
    ] = None,
) -> JobPage:
    """List your jobs, newest first, a page at a time."""  # noqa: DOC201 - shown in the OpenAPI document
    page = await run_in_threadpool(list_jobs, shared.store, owner, limit, cursor)
    return JobPage(items=tuple(map(job_details, page.items)), next_cursor=page.next_cursor)


@router.get("/jobs/{id}", summary="How far is a job?", responses=_ERRORS)
async def job(found: Mine) -> JobDetails:
    """Get a job: its state, and how far its solver has come.

    `state` is the job's; what the solver proved is the `status` of the allocation that it made.
    """  # noqa: DOC201 - the docstring is the description in the OpenAPI document
    return job_details(found)


@router.delete("/jobs/{id}", summary="Cancel a job", responses=_ERRORS | answers(HTTPStatus.CONFLICT))
async def cancel(found: Mine, shared: Shared) -> JobDetails:
    """Cancel a job; its solver is killed with everything that it started."""  # noqa: DOC201, DOC501 - shown in the OpenAPI document
    if not await shared.jobs.cancel(found.id):
        now = await run_in_threadpool(find_job, shared.store, found.id)
        state = "gone" if now is None else now.state
        raise ProblemError(HTTPStatus.CONFLICT, "job-has-ended", f"the job has ended: it is {state}")
    now = await run_in_threadpool(find_job, shared.store, found.id)
    return job_details(found if now is None else now)


@router.get(
    "/jobs/{id}/events", summary="Follow a job", responses=_ERRORS, response_class=EventSourceResponse
)
async def events(
    request: Request,
    owner: Owner,
    found: Mine,
    shared: Shared,
    last_event_id: Annotated[
        int, Header(alias="Last-Event-ID", ge=0, le=2**31, description="Go on after this event.")
    ] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a job as server-sent events.

    `incumbent`: a better plan or bound, as in `progress` of the job. `end`: the job as it ended, the last event.
    `reconnect`: the stream has lived long enough, or the key may not be good any more; connect again with
    `Last-Event-ID`, as browsers do by themselves.
    """  # noqa: DOC402 - the docstring is the description in the OpenAPI document
    keys: KeyCache = request.app.state.keys
    until, number = time.monotonic() + shared.settings.stream_s, last_event_id
    while True:
        if time.monotonic() > until or not await keys.is_good(owner):
            yield ServerSentEvent(event="reconnect", id=str(number), data={}, retry=1000)
            return
        now = await run_in_threadpool(find_job, shared.store, found.id)
        for number, facts in await run_in_threadpool(progress_since, shared.store, found.id, number):  # noqa: B020
            yield ServerSentEvent(event="incumbent", id=str(number), data=JobProgress.model_validate(facts))
        if now is None or now.ended:
            yield ServerSentEvent(event="end", id=str(number), data=job_details(now or found))
            return
        await asyncio.sleep(_POLL_S)
