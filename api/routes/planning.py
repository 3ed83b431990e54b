"""``POST /v1/frontiers``, ``/explanations`` and ``/comparisons``: more than one plan of a profile."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Request

from allocator import Explanation
from allocator import Request as PlanRequest
from api.allocations import AllocationRequest
from api.examples import COMPARISONS, EXPLANATIONS, FRONTIERS
from api.operations.comparison import ComparisonAnswer, ComparisonFields, comparison
from api.operations.explanation import ExplanationFields, explanation
from api.operations.frontier import FrontierAnswer, FrontierFields, trade_off
from api.problems import answers
from api.settings import Settings

router = APIRouter(prefix="/v1", tags=["planning"])
_ERRORS = answers(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.NOT_IMPLEMENTED,
)


class FrontierRequest(FrontierFields, AllocationRequest):
    """A profile, what is asked of it, and what is traded against the objective."""


class ExplanationRequest(ExplanationFields, AllocationRequest):
    """A profile, what is asked of it, and which layers to explain."""


class ComparisonRequest(ComparisonFields, AllocationRequest):
    """A profile, what is asked of it, and two sides to compare."""


@router.post("/frontiers", summary="Show the whole trade-off", responses=_ERRORS)
def make_frontier(
    request: Request, body: Annotated[FrontierRequest, Body(openapi_examples=FRONTIERS)]
) -> FrontierAnswer:
    """Find every plan on the convex hull of the trade-off between the objective and a resource.

    Budgets and limits hold for the exact points that `points` asks for; supported plans cannot keep them, so they are
    allowed with `points` only.
    """  # noqa: DOC201 - the docstring is the description in the OpenAPI document
    return trade_off(body.profile, _limited(request, body), body)


@router.post("/explanations", summary="Say why a plan is as it is", responses=_ERRORS)
def make_explanation(
    request: Request, body: Annotated[ExplanationRequest, Body(openapi_examples=EXPLANATIONS)]
) -> Explanation:
    """Solve, and give the next changes, baselines, what each format of a layer would have cost, and how sure it is.

    For requests that no plan can meet, `conflict` says what cannot all be kept and how little would be enough.
    """  # noqa: DOC201
    return explanation(body.profile, _limited(request, body), body)


@router.post("/comparisons", summary="Lay two plans or two tables side by side", responses=_ERRORS)
def make_comparison(
    request: Request, body: Annotated[ComparisonRequest, Body(openapi_examples=COMPARISONS)]
) -> ComparisonAnswer:
    """Compare two assignments, or the plans that two objectives lead to under the same budgets.

    Each side's sums over every table of the profile, the layers that differ, and how far two cost tables rank alike.
    """  # noqa: DOC201
    return comparison(body.profile, _limited(request, body), body)


def _limited(request: Request, body: AllocationRequest) -> PlanRequest:
    settings: Settings = request.app.state.settings
    longest = settings.max_time_limit_s
    fields = {name: getattr(body, name) for name in PlanRequest.model_fields}
    fields["time_limit_s"] = min(body.time_limit_s or longest, longest)
    return PlanRequest.model_construct(**fields)
