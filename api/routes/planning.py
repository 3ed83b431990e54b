"""Routes that compute an answer and keep nothing: one for each operation, and one for what it lists."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.jobs.stored import allocations_for
from api.keys.cache import Owner
from api.openapi.document import body_of
from api.operations import OPERATIONS
from api.operations.operation import ERRORS, Listing, Operation
from api.problems.problem import answers
from api.routes.idempotent import Key, once_computed
from api.routes.resources import Resources, Shared, json_body
from api.workers.task import Task


def planning_router() -> APIRouter:
    """Return the routes of all operations."""
    router = APIRouter(prefix="/v1")
    for name, operation in OPERATIONS.items():
        if operation.listing is not None:
            _add_listing(router, operation, operation.listing)
        _add_operation(router, name, operation)
    return router


def _add_operation(router: APIRouter, name: str, operation: Operation) -> None:
    async def answer(request: Request, owner: Owner, shared: Shared, key: Key = None) -> Response:
        return await _answer(name, request, owner, shared, key)

    router.add_api_route(
        operation.path,
        answer,
        methods=["POST"],
        tags=[operation.tag],
        summary=operation.summary,
        description=operation.description,
        responses=answers(*ERRORS),
        response_model=operation.answer,
        openapi_extra=body_of(operation.request, operation.examples),
    )


def _add_listing(router: APIRouter, operation: Operation, listing: Listing) -> None:
    router.add_api_route(
        operation.path,
        listing.compute,
        methods=["GET"],
        tags=[operation.tag],
        summary=listing.summary,
        description=listing.description,
        response_model=listing.answer,
    )


async def _answer(
    operation: str, request: Request, owner: str, shared: Resources, key: str | None
) -> Response:
    body = await json_body(request)
    limit_s = shared.settings.max_time_limit_s
    options = {"operation": operation, "max_time_limit_s": limit_s}
    stored = shared.profiles.of(owner), allocations_for(owner, shared.store)
    task = Task("operate", owner, body, options, *stored)

    async def compute() -> Response:
        done = await shared.pool.run(task, limit_s + shared.settings.overrun_s)
        return Response(done.parts[0], media_type="application/json")

    return await once_computed(request, key, owner, shared, compute)
