"""``POST /v1/allocations``: a profile and budgets in, a certified plan out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Request

from allocator import Allocation, Profile, solve_request
from allocator import Request as PlanRequest
from api.examples import ALLOCATIONS
from api.problems import MEDIA_TYPE, ProblemDetails
from api.settings import Settings

router = APIRouter(prefix="/v1", tags=["allocations"])


class AllocationRequest(PlanRequest):
    """A profile, and what is asked of it.

    Attributes:
        profile: The profile.
    """

    profile: Profile


def _problem(description: str) -> dict[str, object]:
    return {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": ProblemDetails.model_json_schema()}},
    }


@router.post(
    "/allocations",
    summary="Plan a model",
    responses={
        400: _problem("The body is not JSON"),
        413: _problem("The body is larger than the limit"),
        422: _problem("A field cannot be used; `errors` points at each of them"),
        501: _problem("The solver needs a package that is not installed here"),
    },
)
def allocate(
    request: Request, body: Annotated[AllocationRequest, Body(openapi_examples=ALLOCATIONS)]
) -> Allocation:
    """Find the best assignment of formats to layers within the budgets, and prove it.

    A request that no plan can meet is answered with 200 and the status `infeasible`; `achievable` says what each
    budget would have to be.
    """  # noqa: DOC201
    settings: Settings = request.app.state.settings
    asked = body.time_limit_s or settings.max_time_limit_s
    limited = body.model_copy(update={"time_limit_s": min(asked, settings.max_time_limit_s)})
    return solve_request(body.profile, limited)
