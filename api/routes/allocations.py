"""``/v1/allocations``: a profile and budgets in, certified plans out."""

from __future__ import annotations

import gzip
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from api.examples import ALLOCATIONS
from api.openapi import body_of
from api.owners import Owner
from api.problems import ProblemError, answers
from api.resources import Resources, Shared, blocking, profiles_for
from api.routes.bodies import json_body
from api.store import new_id
from api.store.allocations import NewAllocation, add_allocations, allocation_answer, list_allocations
from api.store.ids import made_at
from api.wire import (
    AllocationBatch,
    AllocationEntry,
    AllocationPage,
    AllocationRequest,
    Sha256,
    StoredAllocation,
)
from api.work import Done, Task

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
    responses=_ERRORS,
    response_model=StoredAllocation | AllocationBatch,
    openapi_extra=body_of(AllocationRequest, ALLOCATIONS),
)
async def allocate(request: Request, owner: Owner, shared: Shared) -> Response:
    """Find the best assignment of formats to layers within the budgets, and prove it.

    A request that no plan can meet is answered with 200 and the status `infeasible`; `achievable` says what each
    budget would have to be. The answer is kept: `Location` says where.
    """  # noqa: DOC201 - the docstring is the description in the OpenAPI document
    body = await json_body(request)
    limit_s = shared.settings.max_time_limit_s
    options = {"id": new_id(), "max_time_limit_s": limit_s}
    task = Task("allocate", body, options, profiles_for(owner, shared))
    done = await shared.pool.run(task, limit_s + shared.settings.overrun_s)
    await blocking(_keep, shared, owner, done)
    return Response(done.parts[0], media_type=JSON, headers={"location": f"/v1/allocations/{options['id']}"})


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
    page = await blocking(list_allocations, shared.store, owner, limit, cursor, profile_id)
    items = tuple(AllocationEntry(**vars(item), created_at=made_at(item.id)) for item in page.items)
    return AllocationPage(items=items, next_cursor=page.next_cursor)


@router.get(
    "/allocations/{id}", summary="What was planned", responses=_ERRORS, response_model=StoredAllocation
)
async def allocation(
    identifier: Annotated[str, Path(alias="id", pattern="^[0-9a-f]{32}$")], owner: Owner, shared: Shared
) -> Response:
    """Get an allocation again, byte for byte."""  # noqa: DOC201, DOC501 - shown in the OpenAPI document
    answer = await blocking(allocation_answer, shared.store, owner, identifier)
    if answer is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, "no-such-allocation", f"there is no allocation {identifier}")
    return Response(await blocking(gzip.decompress, answer), media_type=JSON)


def _keep(shared: Resources, owner: str, done: Done) -> None:
    asked, *stored = done.parts[1:]
    rows = [_row(facts, asked, answer) for facts, answer in zip(done.facts["rows"], stored, strict=True)]
    with shared.store.writing() as connection:
        add_allocations(connection, owner, rows)


def _row(facts: dict[str, Any], asked: bytes, answer: bytes) -> NewAllocation:
    names = ("id", "profile_sha256", "status", "version")
    return NewAllocation(**{name: facts[name] for name in names}, request=asked, answer=answer)
