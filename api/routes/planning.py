"""Routes that compute an answer and keep nothing: fronts, reasons, comparisons, exports, lint."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from allocator import Explanation
from api.jobs.allocations import allocations_for
from api.keys.owners import Owner
from api.openapi.document import body_of
from api.openapi.examples import COMPARISONS, EXPLANATIONS, EXPORTS, FRONTIERS, LINTS
from api.operations.comparison import ComparisonAnswer, ComparisonRequest
from api.operations.explanation import ExplanationRequest
from api.operations.export import ExportAnswer, ExportRequest, ExportTargets, export_targets
from api.operations.frontier import FrontierAnswer, FrontierRequest
from api.operations.lint import LintAnswer, LintRequest, LintRuntimes, lint_runtimes
from api.problems.problem import answers
from api.routes.bodies import json_body
from api.routes.idempotent import Key, once_computed
from api.routes.resources import Resources, Shared
from api.workers import Task

router = APIRouter(prefix="/v1")
_PLANNING, _TOOLS = "planning", "tools"
_ERRORS = answers(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.NOT_IMPLEMENTED,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.INSUFFICIENT_STORAGE,
)


@router.post(
    "/frontiers",
    tags=[_PLANNING],
    summary="Show the whole trade-off",
    responses=_ERRORS,
    response_model=FrontierAnswer,
    openapi_extra=body_of(FrontierRequest, FRONTIERS),
)
async def make_frontier(request: Request, owner: Owner, shared: Shared, key: Key = None) -> Response:
    """Find every plan on the convex hull of the trade-off between the objective and a resource.

    Budgets and limits hold for the exact points that `points` asks for; supported plans cannot keep them, so they are
    allowed with `points` only.
    """  # noqa: DOC201 - the docstring is the description in the OpenAPI document
    return await _answer("frontier", request, owner, shared, key)


@router.post(
    "/explanations",
    tags=[_PLANNING],
    summary="Say why a plan is as it is",
    responses=_ERRORS,
    response_model=Explanation,
    openapi_extra=body_of(ExplanationRequest, EXPLANATIONS),
)
async def make_explanation(request: Request, owner: Owner, shared: Shared, key: Key = None) -> Response:
    """Solve, and give the next changes, baselines, what each format of a layer would have cost, and how sure it is.

    For requests that no plan can meet, `conflict` says what cannot all be kept and how little would be enough.
    """  # noqa: DOC201
    return await _answer("explanation", request, owner, shared, key)


@router.post(
    "/comparisons",
    tags=[_PLANNING],
    summary="Lay two plans or two tables side by side",
    responses=_ERRORS,
    response_model=ComparisonAnswer,
    openapi_extra=body_of(ComparisonRequest, COMPARISONS),
)
async def make_comparison(request: Request, owner: Owner, shared: Shared, key: Key = None) -> Response:
    """Compare two assignments, or the plans that two objectives lead to under the same budgets.

    Each side's sums over every table of the profile, the layers that differ, and how far two cost tables rank alike.
    """  # noqa: DOC201
    return await _answer("comparison", request, owner, shared, key)


@router.get("/exports", tags=[_TOOLS], summary="List the tools that plans can be exported for")
def list_exports() -> ExportTargets:
    """What each tool's configuration can express, and what to do with its files."""  # noqa: DOC201
    return export_targets()


@router.post(
    "/exports",
    tags=[_TOOLS],
    summary="Write a plan in a tool's own format",
    responses=_ERRORS,
    response_model=ExportAnswer,
    openapi_extra=body_of(ExportRequest, EXPORTS),
)
async def make_export(request: Request, owner: Owner, shared: Shared, key: Key = None) -> Response:
    """Render the files of a tool's configuration, and report what they cannot say.

    A format that the tool cannot express becomes the nearest one it can, or the layer is left as it is; each such layer
    is among the `losses`, which `strict` makes an error.
    """  # noqa: DOC201
    return await _answer("export", request, owner, shared, key)


@router.get("/lint", tags=[_TOOLS], summary="List the runtimes that plans can be checked against")
def list_runtimes() -> LintRuntimes:
    """Whose configurations each runtime loads, and which release the rules follow."""  # noqa: DOC201
    return lint_runtimes()


@router.post(
    "/lint",
    tags=[_TOOLS],
    summary="Say whether a runtime would load a plan",
    responses=_ERRORS,
    response_model=LintAnswer,
    openapi_extra=body_of(LintRequest, LINTS),
)
async def make_lint(request: Request, owner: Owner, shared: Shared, key: Key = None) -> Response:
    """Check a plan, or a configuration that any tool wrote, against a runtime.

    `model` brings the names, shapes and ties of the layers; what is not known is not checked.
    """  # noqa: DOC201
    return await _answer("lint", request, owner, shared, key)


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
