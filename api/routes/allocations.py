"""``/v1/allocations``: a profile and budgets in, certified plans out."""

from __future__ import annotations

import asyncio
import gzip
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from api.ids import made_at
from api.jobs.runs import stored_rows
from api.keys.cache import Owner
from api.openapi.document import body_of
from api.openapi.examples import ALLOCATIONS
from api.problems.problem import ProblemError, answers
from api.routes.idempotent import Key, Settle, once
from api.routes.jobs import job_details
from api.routes.prefer import Preferred, Wait
from api.routes.resources import Resources, Shared, json_body
from api.store import Store, new_id
from api.store.allocations import add_allocations, allocation_answer, list_allocations
from api.store.database import run_in_write_thread
from api.store.jobs import StoredJob
from api.workers.task import Done
from bitalloc.wire import (
    AllocationBatch,
    AllocationEntry,
    AllocationPage,
    AllocationRequest,
    JobDetails,
    Sha256,
    StoredAllocation,
)

router = APIRouter(prefix="/v1", tags=["allocations"])
JSON = "application/json"
_ERRORS = answers(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.NOT_IMPLEMENTED,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.INSUFFICIENT_STORAGE,
)


@router.post(
    "/allocations",
    summary="Plan a model",
    responses=_ERRORS | answers(HTTPStatus.CONFLICT) | {202: {"model": JobDetails, "description": "A job."}},
    response_model=StoredAllocation | AllocationBatch,
    openapi_extra=body_of(AllocationRequest, ALLOCATIONS),
)
async def allocate(
    request: Request, owner: Owner, shared: Shared, wait: Preferred, key: Key = None
) -> Response:
    """Find the best assignment of formats to layers within the budgets, and prove it.

    A request that no plan can meet is answered with 200 and the status `infeasible`; `achievable` says what each
    budget would have to be. The answer is kept: `Location` says where.

    What takes longer than the request waits (`Prefer: wait=10`) is answered with 202 and becomes a job, which is
    finished whatever happens to this service; `Location` says where to follow it.
    """  # noqa: DOC201 - the docstring is the description in the OpenAPI document
    body = await json_body(request)
    await shared.quota.check(owner, len(body))
    return await once(request, key, owner, shared, lambda settle: _planned(body, owner, shared, wait, settle))


async def _planned(body: bytes, owner: str, shared: Resources, wait: Wait, settle: Settle) -> Response:
    accepted: list[Response] = []

    def accept(connection: Connection, job: StoredJob) -> None:
        headers = {"location": f"/v1/jobs/{job.id}", "retry-after": "1"} | wait.headers
        accepted.append(Response(job_details(job).model_dump_json(), 202, headers, JSON))
        settle(connection, accepted[0])

    if wait.seconds == 0:
        await shared.jobs.check(owner, body)
        await shared.jobs.submit(owner, body, new_id(), accept)
    else:
        run = shared.jobs.begin(owner, body)
        await asyncio.wait({run.future}, timeout=wait.seconds)
        if run.future.done():
            where = {"location": f"/v1/allocations/{run.id}"} | wait.headers
            response = Response(run.future.result().parts[0], media_type=JSON, headers=where)
            await run_in_write_thread(_keep, shared.store, owner, run.future.result(), response, settle)
            return response
        await shared.jobs.keep_going(run, accept)
    return accepted[0]


@router.get("/allocations", summary="List what was planned, newest first", responses=_ERRORS)
async def allocations(
    owner: Owner,
    shared: Shared,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
    cursor: Annotated[
        str | None, Query(pattern="^[0-9a-f]{32}$", description="`next_cursor` of a page.")
    ] = None,
    profile_id: Annotated[Sha256 | None, Query(description="Only those about this profile.")] = None,
) -> AllocationPage:
    """List your allocations, newest first, a page at a time."""  # noqa: DOC201 - shown in the OpenAPI document
    page = await run_in_threadpool(list_allocations, shared.store, owner, limit, cursor, profile_id)
    items = tuple(AllocationEntry(**vars(item), created_at=made_at(item.id)) for item in page.items)
    return AllocationPage(items=items, next_cursor=page.next_cursor)


@router.get(
    "/allocations/{id}", summary="What was planned", responses=_ERRORS, response_model=StoredAllocation
)
async def allocation(
    identifier: Annotated[str, Path(alias="id", pattern="^[0-9a-f]{32}$")], owner: Owner, shared: Shared
) -> Response:
    """Get an allocation again, byte for byte."""  # noqa: DOC201, DOC501 - shown in the OpenAPI document
    answer = await run_in_threadpool(allocation_answer, shared.store, owner, identifier)
    if answer is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, "no-such-allocation", f"there is no allocation {identifier}")
    return Response(await run_in_threadpool(gzip.decompress, answer), media_type=JSON)


def _keep(store: Store, owner: str, done: Done, response: Response, settle: Settle) -> None:
    with store.writing() as connection:
        add_allocations(connection, owner, stored_rows(done))
        settle(connection, response)
