"""``POST /v1/allocations``: a profile and budgets in, a certified plan out."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Request

from allocator import Allocation, Profile, solve_request
from allocator import Request as PlanRequest
from api.examples import ALLOCATIONS
from api.operations.body import pointing_into_body
from api.problems import answers
from api.settings import Settings

router = APIRouter(prefix="/v1", tags=["allocations"])
_ERRORS = answers(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.NOT_IMPLEMENTED,
)


class AllocationRequest(PlanRequest):
    """A profile, and what is asked of it.

    Attributes:
        profile: The profile.
    """

    profile: Profile


@router.post("/allocations", summary="Plan a model", responses=_ERRORS)
def allocate(
    request: Request, body: Annotated[AllocationRequest, Body(openapi_examples=ALLOCATIONS)]
) -> Allocation:
    """Find the best assignment of formats to layers within the budgets, and prove it.

    A request that no plan can meet is answered with 200 and the status `infeasible`; `achievable` says what each
    budget would have to be.
    """  # noqa: DOC201 - the docstring is the description in the OpenAPI document
    settings: Settings = request.app.state.settings
    asked = body.time_limit_s or settings.max_time_limit_s
    limited = body.model_copy(update={"time_limit_s": min(asked, settings.max_time_limit_s)})
    with pointing_into_body():
        return solve_request(body.profile, limited)
